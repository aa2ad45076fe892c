"""Round robin: everybody gets a turn of so many tokens.

Tasks stand in a circle (Kleinrock, "Analysis of a Time-Shared Processor", Naval Research Logistics Quarterly 1964;
processor sharing is its limit for short turns).  A new task joins at the end.  Who has produced `quantum` tokens goes
to the end; if somebody waits for a place, the place is theirs, and the task's cache waits in host memory.  A prompt
belongs to the first turn, because a task can do nothing without it.

Between two turns of a task everybody else gets at most one, so with n tasks at c places a task waits for at most
ceil(n / c) turns, whoever arrives meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, ClassVar

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_COUNT, number
from llmos_kernel.contracts import Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book, Entry, StepOptions

api = 1
"""The version of the scheduler contract that this module is written for."""


@attrs.frozen(kw_only=True)
class Options(StepOptions):
    """What ``round-robin`` can be told."""

    quantum: int = attrs.field(default=64, validator=number(1, MAX_COUNT))
    """Tokens that a task may produce before others have their turn."""


@attrs.define
class Turn:
    """A task's place in the circle."""

    number: int
    used: int = 0
    """Tokens produced in this turn."""


@attrs.define
class RoundRobin(Book):
    """Turns of equal length."""

    preemptive: ClassVar[bool] = True

    options: Options = attrs.field(factory=Options)
    turns: dict[int, Turn] = attrs.field(factory=dict, init=False)
    _numbers: count[int] = attrs.field(factory=count, init=False)

    def rank(self, task: TaskView) -> tuple[float, ...]:
        """Return the number of the task's turn; a new task gets the next one."""
        if task.id not in self.turns:
            self.turns[task.id] = Turn(next(self._numbers))
        return (self.turns[task.id].number,)

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Count the turn down, and go to the end of the circle when it is over."""
        super().charged(id, prefilled, generated)
        turn = self.turns.get(id)
        if turn is None:
            return
        turn.used += generated
        if turn.used >= self.options.quantum:
            self.turns[id] = Turn(next(self._numbers))
            self.move(id)

    def finished(self, id: int) -> None:
        """Forget the task."""
        super().finished(id)
        self.turns.pop(id, None)

    def most(self, entry: Entry) -> int:
        """Return what is left of the turn."""
        return min(entry.left, self.options.quantum - self.turns[entry.view.id].used)


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a round-robin scheduler; *config* holds `Options`.  Raises `ConfigError`."""
    return RoundRobin(options=read_options(Options, config, "scheduler:round-robin"))
