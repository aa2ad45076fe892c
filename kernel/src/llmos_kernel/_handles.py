"""The handle table: who may do what with which resource.

A handle is an index and a generation.  The table holds what counts: the resource, the rights, the owner and the handle
that it was derived from.  Every method is called under the core's lock, and every check is O(1).

Invariants, which tests check after every operation: an entry's rights are a subset of its parent's; a live entry's
parent is live; an entry knows exactly its live children; a free place has a generation that no handle in the world
carries.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from llmos_kernel._events import Events
from llmos_kernel.api import Right, check_type
from llmos_kernel.errors import BudgetExceeded, HandleRevoked, InvalidArgument, PermissionDenied

if TYPE_CHECKING:
    from llmos_kernel._core import Seat


class Resource:
    """Something that handles refer to, charged to the process that holds its root handle."""

    __slots__ = ("seat",)
    kind = "resource"
    charge = ("", 0)
    """What it costs: a field of `Budget`, and how much of it."""
    seat: Seat
    """Who is charged."""

    def gained(self, rights: int) -> None:
        """A handle with *rights* was opened."""

    def lost(self, rights: int) -> None:
        """A handle with *rights* was closed, or (without any) passed on: who waited with it has to look again."""

    def disposed(self) -> None:
        """The root handle was closed; no handle is left."""

    def bill(self, seat: Seat) -> None:
        """Move the charge to *seat*; raise `BudgetExceeded`, with nothing moved, if it has no room."""
        what, amount = self.charge
        if seat is not self.seat and amount:
            if seat.account.take(what, amount) is not None:
                message = f"the receiving process has no room for {amount} {what}"
                raise BudgetExceeded(message, resource=what, asked=amount, limit=getattr(seat.account.budget, what))
            self.seat.account.give(what, amount)
        self.seat = seat


class Entry:
    """One place of the table."""

    __slots__ = ("children", "generation", "index", "parent", "resource", "rights", "seat")

    def __init__(self, index: int) -> None:
        self.index = index
        self.generation = self.rights = 0
        self.resource: Any = None
        self.seat: Seat | None = None
        """The owner; None while the handle travels in a message."""
        self.parent: Entry | None = None
        self.children: set[Entry] | None = None


class Table:
    """All handles of a kernel."""

    __slots__ = ("_entries", "_events", "_free")

    def __init__(self, events: Events) -> None:
        self._events = events
        self._entries: list[Entry] = []
        self._free: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries) - len(self._free)

    def open(self, resource: Any, rights: int, seat: Seat | None, parent: Entry | None = None) -> Entry:  # noqa: ANN401
        """Make a handle to *resource*; a root one unless *parent* is given."""
        if self._free:
            entry = self._free.pop()
        else:
            entry = Entry(len(self._entries))
            self._entries.append(entry)
        entry.resource, entry.rights, entry.seat, entry.parent = resource, int(rights), seat, parent
        if parent is not None:
            parent.children = parent.children or set()
            parent.children.add(entry)
        resource.gained(rights)
        self._tell("opened", entry)
        return entry

    def check(self, seat: Seat, handle: Any, need: int) -> Entry:  # noqa: ANN401
        """Return the entry behind *handle* if *seat* owns it and it has one of the rights in *need*."""
        check_type("handle", handle, Handle, "a handle")
        entry = self.named(handle)
        if entry is None:
            raise HandleRevoked("the handle was closed, revoked or transferred")
        if entry.seat is not seat or handle._seat is not seat:  # noqa: SLF001 - or it is of another kernel
            raise PermissionDenied("the handle belongs to another process", action="use", right="owner")
        if need and not entry.rights & need:
            want = Right(need)
            raise PermissionDenied(f"the handle lacks the right {want!r}", action="use", right=want.name)
        return entry

    def at(self, index: int, generation: int) -> Entry | None:
        """Return the live entry of that index and generation, if there is one."""
        entry = self._entries[index] if 0 <= index < len(self._entries) else None
        return entry if entry and entry.generation == generation and entry.resource is not None else None

    def named(self, handle: Handle) -> Entry | None:
        """Return the live entry that *handle* names, whoever owns it."""
        return self.at(handle._index, handle._generation)  # noqa: SLF001

    def derive(self, entry: Entry, rights: int) -> Entry:
        """Make a child of *entry* with *rights*, which must not exceed its own.  SEND includes SEND_ONCE."""
        if not entry.rights & Right.DUPLICATE:
            raise PermissionDenied("the handle lacks the right to be duplicated", action="grant", right="DUPLICATE")
        have = entry.rights | (Right.SEND_ONCE if entry.rights & Right.SEND else 0)
        if rights & ~have or not rights:
            expected = f"some of {Right(entry.rights)!r}"
            message = f"rights must be {expected}, not {Right(rights)!r}"
            raise InvalidArgument(message, field="rights", value=rights, expected=expected)
        return self.open(entry.resource, rights, entry.seat, entry)

    def move(self, entry: Entry, seat: Seat | None) -> None:
        """Give *entry* to *seat*, or to nobody for now; the handle that named it until now is stale."""
        entry.generation += 1
        entry.seat = seat
        entry.resource.lost(0)
        self._tell("moved", entry)

    def revoke(self, entry: Entry) -> None:
        """Close *entry* and everything derived from it."""
        root = entry.parent is None
        if entry.parent is not None and entry.parent.children is not None:
            entry.parent.children.discard(entry)
        doomed, resource = [entry], entry.resource
        for one in doomed:  # grows while it is walked: children after their parents
            doomed.extend(one.children or ())
        for one in doomed:
            self._tell("closed", one)
            resource.lost(one.rights)
            one.generation += 1
            one.resource = one.seat = one.parent = one.children = None
            one.rights = 0
            self._free.append(one)
        if root:
            resource.disposed()

    def _tell(self, what: str, entry: Entry) -> None:
        if self._events.enabled:
            process = entry.seat.principal.process if entry.seat else None
            kind, rights = entry.resource.kind, entry.rights
            self._events.emit(f"handle.{what}", kind=kind, index=entry.index, rights=rights, process=process)

    def owned(self, seat: Seat) -> Iterator[Entry]:
        """Yield the live entries of *seat*, and those in transit that it pays for; they may be revoked meanwhile."""
        for entry in list(self._entries):
            if entry.resource is not None:
                owner = entry.resource.seat if entry.seat is None and entry.parent is None else entry.seat
                if owner is seat:
                    yield entry


class Handle:
    """A process's authority over one resource.  A context manager; closing it gives the resource back."""

    __slots__ = ("_generation", "_index", "_seat")

    def __init__(self, seat: Seat, entry: Entry) -> None:
        self._seat, self._index, self._generation = seat, entry.index, entry.generation

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._index}.{self._generation}>"

    @property
    def rights(self) -> Right:
        """What it may be used for; raises `HandleRevoked` when it is no longer valid."""
        with self._seat.core.lock:
            return Right(self._seat.core.table.check(self._seat, self, 0).rights)

    @property
    def kind(self) -> str:
        """What it refers to: ``port``, ``memory``, ``model``, ``context`` or ``task``."""
        with self._seat.core.lock:
            return str(self._seat.core.table.check(self._seat, self, 0).resource.kind)

    def narrow(self, rights: Right) -> Handle:
        """Return a child with only *rights*; it is revoked with this one.  Needs the right DUPLICATE."""
        with self._seat.core.lock:
            entry = self._seat.core.table.check(self._seat, self, 0)
            return handle_of(self._seat, self._seat.core.table.derive(entry, rights))

    def duplicate(self) -> Handle:
        """Return a child with the same rights."""
        return self.narrow(self.rights)

    def close(self) -> None:
        """Give the resource back and revoke what was derived from it.  Closing twice is not an error."""
        self._seat.core.close_handle(self._seat, self)


