"""From an address to connections: a WebSocket over TCP, TLS or a Unix socket."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import websockets.asyncio.client as ws
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from llmos.wire import MAX_FRAME
from llmos_kernel.errors import (
    InvalidArgument, KernelError, KernelStopped, Overloaded, PermissionDenied, PluginMissing, PortBroken,
)  # fmt: skip


PATH = "/v1/llmos/socket"
"""Where servers have it."""
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_LARGEST = 4 * MAX_FRAME
"""Most bytes of a frame that is taken from a server."""


class Socket:
    """A WebSocket as a `Connection`."""

    def __init__(self, socket: ws.ClientConnection, name: str) -> None:
        self._socket, self._name = socket, name

    async def send(self, frame: bytes) -> None:
        """Send one frame; wait while there is no room for it."""
        try:
            await self._socket.send(frame)
        except ConnectionClosed as error:
            raise self._broken(error) from error

    async def recv(self) -> bytes:
        """Return the next frame."""
        try:
            frame = await self._socket.recv()
        except ConnectionClosed as error:
            raise self._broken(error) from error
        if isinstance(frame, str):
            raise InvalidArgument.of("frame", "text", "bytes")
        return frame

    async def close(self) -> None:
        """End it; more than once is not an error."""
        await self._socket.close()

    def _broken(self, error: ConnectionClosed) -> PortBroken:
        return PortBroken(f"the connection to {self._name} was lost: {error}", address=self._name)


@attrs.frozen
class Address:
    """Where a server is: ``http://host:port``, ``https://host:port`` or ``unix:/path/of/the/socket``."""

    text: str

    def __attrs_post_init__(self) -> None:
        self._where()

    def _where(self) -> tuple[str, str]:
        """Return the WebSocket's address, and the path of the Unix socket if it is one."""
        expected = "http://host:port, https://host:port or unix:/path"
        try:
            parts = urlsplit(self.text)
            _ = parts.port
        except (ValueError, AttributeError) as error:
            raise InvalidArgument.of("address", self.text, expected) from error
        if parts.username or parts.password or parts.query or parts.fragment:
            message = f"address must be {expected}, and nothing more: a key is given as token="
            raise InvalidArgument(message, field="address", value=parts.hostname or "", expected=expected)
        path = unquote(parts.netloc + parts.path)
        if parts.scheme in ("unix", "http+unix") and path.startswith("/"):
            return f"ws://localhost{PATH}", path
        if parts.scheme in _SCHEMES and parts.hostname:
            return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}{PATH}", ""
        raise InvalidArgument.of("address", self.text, expected)

    async def dial(self, token: str | None) -> Socket:
        """Connect, with *token* as the key."""
        url, path = self._where()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        options: dict[str, Any] = {
            "additional_headers": headers, "compression": None, "max_size": _LARGEST, "proxy": None, "close_timeout": 1,
        }  # fmt: skip
        try:
            if path:
                return Socket(await ws.unix_connect(path, url, **options), self.text)
            return Socket(await ws.connect(url, **options), self.text)
        except InvalidStatus as error:
            raise self._refused(error) from error
        except (InvalidHandshake, OSError, EOFError) as error:
            message = f"nobody answers at {self.text}: {type(error).__name__}: {error}"
            raise PortBroken(message, address=self.text) from error

    def _refused(self, error: InvalidStatus) -> KernelError:
        status = error.response.status_code
        said = f"{self.text} answered {status}"
        if status in (401, 403):
            right = "key" if status == 401 else "origin"
            why = "the key is missing, wrong, expired or revoked" if right == "key" else "it serves its machine alone"
            return PermissionDenied(f"{said}: {why}", action="attach", right=right)
        if status == 404:
            return PluginMissing(f"{said}: it is no server of llmos, or an old one", plugin="server")
        if status == 429:
            return Overloaded(f"{said}: it has too much to do", retry_after=1.0)
        if status == 503:
            return KernelStopped(f"{said}: it is stopping", state="draining")
        return PortBroken(said, address=self.text)
