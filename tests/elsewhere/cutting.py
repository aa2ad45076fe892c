"""Connections that break when they are told to."""

from __future__ import annotations

import attrs
import pytest

from llmos._dialing import Address, Socket
from llmos_kernel.errors import PortBroken


@attrs.define
class Cuts:
    """Breaks connections without a goodbye: each after so many *frames*, or the first *times* of them."""

    frames: int = 2**30
    times: int = 2**30
    made: int = 0
    """Connections that were made."""
    carried: int = 0
    """Frames that the latest of them carried, in both directions."""
    sockets: list[Socket] = attrs.field(factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Cuts:
        """Let clients connect through this."""
        dial, cuts = Address.dial, self

        async def through(self: Address, token: str | None) -> _Breaking:
            socket = await dial(self, token)
            cuts.made += 1
            cuts.carried = 0
            cuts.sockets.append(socket)
            return _Breaking(socket, cuts)

        monkeypatch.setattr(Address, "dial", through)
        return self

    def count(self, socket: Socket) -> None:
        """Count a frame that is about to be carried; break the connection instead if that is one too many."""
        if self.carried >= self.frames and self.made <= self.times:
            self.cut(socket)
            raise PortBroken("cut")
        self.carried += 1

    @staticmethod
    def cut(socket: Socket) -> None:
        """Break a connection as a cable does: neither side is told why."""
        socket._socket.transport.abort()


class _Breaking:
    """A connection that `Cuts` counts."""

    def __init__(self, socket: Socket, cuts: Cuts) -> None:
        self._socket, self._cuts = socket, cuts

    async def send(self, frame: bytes) -> None:
        self._cuts.count(self._socket)
        await self._socket.send(frame)

    async def recv(self) -> bytes:
        frame = await self._socket.recv()
        self._cuts.count(self._socket)
        return frame

    async def close(self) -> None:
        await self._socket.close()
