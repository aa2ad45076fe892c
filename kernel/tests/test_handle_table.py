"""The handle table does what the model says, whatever is done to it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kernel.tests.table_integrity import check_integrity
from kernel.tests.handle_model import DENIED, INVALID, OK, REVOKED, HandleModel
from llmos_kernel import Credentials, Handle, Kernel, Right
from llmos_kernel._core import Seat
from llmos_kernel._handles import Entry, Resource, Table
from llmos_kernel.errors import HandleRevoked, InvalidArgument, KernelBug, PermissionDenied

SENDING = Right.SEND | Right.SEND_ONCE
CORE = Kernel()._core
STRANGER = Seat(Kernel()._core, 0, Credentials())
RIGHTS = (Right(0), *Right)


class Thing(Resource):
    """An object that counts who can send, and remembers that it ended."""

    def __init__(self, number: int, seat: Seat) -> None:
        self.number, self.seat = number, seat
        self.senders = 0
        self.disposals = 0

    def gained(self, rights: int) -> None:
        """Count a sender."""
        self.senders += bool(rights & SENDING)

    def lost(self, rights: int) -> None:
        """Count it no more."""
        self.senders -= bool(rights & SENDING)

    def disposed(self) -> None:
        """Remember it."""
        self.disposals += 1


class Pair:
    """The table and the model, which see the same operations; any difference is an assertion error."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.table, self.model, self.seats = Table(CORE.events), HandleModel(), seats
        self.things: list[Thing] = []
        self.handles: dict[int, Handle] = {}
        """Every name that was ever given, by the model's name."""

    def open(self, who: int, rights: Right) -> int:
        """Make an object of *who*."""
        thing = Thing(len(self.things), self.seats[who])
        self.things.append(thing)
        return self._named(self.model.open(who, thing.number, rights), self.table.open(thing, rights, self.seats[who]))

    def use(self, who: int, name: int, need: Right) -> None:
        """Check a right."""
        outcome = self._outcome(lambda: self._check(who, name, need))

        assert self.model.use(who, name, need) == outcome

    def derive(self, who: int, name: int, rights: Right) -> int | None:
        """Make a child."""
        made: list[Entry] = []
        outcome = self._outcome(lambda: made.append(self.table.derive(self._check(who, name, Right(0)), rights)))
        expected, child = self.model.derive(who, name, rights)

        assert expected == outcome
        return None if child is None else self._named(child, made[0])

    def move(self, who: int, name: int, to: int | None) -> int | None:
        """Put a handle into a message, and take it out at once if somebody takes it."""
        if self.model.use(who, name, Right.TRANSFER) != OK:
            self.use(who, name, Right.TRANSFER)
            return None
        entry = self._check(who, name, Right.TRANSFER)
        self.table.move(entry, None)
        name = self.model.move(name, None)
        if to is not None:
            self.table.move(entry, self.seats[to])
            name = self.model.move(name, to)
        return self._named(name, entry)

    def revoke(self, who: int, name: int) -> None:
        """Close a handle."""
        outcome = self._outcome(lambda: self.table.revoke(self._check(who, name, Right(0))))

        assert self.model.revoke(who, name) == outcome

    def compare(self) -> None:
        """Compare everything that can be asked."""
        check_integrity(self.table)
        for name in list(self.handles)[-200:]:
            for who in range(len(self.seats)):
                self.use(who, name, Right(0))
        alive = {one.object for one in self.model.capabilities.values()}
        for thing in self.things:
            assert self.model.holders(thing.number, SENDING) == thing.senders
            assert (thing.number not in alive) == bool(thing.disposals)
            assert thing.disposals <= 1
        assert len(self.model.capabilities) == len(self.table)

    def _check(self, who: int, name: int, need: Right) -> Entry:
        return self.table.check(self.seats[who], self.handles[name], need)

    def _named(self, name: int, entry: Entry) -> int:
        owner = self.model.capabilities[self.model.names[name]].owner
        self.handles[name] = Handle(self.seats[owner or 0], entry)
        return name

    @staticmethod
    def _outcome(operation: Callable[[], object]) -> str:
        try:
            operation()
        except HandleRevoked:
            return REVOKED
        except PermissionDenied:
            return DENIED
        except InvalidArgument:
            return INVALID
        return OK


def seats(count: int) -> list[Seat]:
    """Return principals."""
    return [Seat(CORE, number + 1, Credentials(name=f"p{number}")) for number in range(count)]


def some_rights(rng: random.Random, most: int) -> Right:
    """Return rights that are more often many than few."""
    return Right(sum({rng.choice(tuple(Right)) for _ in range(rng.randint(0, most))}))


