"""What a model's tasks run on, and what is tried next where one fails before anything was read of it.

Fallbacks live here and not in the kernel, because a task ends once: what is tried next is another task, of the same
caller, and only the caller knows whether something of the first one has been read.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from llmos_kernel.api import Auto as Auto  # noqa: PLC0414 - `llmos.Auto`
from llmos_kernel.errors import KernelError, KernelStopped, PluginError, ResourceError

if TYPE_CHECKING:
    from llmos._elastic import Fleet
    from llmos._requests import Request

AUTO = "auto"
"""The name that stands for any model: the kernel's router chooses one for each task."""
BEGINNING = 512
"""Letters of what a model is told that say with which other tasks it shares a prefix."""


@attrs.frozen
class Target:
    """One model that a task may run on, or what a router is asked to choose by."""

    name: str
    """The model's, or what stands for it until it is known."""
    what: Any
    """A handle, a model's name, or `Auto`."""
    fleet: Fleet | None = None
    """Who knows of replicas."""

    def aimed(self, input: object, avoid: Sequence[str] = ()) -> Any:  # noqa: ANN401 - what a task's target may be
        """Return the target of a task with that *input*; a router is told what it shares, and what to *avoid*."""
        want = self._wanted()
        if not isinstance(want, Auto):
            return want
        word = want.affinity or affinity(input)
        return attrs.evolve(want, affinity=word, avoid=(*want.avoid, *avoid))

    def _wanted(self) -> Any:  # noqa: ANN401
        """Return what it is, or its replicas that share the tasks; those that rest get none unless they are named."""
        if self.fleet is None:
            return self.what
        if isinstance(self.what, Auto):
            resting = tuple(name for name in self.fleet.resting if name not in self.what.models)
            return attrs.evolve(self.what, avoid=(*self.what.avoid, *resting))
        shares = self.fleet.shares.get(self.name)
        return self.what if shares is None else Auto(models=shares)


def affinity(input: object) -> str:
    """Return a word that tasks share which begin with the same text; the turns of a conversation do.

    Of a conversation the beginning is what the model was told first and what the user said first.
    """
    if isinstance(input, str):
        beginning = input
    else:
        messages = [one for one in input if isinstance(one, Mapping)] if isinstance(input, Sequence) else []
        users = [number for number, one in enumerate(messages, 1) if one.get("role") == "user"]
        beginning = "\0".join(str(one.get("content", "")) for one in messages[: users[0] if users else 1])
    cut = beginning[:BEGINNING].encode("utf-8", "surrogatepass")
    return hashlib.blake2b(cut, digest_size=8).hexdigest() if cut else ""


class Tries:
    """The way of one request over its targets: each at most once, all of them within its deadline and timeout."""

    def __init__(self, request: Request, clock: Callable[[], float] = time.monotonic) -> None:
        self.request = request
        """What is tried now."""
        self.name = request.targets[0].name if request.targets else ""
        """The model that is tried now; ``auto`` where it is not known."""
        self._rest = request.targets[1:]
        self._failed: list[tuple[str, KernelError]] = []
        self._clock, self._begun, self._limits = clock, clock(), (request.timeout, request.task.deadline)

    def again(self, error: KernelError) -> bool:
        """Note that the try failed with *error*; return whether there is another one, which is `request` then."""
        mends = isinstance(error, ResourceError | PluginError) and not isinstance(error, KernelStopped)
        if self.name == AUTO:
            self.name = str(error.fields.get("model", AUTO))
        self._failed.append((self.name, error))
        tried = [name for name, _ in self._failed]
        while mends and self._rest and AUTO not in tried:
            target, self._rest = self._rest[0], self._rest[1:]
            if target.name not in tried:
                return self._next(target, tried)
        return False

    def _next(self, target: Target, tried: Sequence[str]) -> bool:
        passed = self._clock() - self._begun
        timeout, deadline = (None if limit is None else limit - passed for limit in self._limits)
        if any(limit is not None and limit <= 0 for limit in (timeout, deadline)):
            return False
        task = self.request.task
        task = attrs.evolve(task, target=target.aimed(task.input, tried), deadline=deadline)
        self.request, self.name = attrs.evolve(self.request, task=task, timeout=timeout), target.name
        return True

    def last(self, error: KernelError) -> KernelError:
        """Return *error*, with what was tried before it where that was more than one model."""
        noted = bool(self._failed) and self._failed[-1][1] is error
        before = self._failed[:-1] if noted else self._failed
        if not before:
            return error
        said = "; ".join(f"{name!r} failed before it: {failure.message}" for name, failure in before)
        tried = [{"model": name, **failure.to_wire()} for name, failure in [*before, (self.name, error)]]
        found = type(error)(f"{error.message} ({said})", **{**error.fields, "tried": tried})
        found.__cause__ = before[-1][1]
        return found
