"""A model of the handle table that shares nothing with it: capabilities as a dictionary of names.

A name is what a program holds; it never comes back once it is gone.  Moving a capability gives it another name.  The
model says what must come of each operation, and nothing about places, generations or lists of children.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import attrs

from llmos_kernel.api import Right

OK, REVOKED, DENIED, INVALID = "ok", "revoked", "denied", "invalid"


@attrs.define
class Capability:
    """Authority over an object, in somebody's hands."""

    object: int
    rights: Right
    owner: int | None
    """None: in a message."""
    parent: int | None
    """The capability that it was derived from."""


class HandleModel:
    """What handles mean."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.capabilities: dict[int, Capability] = {}
        self.names: dict[int, int] = {}
        """Valid names, and which capability each is for."""
        self.disposed: list[int] = []
        """Objects whose last capability is gone, in that order."""

    def open(self, owner: int, object: int, rights: Right, parent: int | None = None) -> int:
        """Make a capability and return its name."""
        capability = next(self._numbers)
        self.capabilities[capability] = Capability(object, rights, owner, parent)
        return self._name(capability)

    def use(self, who: int, name: int, need: Right) -> str:
        """Say whether *who* may use *name* for any of *need*."""
        if name not in self.names:
            return REVOKED
        capability = self.capabilities[self.names[name]]
        if capability.owner != who:
            return DENIED
        return OK if not need or capability.rights & need else DENIED

    def derive(self, who: int, name: int, rights: Right) -> tuple[str, int | None]:
        """Make a child with *rights* and return its name, or say why not."""
        outcome = self.use(who, name, Right.DUPLICATE)
        if outcome != OK:
            return outcome, None
        capability = self.capabilities[self.names[name]]
        allowed = capability.rights
        if Right.SEND in allowed:
            allowed |= Right.SEND_ONCE
        if not rights or rights & ~allowed:
            return INVALID, None
        return OK, self.open(who, capability.object, rights, self.names[name])

    def move(self, name: int, to: int | None) -> int:
        """Give a valid name to somebody, or to nobody for now; return the new name."""
        capability = self.names.pop(name)
        self.capabilities[capability].owner = to
        return self._name(capability)

    def revoke(self, who: int, name: int) -> str:
        """Close a capability and all that were derived from it."""
        outcome = self.use(who, name, Right(0))
        if outcome == OK:
            self._end(self.names[name])
        return outcome

    def holders(self, object: int, rights: Right) -> int:
        """Count the capabilities over *object* with any of *rights*."""
        return self._count(lambda one: one.object == object and bool(one.rights & rights))

    def _name(self, capability: int) -> int:
        name = next(self._numbers)
        self.names[name] = capability
        return name

    def _end(self, ended: int) -> None:
        capability = self.capabilities.pop(ended)
        for name in [name for name, target in self.names.items() if target == ended]:
            del self.names[name]
        for child in [number for number, one in self.capabilities.items() if one.parent == ended]:
            self._end(child)
        if capability.parent is None:
            self.disposed.append(capability.object)

    def _count(self, predicate: Callable[[Capability], bool]) -> int:
        return sum(map(predicate, self.capabilities.values()))
