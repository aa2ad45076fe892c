"""Earliest deadline first, and an early no to what would be late.

Serving the earliest deadline first meets all deadlines that any order could meet, on one processor with preemption (Liu
and Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment", JACM 1973; Dertouzos 1974).
It fails badly beyond that, because it serves first what is already lost.  So a waiting task that would be late even if
it got a place now and a row in every step is refused at once (`Overloaded`): its owner can go elsewhere in time, and
nobody is late because of it.  A step is as long as `step_seconds` says, or as the steps so far.

A task without a deadline stands as if it had to end `patience` seconds after its arrival, and is never refused.  So it
is passed only by tasks whose deadline is before that time, and does not starve.

An earlier deadline takes the place of the latest running one.  Tasks that have run are not refused: what they produced
is worth something.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from math import ceil, inf, nextafter
from typing import Any, ClassVar

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_SECONDS, number
from llmos_kernel.contracts import Limits, Plan, Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book, Entry, StepOptions
from llmos_schedulers.expected import Expected
from llmos_schedulers.options import flag, one_of

api = 1
"""The version of the scheduler contract that this module is written for."""

DRIFT = 1.1
"""How far the measured step may be from the one that is reckoned with before all is reckoned anew."""
RECENT = 0.1
"""What the newest step weighs in the measured one."""


@attrs.frozen(kw_only=True)
class Options(StepOptions):
    """What ``edf`` can be told."""

    patience: float = attrs.field(default=60.0, validator=number(0, MAX_SECONDS, whole=False))
    """Seconds after its arrival at which a task without a deadline stands in the order."""
    shed: bool = attrs.field(default=True, validator=flag)
    """Refuse waiting tasks that can no longer meet their deadline."""
    step_seconds: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number(0, MAX_SECONDS, whole=False))
    )
    """How long a step takes; if not given, what steps have taken is measured."""
    predict: str = attrs.field(default="mean", validator=one_of("mean", "max_tokens"))
    """How long an output is expected to be: the mean of the tenant's tasks of that kind, or what the request allows."""


@attrs.define
class EarliestDeadlineFirst(Book):
    """The earliest deadline first."""

    preemptive: ClassVar[bool] = True

    options: Options = attrs.field(factory=Options)
    expected: Expected = attrs.field(factory=Expected, init=False)
    step: float = attrs.field(init=False)
    """Seconds per step that are reckoned with; 0 until one was measured, and then only what is late is shed."""
    _measured: float = attrs.field(default=0.0, init=False)
    _began: float | None = attrs.field(default=None, init=False)
    _latest: list[tuple[float, int]] = attrs.field(factory=list, init=False)
    """(latest time at which a waiting task must begin, its id), as a heap; some have left since."""

    def __attrs_post_init__(self) -> None:
        self.step = self.options.step_seconds or 0.0

    def rank(self, task: TaskView) -> tuple[float, ...]:
        """Return the deadline; without one, the end of our patience."""
        return (task.arrival + self.options.patience if task.deadline is None else task.deadline,)

    def arrived(self, task: TaskView) -> None:
        """Enter a task that waits, and reckon when it must begin."""
        super().arrived(task)
        if task.deadline is not None and self.options.shed:
            heapq.heappush(self._latest, (self.latest_begin(task), task.id))

    def finished(self, id: int) -> None:
        """Learn how long the task was, and forget it."""
        entry = self.tasks.get(id)
        if entry is not None:
            self.expected.learn(entry.view, entry.view.max_tokens - entry.left)
        super().finished(id)
        if not self.tasks:
            self._began = None  # what comes now is no step but idle time
        if len(self._latest) > 64 + 2 * len(self.tasks):
            self._reckon()

    def latest_begin(self, task: TaskView) -> float:
        """Return the time after which *task* would miss its deadline, were it in every step from then on."""
        if task.deadline is None:
            return inf
        output = self.expected.tokens(task) if self.options.predict == "mean" else task.max_tokens
        prompt = ceil(max(task.prompt - task.cached, 0) / self.options.chunk)
        # The last piece of the prompt yields the first token.
        steps = max(prompt + ceil(output) - min(prompt, 1), 0)
        return task.deadline - steps * self.step

    def plan(self, now: float, limits: Limits) -> Plan:
        """Refuse what would be late, then plan the others in order of their deadlines."""
        self._measure(now)
        shed = self._late(now)
        plan = super().plan(now, limits)
        if plan.prefill or plan.decode:
            self._began = now
        wake = nextafter(self._latest[0][0], inf) if self._latest else None  # at that time it may still begin
        return attrs.evolve(plan, shed=shed, wake_at=wake) if shed or wake is not None else plan

    def _late(self, now: float) -> tuple[int, ...]:
        late: list[int] = []
        while self._latest and (self._latest[0][0] < now or not self._waits(self._latest[0][1])):
            _, id = heapq.heappop(self._latest)
            if self._waits(id):
                late.append(id)
                self.step_out(self.tasks[id])
        return tuple(late)

    def _waits(self, id: int) -> bool:
        entry: Entry | None = self.tasks.get(id)
        return entry is not None and entry.view.state == "waiting" and bool(entry.lines)

    def _measure(self, now: float) -> None:
        """Take in how long the step since the last plan took."""
        if self._began is None or self.options.step_seconds is not None:
            return
        took, self._began = now - self._began, None
        self._measured = self._measured + RECENT * (took - self._measured) if self._measured else took
        if not self.step / DRIFT <= self._measured <= self.step * DRIFT:
            self.step = self._measured
            self._reckon()

    def _reckon(self) -> None:
        """Reckon anew when each waiting task must begin."""
        ids = [id for id in {id for _, id in self._latest} if self._waits(id)]
        self._latest = [(self.latest_begin(self.tasks[id].view), id) for id in ids]
        heapq.heapify(self._latest)


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a scheduler by deadline; *config* holds `Options`.  Raises `ConfigError`."""
    return EarliestDeadlineFirst(options=read_options(Options, config, "scheduler:edf"))
