"""The WebSocket that remote clients come by."""

from __future__ import annotations

import time

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from llmos_kernel.errors import InvalidArgument, PermissionDenied, PortBroken
from llmos_server.failures import Refusal
from llmos_server.state import State

router = APIRouter()
AGAIN = 1.0
"""Seconds for which a key that was good is believed to be."""


@router.websocket("/v1/llmos/socket")
async def socket(websocket: WebSocket) -> None:
    """Serve one connection of a remote client."""
    state: State = websocket.app.state.llmos
    await websocket.accept()
    await state.sessions.serve(Socket(websocket), websocket.scope.get("llmos.key"))


class Socket:
    """The WebSocket as a `Connection`, which ends when the key that it came with is taken back."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._believed = socket, time.monotonic()

    async def send(self, frame: bytes) -> None:
        """Send one frame; wait while there is no room for it."""
        try:
            await self._socket.send_bytes(frame)
        except (WebSocketDisconnect, RuntimeError) as error:  # a RuntimeError where it was closed here
            raise PortBroken("the connection was lost") from error

    async def recv(self) -> bytes:
        """Return the next frame."""
        try:
            message = await self._socket.receive()
        except RuntimeError as error:  # it was closed here
            raise PortBroken("the connection was lost") from error
        if message["type"] == "websocket.disconnect":
            raise PortBroken("the connection was lost")
        frame = message.get("bytes")
        if not isinstance(frame, bytes):
            raise InvalidArgument.of("frame", "text", "bytes")
        await self._check()
        return frame

    async def _check(self) -> None:
        now = time.monotonic()
        if now - self._believed < AGAIN:
            return
        self._believed = now
        try:
            await self._socket.scope["llmos.holder"]()
        except Refusal as refusal:
            raise PermissionDenied(refusal.message, action="attach", right="key") from refusal

    async def close(self) -> None:
        """End it; more than once is not an error."""
        if WebSocketState.DISCONNECTED in (self._socket.client_state, self._socket.application_state):
            return
        try:
            await self._socket.close()
        except (WebSocketDisconnect, RuntimeError) as error:
            del error  # the other side was quicker
