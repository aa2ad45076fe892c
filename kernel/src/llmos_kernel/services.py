"""What plugins offer besides running models: choosing them, deciding, changing texts, keeping, observing, exporting."""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos_kernel.api import Auto, Principal
from llmos_kernel.contracts import ModelSpec

# --- choosing and deciding -------------------------------------------------------------------------------------


@attrs.frozen
class Candidate:
    """A model that a router may choose."""

    spec: ModelSpec
    loaded: bool
    unfinished: int
    """Tasks that were accepted for it and have not ended."""


class Router(abc.ABC):
    """Chooses the model for tasks whose target is `Auto`.  Any thread, concurrently."""

    @abc.abstractmethod
    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the name of one of *candidates*; raise `NotFound` if none will do."""

    def heard(self, event: Event) -> None:  # noqa: B027 - who does not listen need not say so
        """Take note of what observers are told, if a subclass cares; on their thread, and like them without promise."""


class Decision(enum.Enum):
    """A policy's answer."""

    ALLOW = "allow"
    DENY = "deny"
    ABSTAIN = "abstain"


@attrs.frozen
class Action:
    """What a process wants to do."""

    principal: Principal
    name: str
    """``attach``, ``alloc``, ``schedule``, ``grant``, or ``control.<message>``."""
    resource: str
    """Kind and name of the object: ``model:tiny``, ``memory``, ``task:7``."""
    detail: Mapping[str, Any] = attrs.field(factory=dict)
    """Of ``schedule``: ``kind``, ``priority``, ``deadline`` in seconds or None, ``params``, ``unfinished`` tasks of the
    model, and ``tasks`` of the tenant that have not ended.  Of ``alloc``, the request's fields.
    """


class Policy(abc.ABC):
    """Decides whether authority is granted.  Any denial wins; if nobody denies, it is granted.

    It must answer quickly and must not call back into the kernel.  An exception is a denial; only `Overloaded`, which
    says when to try again, reaches the caller as it is.
    """

    @abc.abstractmethod
    def check(self, action: Action) -> Decision:
        """Decide.  Any thread, concurrently."""

    def heard(self, event: Event) -> None:  # noqa: B027 - who does not listen need not say so
        """Take note of what observers are told, if a subclass cares; on their thread, and like them without promise."""


# --- data, storage, events -------------------------------------------------------------------------------------


class TextFilter(abc.ABC):
    """One task's way through a post-processor."""

    @abc.abstractmethod
    def feed(self, text: str) -> str:
        """Take a piece of output and return what is ready."""

    @abc.abstractmethod
    def end(self) -> str:
        """Return what was held back."""


class _Whole(TextFilter):
    """Waits for the whole text, then processes it."""

    def __init__(self, processor: Processor, params: Mapping[str, Any]) -> None:
        self._processor, self._params, self._parts = processor, params, [""]

    def feed(self, text: str) -> str:
        self._parts.append(text)
        return ""

    def end(self) -> str:
        return str(self._processor.process("".join(self._parts), self._params))


class Processor(abc.ABC):
    """Changes a task's input on the way in, or its text on the way out."""

    @abc.abstractmethod
    def process(self, value: Any, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a task's input can be anything
        """Return *value* changed.  *params* are the task's.  Worker pool: any thread, concurrently."""

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Return a filter for one task's output; by default one that waits for the end."""
        return _Whole(self, params)


class Store(abc.ABC):
    """Keeps bytes by key.  Any thread, concurrently."""

    @abc.abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return what is under *key*, or None."""

    @abc.abstractmethod
    def put(self, key: str, value: bytes) -> None:
        """Keep *value*; it is on stable storage when this returns."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Forget *key*, if it is there."""

    @abc.abstractmethod
    def keys(self, prefix: str = "") -> Iterable[str]:
        """Return the keys that begin with *prefix*, sorted."""


@attrs.frozen
class Event:
    """Something happened in the kernel."""

    name: str
    """``task.accepted``, ``task.preempted``, ``task.done``, ``handle.opened``, ``plugin.active``, ``step``, ..."""
    at: float
    """The kernel's clock."""
    fields: Mapping[str, Any]


Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``; total 0 is unknown."""


class Exporter(abc.ABC):
    """Writes a model folder from a checkpoint."""

    @abc.abstractmethod
    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write *target* from *source* and return facts about it.  *target* appears whole or not at all."""