class ReplyHandle(Handle):
    """What ``alloc(Reply())`` returns: receive from it, transfer its `sender`."""

    __slots__ = ("sender",)
    sender: Handle
    """The single-use right to send."""


class TaskHandle(Handle):
    """A scheduled task: ``recv`` its events.

    Closing it cancels the task; dropping it without closing lets the task run to its end unread.
    """

    __slots__ = ("id", "model")

    def __init__(self, seat: Seat, entry: Entry) -> None:
        super().__init__(seat, entry)
        self.id: int = entry.resource.id
        self.model: str = entry.resource.served.name
        """The name of the model that serves it, also where a router chose."""

    def __del__(self) -> None:
        core = self._seat.core
        core.later(functools.partial(core.dropped, self._index, self._generation))

    def cancel(self) -> None:
        """End the task with `Cancelled` unless it has ended.  Needs the right CANCEL."""
        self._seat.core.cancel_handle(self._seat, self)


class MemoryHandle(Handle):
    """Shared memory: `map` it to read or write."""

    __slots__ = ()

    def map(self, *, write: bool = False) -> Any:  # noqa: ANN401 - a context manager over a memoryview
        """Return a `Mapping` of the memory, whose ``view`` numpy takes without copying.  Needs READ, or WRITE."""
        with self._seat.core.lock:
            entry = self._seat.core.table.check(self._seat, self, Right.WRITE if write else Right.READ)
            return entry.resource.region.map(write=write)

    def descriptor(self) -> int:
        """Return a new file descriptor to read the memory with, for another process of the operating system.

        Pass it on as any descriptor (`socket.send_fds`, ``pass_fds``) and close it; `mmap` maps it.  Needs READ.
        """
        with self._seat.core.lock:
            return int(self._seat.core.table.check(self._seat, self, Right.READ).resource.region.descriptor())


def handle_of(seat: Seat, entry: Entry) -> Handle:
    """Return the public handle to *entry*."""
    kinds: dict[str, type[Handle]] = {"task": TaskHandle, "memory": MemoryHandle}
    return kinds.get(entry.resource.kind, Handle)(seat, entry)
