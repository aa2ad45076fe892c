"""What all routers share: who may be chosen, what is heard of models that fail, and whose turn it was.

A router is a deterministic state machine over the calls that it gets: `Choosing.route` from any thread, `heard` on the
observers' thread, one lock for both.  It knows the time from events and from its clock, and measures by events alone.
"""

from __future__ import annotations

import abc
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import attrs

from llmos_kernel import errors
from llmos_kernel.api import MAX_SECONDS, Auto, number
from llmos_kernel.errors import KernelStopped, Overloaded, PluginError, ResourceError
from llmos_kernel.services import Candidate, Event, Router
from llmos_routers.breaker import Breaker
from llmos_routers.eligible import eligible

_seconds = number(0.001, MAX_SECONDS, whole=False)
_ENDS = {"task.done", "task.failed", "task.cancelled"}
_BLAMED = (ResourceError, PluginError)
_BLAMELESS = (Overloaded, KernelStopped)
"""Errors that say nothing of the model: there was too much work, or the kernel stopped."""


@attrs.frozen(kw_only=True)
class Options:
    """What every router can be told."""

    failures: int = attrs.field(default=3, validator=number(1, 1000))
    """Failures in a row after which a model is left alone."""
    cool_down: float = attrs.field(default=5.0, validator=_seconds)
    """Seconds until it is tried again, the first time; they double with each try that fails."""
    longest: float = attrs.field(default=300.0, validator=_seconds)
    """Most seconds until it is tried again."""


O = TypeVar("O", bound=Options)  # noqa: E741 - the options of a router


class Time:
    """The kernel's time as a router knows it: that of the latest event, and what *clock* says has passed since."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ahead: float | None = None
        """How far the kernel's clock is ahead of ours."""

    def heard(self, at: float) -> None:
        """An event happened at *at*.  It was told later, by an unknown time: the least of all counts."""
        ahead = at - self._clock()
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)

    def now(self) -> float:
        """Return the time."""
        return self._clock() + (self._ahead or 0.0)


class Choosing(Router, abc.ABC, Generic[O]):
    """A router that is told by a subclass whom it would `pick`.  *clock* is any that does not go back."""

    def __init__(self, options: O, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self.turns: dict[str, int] = {}
        """When a model was chosen last, as a count of choices."""
        self._count = itertools.count(1)
        self._breakers: dict[str, Breaker] = {}
        self._time = Time(clock)
        self._lock = threading.Lock()

    @abc.abstractmethod
    def pick(self, kind: str, want: Auto, ready: Sequence[Candidate], now: float) -> Candidate:
        """Return one of *ready*, of which there is at least one and of which each will do.  Under the lock."""

    def learn(self, event: Event) -> None:
        """Take in what happened.  Under the lock."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the name of the chosen one; raises as `eligible` does."""
        with self._lock:
            now = self._time.now()
            ready = eligible(kind, want, candidates, lambda name: self._breaker(name).wait(now))
            name = self.pick(kind, want, ready, now).spec.name
            self._breaker(name).passed(now)
            self.turns[name] = next(self._count)
            return name

    def heard(self, event: Event) -> None:
        """Note who fails and who does not, and let the subclass `learn`."""
        with self._lock:
            self._time.heard(event.at)
            model = str(event.fields.get("model", ""))
            if event.name == "model.failed":
                self._breaker(model).failed(event.at, at_once=True)
            elif event.name in _ENDS:
                self._ended(self._breaker(model), event)
            self.learn(event)

    @staticmethod
    def _ended(breaker: Breaker, event: Event) -> None:
        if event.name == "task.done":
            breaker.succeeded()
        elif _blames_model(str(event.fields.get("error", ""))):
            breaker.failed(event.at)
        else:
            breaker.said_nothing(event.at)

    def _breaker(self, model: str) -> Breaker:
        made = self._breakers.get(model)
        if made is None:
            options = self.options
            made = self._breakers[model] = Breaker(options.failures, options.cool_down, options.longest)
        return made

    def turn(self, candidate: Candidate) -> tuple[int, str]:
        """Return what orders those that are equal otherwise: who was chosen longest ago, then by name."""
        return self.turns.get(candidate.spec.name, 0), candidate.spec.name


def awake(ready: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return those that are loaded, or all where none is: to load a model takes longer than most tasks."""
    return [candidate for candidate in ready if candidate.loaded] or ready


def _blames_model(error: str) -> bool:
    """Return whether the class of error called *error* is the fault of the model, or of what runs it."""
    kind = getattr(errors, error, None)
    return isinstance(kind, type) and issubclass(kind, _BLAMED) and not issubclass(kind, _BLAMELESS)