def forged(rng: random.Random, pair: Pair, who: int) -> Handle:
    """Return a handle that nobody was given: a future generation, a place beyond the table, or another kernel's."""
    entries = pair.table._entries
    entry = Entry(rng.randrange(-3, len(entries) + 3))
    known = entries[entry.index].generation if 0 <= entry.index < len(entries) else 0
    entry.generation = known + rng.choice((1, 2, 1000))
    if rng.random() < 0.3:
        entry.index, entry.generation = rng.randrange(0, len(entries) + 1), known
        return Handle(STRANGER, entry)
    return Handle(pair.seats[who], entry)


def act(rng: random.Random, pair: Pair, names: list[int]) -> int | None:
    """Do one random operation and return the name that it made."""
    who = rng.randrange(len(pair.seats))
    draw = rng.random()
    if draw < 0.1 or not names:
        return pair.open(who, some_rights(rng, 12) | (Right.DUPLICATE if rng.random() < 0.8 else 0))
    name = rng.choice(names)
    if rng.random() < 0.7 and name in pair.model.names:  # mostly by whoever may
        who = pair.model.capabilities[pair.model.names[name]].owner or 0
    if draw < 0.4:
        return pair.derive(who, name, some_rights(rng, 9))
    if draw < 0.6:
        return pair.move(who, name, rng.choice((None, *range(len(pair.seats)))))
    if draw < 0.7:
        pair.revoke(who, name)
        return None
    if draw < 0.75:
        with pytest.raises((HandleRevoked, PermissionDenied)):
            pair.table.check(pair.seats[who], forged(rng, pair, who), 0)
        return None
    pair.use(who, name, rng.choice(RIGHTS))
    return None


@pytest.mark.parametrize("seed", range(100))
def test_random_operations(seed: int) -> None:
    """2,000 random operations by three principals come out as the model says (200,000 in all)."""
    rng = random.Random(seed)
    pair = Pair(seats(3))
    names: list[int] = []
    for number in range(2000):
        made = act(rng, pair, names)
        if made is not None:
            names.append(made)
            del names[:-60]
        if number % 250 == 249:
            pair.compare()
    assert pair.model.disposed


def test_every_short_sequence() -> None:
    """Every sequence of four operations by two principals on two objects comes out as the model says."""
    two = seats(2)
    all_rights = Right.SEND | Right.DUPLICATE | Right.TRANSFER
    operations = list(itertools.product(("derive", "narrow", "give", "revoke"), range(2), range(2)))
    first = [operation for operation in operations if operation[2] == 0]  # the two objects are alike
    for sequence in itertools.product(first, operations, operations, operations):
        pair = Pair(two)
        latest = [pair.open(0, all_rights), pair.open(0, all_rights)]
        for what, who, object in sequence:
            made: Any = None
            if what == "derive":
                made = pair.derive(who, latest[object], all_rights)
            elif what == "narrow":
                made = pair.derive(who, latest[object], Right.SEND_ONCE)
            elif what == "give":
                made = pair.move(who, latest[object], 1 - who)
            else:
                pair.revoke(who, latest[object])
            latest[object] = latest[object] if made is None else made
        pair.compare()


def test_relabelled_handle() -> None:
    """Another process's handle stays the other's, even when its seat is overwritten."""
    pair = Pair(seats(2))
    name = pair.open(0, Right.SEND)
    entry = pair.table.check(pair.seats[0], pair.handles[name], 0)

    with pytest.raises(PermissionDenied, match="another process"):
        pair.table.check(pair.seats[1], Handle(pair.seats[1], entry), 0)


def test_no_handle() -> None:
    """What is no handle at all is an invalid argument."""
    with pytest.raises(InvalidArgument, match="a handle"):
        Table(CORE.events).check(seats(1)[0], "handle", 0)


def damage_free(table: Table, entry: Entry) -> None:
    """Free a place that is taken."""
    table._free.append(entry)


def damage_parent(table: Table, entry: Entry) -> None:
    """Let a parent forget its child."""
    (entry.parent or entry).children = None


def damage_rights(table: Table, entry: Entry) -> None:
    """Widen a child."""
    entry.rights |= Right.RECV


@pytest.mark.parametrize(
    ("damage", "message"),
    [(damage_free, "both free and taken"), (damage_parent, "outlived"), (damage_rights, "more rights")],
)
def test_integrity(damage: Callable[[Table, Entry], None], message: str) -> None:
    """check_integrity names each invariant that does not hold."""
    seat = seats(1)[0]
    table = Table(CORE.events)
    root = table.open(Thing(0, seat), Right.SEND | Right.DUPLICATE, seat)
    child = table.derive(root, Right.SEND)
    damage(table, child)

    with pytest.raises(KernelBug, match=message):
        check_integrity(table)
