"""Bounded ports.  Closed by its owner and broken by its peer are different errors."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from llmos_kernel._handles import Resource
from llmos_kernel._waiting import WaitList
from llmos_kernel.api import Message, Right
from llmos_kernel.errors import PortBroken

if TYPE_CHECKING:
    from llmos_kernel._core import Seat

_SENDING, _RECV = int(Right.SEND | Right.SEND_ONCE), int(Right.RECV)  # plain integers are quicker


class PortResource(Resource):
    """A bounded queue of messages with waiters on both sides."""

    __slots__ = ("capacity", "items", "readers", "receivers", "room", "senders")
    kind = "port"
    charge = ("ports", 1)

    def __init__(self, seat: Seat, capacity: int) -> None:
        self.seat, self.capacity = seat, capacity
        self.items: deque[Any] = deque()  # messages; of a task, events
        self.readers, self.room = WaitList(), WaitList()
        self.senders = self.receivers = 0

    def gained(self, rights: int) -> None:
        self.senders += bool(rights & _SENDING)
        self.receivers += bool(rights & _RECV)

    def lost(self, rights: int) -> None:
        self.senders -= bool(rights & _SENDING)
        self.receivers -= bool(rights & _RECV)
        self.readers.wake_all()
        self.room.wake_all()

    def disposed(self) -> None:
        """Give the place back and close the handles in messages that nobody will read."""
        self.seat.account.give(*self.charge)
        table = self.seat.core.table
        while self.items:
            for entry in filter(None, map(table.named, self.items.popleft().handles)):
                table.revoke(entry)
        self.lost(0)

    def pop(self) -> Message | WaitList:
        """Take the next message, or return where to wait.  Raises `PortBroken` if none can come."""
        if self.items:
            self.room.wake()
            return self.items.popleft()  # type: ignore[no-any-return]
        if not self.senders:
            raise PortBroken("nobody is left who could send to this port")
        return self.readers

    def ready(self) -> WaitList | None:
        """Return where to wait for room, or None if there is some.  Raises `PortBroken` if nobody can read."""
        if not self.receivers:
            raise PortBroken("nobody is left who could receive from this port")
        return self.room if len(self.items) >= self.capacity else None

    def put(self, message: Any) -> None:  # noqa: ANN401
        """Queue *message*; there is room."""
        self.items.append(message)
        self.readers.wake()
