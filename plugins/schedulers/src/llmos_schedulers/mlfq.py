"""Skip-join multi-level feedback queue: short answers first, without knowing which are short.

FastServe (Wu et al., "Fast Distributed Inference Serving for Large Language Models", arXiv 2305.05920, section 4.1).
There are levels 0, 1, 2, ... with quanta that grow by `ratio`.

    join      the cost of the first token is known, because the prompt is: a task joins the highest level whose quantum
              holds it, and skips those in which it would be demoted before it has said anything
    demote    who has used up the quantum of its level goes to the end of the next one, and begins to count anew
    preempt   the tasks of the highest levels run; who stands behind them yields its place
    promote   who was not served for `starvation` seconds goes to the end of level 0, and begins to count anew

Costs are counted in tokens of output: a step is the same for all its rows, and a prompt token is `prompt_cost` of one.
A task with n steps to go ends after at most n promotions: each brings it to level 0, where it stands behind those only
that were there before it, until it is served.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from itertools import count
from typing import Any, ClassVar

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_COUNT, MAX_SECONDS, number
from llmos_kernel.contracts import Limits, Plan, Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book, Entry, StepOptions

api = 1
"""The version of the scheduler contract that this module is written for."""


@attrs.frozen(kw_only=True)
class Options(StepOptions):
    """What ``mlfq`` can be told."""

    quantum: int = attrs.field(default=16, validator=number(1, MAX_COUNT))
    """Tokens that a task may cost at level 0."""
    ratio: int = attrs.field(default=2, validator=number(2, 1000))
    """How many times longer the quantum of each level is than that of the one above."""
    levels: int = attrs.field(default=6, validator=number(1, 64))
    """How many there are.  In the lowest, tasks run to their end."""
    prompt_cost: float = attrs.field(default=0.05, validator=number(0, 1000, whole=False))
    """What a prompt token counts beside one of output."""
    starvation: float = attrs.field(default=10.0, validator=number(1e-3, MAX_SECONDS, whole=False))
    """Seconds without service after which a task is promoted."""


@attrs.define
class Seat:
    """Where a task stands."""

    level: int
    number: int
    """In the order in which tasks came to their level."""
    used: float = 0.0
    """What it has cost at this level."""
    served: float = 0.0
    """When it was served last, or arrived."""


@attrs.define
class Feedback(Book):
    """Who has taken little stands before who has taken much."""

    preemptive: ClassVar[bool] = True

    options: Options = attrs.field(factory=Options)
    seats: dict[int, Seat] = attrs.field(factory=dict, init=False)
    _numbers: count[int] = attrs.field(factory=count, init=False)
    _patience: list[tuple[float, int]] = attrs.field(factory=list, init=False)
    """(when to look whether a task starves, its id), as a heap: one for each task, and some that have ended."""
    _now: float = attrs.field(default=0.0, init=False)

    def quantum(self, level: int) -> float:
        """Return what a task may cost at *level*."""
        return self.options.quantum * float(self.options.ratio) ** level

    def joins(self, task: TaskView) -> int:
        """Return the highest level whose quantum holds the first token of *task*."""
        cost = 1 + self.options.prompt_cost * max(task.prompt - task.cached, 0)
        lowest = self.options.levels - 1
        return next((level for level in range(lowest) if cost <= self.quantum(level)), lowest)

    def rank(self, task: TaskView) -> tuple[float, ...]:
        """Return the level, and the place in it."""
        seat = self.seats.get(task.id)
        if seat is None:
            seat = self.seats[task.id] = Seat(self.joins(task), next(self._numbers), served=task.arrival)
            heapq.heappush(self._patience, (task.arrival + self.options.starvation, task.id))
        return (seat.level, seat.number)

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Count what the step cost, and demote who has used up the quantum."""
        super().charged(id, prefilled, generated)
        seat = self.seats.get(id)
        if seat is None:
            return
        seat.served = self._now
        seat.used += generated + self.options.prompt_cost * prefilled
        if seat.used >= self.quantum(seat.level) and seat.level < self.options.levels - 1:
            self._seat(id, seat.level + 1)

    def finished(self, id: int) -> None:
        """Forget the task."""
        super().finished(id)
        self.seats.pop(id, None)
        if len(self._patience) > 64 + 2 * len(self.tasks):
            self._patience = [(at, id) for at, id in self._patience if id in self.seats]
            heapq.heapify(self._patience)

    def most(self, entry: Entry) -> int:
        """Return what is left of the quantum, at least one token."""
        seat = self.seats[entry.view.id]
        if seat.level == self.options.levels - 1:
            return entry.left
        return min(entry.left, max(int(self.quantum(seat.level) - seat.used), 1))

    def plan(self, now: float, limits: Limits) -> Plan:
        """Promote who starves, then plan by levels."""
        self._now = now
        while self._patience and self._patience[0][0] <= now:
            _, id = heapq.heappop(self._patience)
            if id in self.seats:
                self._look_at(id, now)
        return super().plan(now, limits)

    def _look_at(self, id: int, now: float) -> None:
        seat = self.seats[id]
        again = seat.served + self.options.starvation
        if again <= now:
            again = now + self.options.starvation
            if seat.level > 0 and self.tasks[id].lines:
                self._seat(id, 0)
        heapq.heappush(self._patience, (again, id))

    def _seat(self, id: int, level: int) -> None:
        self.seats[id] = Seat(level, next(self._numbers), served=self.seats[id].served)
        self.move(id)


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a skip-join multi-level feedback queue; *config* holds `Options`.  Raises `ConfigError`."""
    return Feedback(options=read_options(Options, config, "scheduler:mlfq"))
