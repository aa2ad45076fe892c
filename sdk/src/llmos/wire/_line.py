"""The line between a client and a server: frames in both directions, each exactly once and in order.

A connection may break at any byte.  So each side numbers its frames and keeps them until the other side says that it
has them; a new connection begins with both numbers, and goes on from there.  That is what makes it safe to say anything
again: a task is never scheduled twice, and no event is lost or seen twice.  (Go-back-N, as in RFC 9293, section 3.4,
over a connection that itself keeps the order.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from llmos.wire._frames import MAX_FRAME, Ack, Frame, decode, encode
from llmos_kernel.errors import InvalidArgument, PortBroken

FrameT = TypeVar("FrameT", bound=Frame)
_OWED = 32
"""Frames that may be had without saying so."""
_ROOM = 2**22
"""Bytes that may be on their way before `Line.room` waits."""


class Connection(Protocol):
    """Carries frames.  Each method raises `PortBroken` when the other side is gone."""

    async def send(self, frame: bytes) -> None:
        """Send one frame; wait while there is no room for it."""

    async def recv(self) -> bytes:
        """Return the next frame."""

    async def close(self) -> None:
        """End it; more than once is not an error."""


class Line(Generic[FrameT]):
    """One side of the line.  *decoder* reads what the other side sends.  Used within one event loop."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[FrameT]) -> None:
        self._decoder = decoder
        self.seen = 0
        """The frames that were had."""
        self._told = 0
        """Of how many the other side was told."""
        self._kept: deque[bytes] = deque()
        """What the other side may not have: the frames after number `_had`."""
        self._had = self._put = self._sent = 0
        self._nbytes = 0
        self.limit = MAX_FRAME
        """Most bytes of a frame that the other side takes."""
        self._bell, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()

    def put(self, frame: Frame) -> None:
        """Send *frame*, on this connection or the next one; raise `InvalidArgument` for what cannot be sent."""
        frame.n, frame.a = self._put + 1, self.seen
        data = encode(frame)
        if len(data) > self.limit:
            raise InvalidArgument.of("frame", len(data), f"at most {self.limit} bytes")
        self._put += 1
        self._told = self.seen
        self._kept.append(data)
        self._nbytes += len(data)
        if self._nbytes > _ROOM:
            self._room.clear()
        self._bell.set()

    @property
    def unsent(self) -> bool:
        """Whether something was not given to a connection yet."""
        return self._sent < self._put

    async def room(self) -> None:
        """Wait while much is on its way."""
        await self._room.wait()

    def rewind(self, seen: int) -> None:
        """Go on, over a new connection, after the frame *seen* of this side."""
        self._acknowledged(seen)
        self._sent = self._had
        self._bell.set()

    def _acknowledged(self, number: int) -> None:
        if number > self._put:
            raise InvalidArgument.of("a", number, f"a number of frames up to {self._put}")
        while self._had < number:
            self._nbytes -= len(self._kept.popleft())
            self._had += 1
        self._sent = max(self._sent, self._had)
        if self._nbytes <= _ROOM:
            self._room.set()

    async def carry(self, connection: Connection, hear: Callable[[FrameT], object]) -> None:
        """Send what is put and *hear* what comes, until the connection breaks, which raises `PortBroken`.

        Raises `InvalidArgument` for what is no frame of this protocol, and whatever *hear* raises.
        """
        writer = asyncio.ensure_future(self._write(connection))
        try:
            while True:
                frame = decode(await connection.recv(), self._decoder)
                self._acknowledged(frame.a)
                if self._accept(frame.n) and not isinstance(frame, Ack):
                    hear(frame)
                    if self.seen - self._told >= _OWED:
                        self._bell.set()
        finally:
            writer.cancel()
            await asyncio.wait((writer,))

    def _accept(self, number: int) -> bool:
        """Return whether a frame of that *number* is to be heard."""
        if number > self.seen + 1:
            raise InvalidArgument.of("n", number, f"the number {self.seen + 1}")
        is_next = number == self.seen + 1
        self.seen += is_next
        return is_next or not number

    async def _write(self, connection: Connection) -> None:
        try:
            while True:
                await self._bell.wait()
                self._bell.clear()
                while self._sent < self._put:
                    data = self._kept[self._sent - self._had]
                    self._sent += 1
                    await connection.send(data)
                if self.seen - self._told >= _OWED:
                    self._told = self.seen
                    await connection.send(encode(Ack(a=self.seen)))
        except PortBroken:
            await connection.close()  # whoever reads from it hears of it
