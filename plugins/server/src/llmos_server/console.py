"""What was heard of tasks that ended, which the kernel itself forgets: for whoever watches the server.

Everything that lives is asked of the kernel's control port, by the one who wants to know.  What has ended is nowhere
there, so an observer keeps the last of it.  The kernel's events do not say when a task was preempted; that is known of
tasks that somebody looked at meanwhile, from what they saw.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Event

KEPT = 2048
"""Tasks that ended, and notes on tasks that live, of which no more is kept."""
SEEN = 64
"""Changes of state that are kept of one task."""
PHASES = ("queued", "prefill", "decode")
HELD = frozenset(("preempted", "stalled"))
"""States in which a task that began is not served."""


@attrs.frozen
class Span:
    """A part of a task's life."""

    phase: str
    """``queued``, ``prefill``, ``decode``, ``preempted`` or ``stalled``."""
    seconds: float


@attrs.frozen
class Ended:
    """A task that ended.  Times are in seconds."""

    id: int
    kind: str
    model: str
    tenant: str
    state: str
    """``done``, ``failed`` or ``cancelled``."""
    error: str
    """The class of its error; empty if it ended well."""
    ended: float
    """Since 1970."""
    prompt: int
    cached: int
    generated: int
    queued: float
    prefill: float
    decode: float
    seen: tuple[tuple[float, str], ...] = ()
    """At what age it was seen in which state."""

    @property
    def age(self) -> float:
        """How old it was when it ended."""
        return self.queued + self.prefill + self.decode

    @property
    def accepted(self) -> float:
        """When it was accepted, since 1970."""
        return self.ended - self.age


class Console:
    """The last tasks that ended, for the kernel that it is a plugin of: ``Kernel(config, plugins=[console])``.

    *leaving* says whether the server is about to stop, so that what would be watched for ever ends.  Any thread.
    """

    name = "console"
    api = 1

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.leaving: Callable[[], bool] = lambda: False
        self.heard = False
        """Whether the kernel tells it anything: else nothing is known of what ended."""
        self.changes = {"models": 0, "plugins": 0, "tasks": 0}
        """How often something was heard of each."""
        self._lock = threading.Lock()
        self._ended: deque[Ended] = deque(maxlen=KEPT)
        self._seen: dict[int, list[tuple[float, str]]] = {}
        self._failures: dict[str, str] = {}

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Take note of what matters."""
        self.heard = True
        topic, _, what = event.name.partition(".")
        with self._lock:
            if f"{topic}s" in self.changes:
                self.changes[f"{topic}s"] += 1
            if topic == "model":
                self._failures[event.fields["model"]] = event.fields["error"]
            elif topic == "task" and what in ("done", "failed", "cancelled"):
                self._end(what, event.fields)

    def _end(self, state: str, fields: Mapping[str, Any]) -> None:
        names = ("prompt", "cached", "generated", *PHASES)
        seen = tuple(self._seen.pop(fields["task"], ()))
        usage = {name: fields[name] for name in names}
        self._ended.append(
            Ended(
                id=fields["task"], kind=fields["kind"], model=fields["model"], tenant=fields["tenant"], state=state,
                error=fields["error"], ended=self._now(), seen=seen, **usage,
            )
        )  # fmt: skip

    def ended(self, may_see: Callable[[str], bool]) -> list[Ended]:
        """Return the tasks of the tenants that the asker *may_see*, the last one first."""
        with self._lock:
            return [task for task in reversed(self._ended) if may_see(task.tenant)]

    def failure(self, model: str) -> str:
        """Return why the model could not be loaded when that was last tried; empty if it could."""
        with self._lock:
            return self._failures.get(model, "")

    def saw(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Take note of the states of *tasks*, as the control port tells them."""
        with self._lock:
            for task in tasks:
                if task["id"] not in self._seen and len(self._seen) >= KEPT:
                    self._seen.pop(next(iter(self._seen)))
                seen = self._seen.setdefault(task["id"], [])
                if (not seen or seen[-1][1] != task["state"]) and len(seen) < SEEN:
                    seen.append((task["age"], task["state"]))

    def seen(self, task: int) -> tuple[tuple[float, str], ...]:
        """Return what was seen of a task that lives."""
        with self._lock:
            return tuple(self._seen.get(task, ()))


def timeline(usage: Mapping[str, float], seen: Iterable[tuple[float, str]]) -> tuple[Span, ...]:
    """Return a task's life in parts, the oldest first; together they are as long as the task is old.

    *usage* has the seconds of each of `PHASES`; *seen* are ages at which it was seen in a state, in order.
    """
    edges, total = [], 0.0
    for phase in PHASES:
        edges.append((total, phase))
        total += usage[phase]
    cuts = {start for start, _ in edges} | {min(age, total) for age, _ in seen} | {total}
    parts: list[Span] = []
    for begin, end in zip(ordered := sorted(cuts), ordered[1:], strict=False):
        phase = next(name for start, name in reversed(edges) if start <= begin)
        state = next((state for age, state in reversed(tuple(seen)) if age <= begin), "")
        name = state if state in HELD and phase != "queued" else phase
        if parts and parts[-1].phase == name:
            parts[-1] = Span(name, parts[-1].seconds + end - begin)
        else:
            parts.append(Span(name, end - begin))
    return tuple(parts)
