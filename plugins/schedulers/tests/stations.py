"""Tasks before several servers, in order of arrival, with whoever admits them: by events, on a clock of their own."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import attrs

from llmos_kernel import Action, Event, Principal
from llmos_kernel.errors import Overloaded
from llmos_schedulers.admission import Admission

ERRORS = {"done": "", "failed": "DeadlineExceeded", "cancelled": "Cancelled"}
"""How a task ended, and the error that its event names."""
Draw = Callable[[Random], float]


def asks(tenant: str = "t", **detail: Any) -> Action:
    """The action of a process that schedules a task for the model ``m``."""
    facts = {"kind": "generate", "priority": 0, "deadline": None, "params": {}, "unfinished": 0, "tasks": 0}
    return Action(Principal(1, tenant, tenant), "schedule", "model:m", facts | detail)


def accepted(at: float, task: int, tenant: str = "t", **fields: Any) -> Event:
    """The event of a task that came."""
    facts = {"task": task, "model": "m", "kind": "generate", "tenant": tenant, "process": 1}
    return Event("task.accepted", at, facts | fields)


def ended(at: float, task: int, tenant: str = "t", how: str = "done", **fields: Any) -> Event:
    """The event of a task that ended."""
    facts = {
        "task": task, "model": "m", "kind": "generate", "tenant": tenant, "prompt": 10, "cached": 0, "generated": 20,
        "queued": 0.0, "prefill": 0.0, "decode": 0.0, "error": ERRORS[how],
    }  # fmt: skip
    return Event(f"task.{how}", at, facts | fields)


@attrs.define
class Served:
    """What became of a task."""

    came: float
    deadline: float | None
    refused: Overloaded | None = None
    predicted: float | None = None
    """The wait that it was told, if anybody knew."""
    begun: float | None = None
    ended: float | None = None

    @property
    def met(self) -> bool:
        """Whether it ended before its deadline."""
        return self.ended is not None and (self.deadline is None or self.ended <= self.came + self.deadline)


@attrs.define(kw_only=True)
class Station:
    """*servers* that serve in order of arrival; a task that is not done at its deadline is dropped there."""

    servers: int
    rate: float
    draw: Draw
    deadline: float | None
    admission: Admission | None
    random: Random
    now: float = 0.0
    tasks: list[Served] = attrs.field(factory=list, init=False)
    _line: deque[int] = attrs.field(factory=deque, init=False)
    _events: list[tuple[float, int, str, int]] = attrs.field(factory=list, init=False)
    _running: dict[int, float] = attrs.field(factory=dict, init=False)

    def run(self, count: int) -> list[Served]:
        """Let *count* tasks come, and return what became of them."""
        self._push(self.random.expovariate(self.rate), "come", 0)
        while self._events:
            self.now, _, what, task = heapq.heappop(self._events)
            if what == "come":
                self._come(count)
            elif what == "done" and task in self._running:
                self._end(task, "done")
            elif what == "late" and self.tasks[task].ended is None and (task in self._running or task in self._line):
                self._end(task, "failed")
        return self.tasks

    def _push(self, at: float, what: str, task: int) -> None:
        heapq.heappush(self._events, (at, len(self.tasks), what, task))

    def _come(self, count: int) -> None:
        id, task = len(self.tasks), Served(self.now, self.deadline)
        self.tasks.append(task)
        if len(self.tasks) < count:
            self._push(self.now + self.random.expovariate(self.rate), "come", 0)
        unfinished = len(self._line) + len(self._running)
        try:
            if self.admission is not None:
                found = self.admission.fits.of("m").predict(self.now, unfinished, "generate")
                task.predicted = found.wait if found.trusted else None
                self.admission.check(asks(deadline=self.deadline, unfinished=unfinished, tasks=unfinished))
        except Overloaded as error:
            task.refused = error
            return
        self._tell(accepted(self.now, id))
        self._line.append(id)
        if self.deadline is not None:
            self._push(self.now + self.deadline, "late", id)
        self._begin()

    def _begin(self) -> None:
        while self._line and len(self._running) < self.servers:
            id = self._line.popleft()
            self._running[id] = self.tasks[id].begun = self.now
            self._push(self.now + self.draw(self.random), "done", id)

    def _end(self, id: int, how: str) -> None:
        task, begun = self.tasks[id], self._running.pop(id, None)
        if begun is None:
            self._line.remove(id)
        elif how == "done":
            task.ended = self.now
        since = self.now if begun is None else begun
        self._tell(ended(self.now, id, how=how, queued=since - task.came, decode=self.now - since))
        self._begin()

    def _tell(self, event: Event) -> None:
        if self.admission is not None:
            self.admission.heard(event)


def serve(admission: Admission | None, count: int, **fields: Any) -> list[Served]:
    """Let *count* tasks come to a station; *admission* is asked on its clock."""
    station = Station(admission=admission, random=Random(fields.pop("seed", 0)), **fields)
    if admission is not None:
        admission._now = lambda: station.now
    return station.run(count)
