"""The HTTP server: uvicorn, with an end that lets requests end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from llmos_kernel.errors import ConfigError
from llmos_server.connection import Connection, faults
from llmos_server.options import ServerOptions

QUEUE = 2048
"""Clients that may wait to be accepted; uvicorn has it so for addresses."""
OWNER = 0o177
"""What nobody but the owner of a socket may do with it."""
_log = logging.getLogger("uvicorn.error")


class Socket(WebSocketsSansIOProtocol):
    """One remote client's connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = faults

    async def send(self, message: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Send it.  A refusal that is whole ends the handshake: uvicorn would call that the application's error."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def shutdown(self) -> None:
        """End it; uvicorn would raise for one that is ending, and so end nothing after it."""
        if self.handshake_complete and self.conn.state is not State.OPEN:
            self.transport.close()
        else:
            super().shutdown()


class Guests(Protocol):
    """Clients that stay connected."""

    @property
    def busy(self) -> bool:
        """Whether one of them waits for something."""

    def drain(self) -> None:
        """Let them begin nothing new."""

    async def close(self) -> None:
        """Tell them that it is over, and end their connections."""


class Server(uvicorn.Server):
    """The server of one application.  When it is told to stop it answers 503 to what is new until what runs has ended.

    Told so a second time, it ends at once.
    """

    def __init__(self, config: uvicorn.Config, drain: float) -> None:
        super().__init__(config)
        self._drain = drain
        self.guests: Guests | None = None
        """The remote clients, who stay connected: whether they wait for something, and who tells them of the end."""
        self._until: float | None = None

    @property
    def leaving(self) -> bool:
        """Whether it is about to end."""
        return self.should_exit or self._until is not None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; the second time, end."""
        if self._until is None:
            self._until = time.monotonic() + self._drain
            if sig == signal.SIGINT:  # who is at a terminal is told so by the exit status; for SIGTERM it is 0
                self._captured_signals.append(sig)
            if self._busy():
                _log.warning("Waiting at most %g seconds for requests to end", self._drain)
        else:
            self._captured_signals.append(sig)
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to end; then the guests have been told."""
        over = await self._is_over(counter)
        if over and self.guests is not None:
            await self.guests.close()
        return over

    async def _is_over(self, counter: int) -> bool:
        if await super().on_tick(counter):
            return True
        if self._until is None:
            return False
        left = self._until - time.monotonic()
        self.config.timeout_graceful_shutdown = max(0, round(left))
        return not self._busy() or left <= 0

    def _busy(self) -> bool:
        """Return whether a request is answered, or a remote client waits for something; it may begin nothing new."""
        if self.guests is not None:
            self.guests.drain()
            if self.guests.busy:
                return True
        return any(isinstance(one, Connection) and one.busy for one in list(self.server_state.connections))


def make_server(app: Any, options: ServerOptions, guests: Guests | None = None) -> Server:  # noqa: ANN401 - any ASGI
    """Return the HTTP server for *app*, which takes leave of its *guests*."""
    protocol: Callable[..., Any] = partial(Connection, options=options)
    config = uvicorn.Config(
        app, host=options.host, port=options.port, lifespan="off", log_level="info", access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=round(options.drain),
        http=protocol,  # type: ignore[arg-type] # what makes one, as uvicorn uses it
        ws=Socket, ws_max_size=options.body, ws_per_message_deflate=False,
    )  # fmt: skip
    faults.setLevel(logging.ERROR)  # not before: the configuration takes the levels of its loggers' children away
    server = Server(config, options.drain)
    server.guests = guests
    return server


@contextmanager
def listening(options: ServerOptions) -> Iterator[list[socket.socket] | None]:
    """Yield the Unix socket to listen on, if that is wanted; only its owner can connect to it.  It is removed after.

    Raises `ConfigError` where the path is taken.
    """
    if not options.socket:
        yield None
        return
    path = Path(options.socket).expanduser()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        _make_room(path)
        before = os.umask(OWNER)
        try:
            opened.bind(str(path))
            opened.listen(QUEUE)
        except OSError as error:
            raise _taken(path, str(error.strerror)) from None
        finally:
            os.umask(before)
        try:
            yield [opened]
        finally:
            path.unlink(missing_ok=True)


def _make_room(path: Path) -> None:
    """Remove a socket that a server left that is no more."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return  # what is no socket stays, and binding says so
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        try:
            knock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise _taken(path, str(error.strerror)) from None
    raise _taken(path, "another server listens there")


def _taken(path: Path, why: str) -> ConfigError:
    message = f"cannot listen on {path}: {why}"
    return ConfigError(message, field="socket", value=str(path), expected="a path where nothing is")
