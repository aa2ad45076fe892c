"""Shortest job first, with ageing.

Serving the shortest first gives the least mean wait (Smith, "Various Optimizers for Single-Stage Production", Naval
Research Logistics Quarterly 1956), and starves long tasks.  So each second that a task waits counts as `ageing` tokens
fewer (highest response ratio next has the same aim: Brinch Hansen, "An Analysis of Response Ratio Scheduling", IFIP
1971).  All age alike, so the order of two tasks never changes, and is that of the numbers

    arrival + length / ageing           smaller is sooner

A task of length L is passed only by tasks that arrived less than ``L / ageing`` seconds after it.

A length is what is to be computed: the expected output, and `prompt_cost` for each prompt token, many of which a step
computes together.  Who runs goes on to the end: what is left of it is shorter than what it was chosen for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_COUNT, number
from llmos_kernel.contracts import Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book, StepOptions
from llmos_schedulers.expected import Expected
from llmos_schedulers.options import one_of

api = 1
"""The version of the scheduler contract that this module is written for."""


@attrs.frozen(kw_only=True)
class Options(StepOptions):
    """What ``sjf`` can be told."""

    ageing: float = attrs.field(default=10.0, validator=number(1e-6, MAX_COUNT, whole=False))
    """Tokens that a second of waiting takes off a task's length."""
    prompt_cost: float = attrs.field(default=0.05, validator=number(0, 1000, whole=False))
    """What a prompt token counts beside one of output."""
    predict: str = attrs.field(default="mean", validator=one_of("mean", "max_tokens"))
    """How long an output is expected to be: the mean of the tenant's tasks of that kind, or what the request allows."""


@attrs.define
class ShortestJobFirst(Book):
    """The shortest first."""

    options: Options = attrs.field(factory=Options)
    expected: Expected = attrs.field(factory=Expected, init=False)
    _lengths: dict[int, float] = attrs.field(factory=dict, init=False)

    def rank(self, task: TaskView) -> tuple[float, ...]:
        """Return when an empty task would have had to arrive to stand here.  The length is what it was on arrival."""
        if task.id not in self._lengths:
            self._lengths[task.id] = self.length(task)
        return (task.arrival + self._lengths[task.id] / self.options.ageing,)

    def length(self, task: TaskView) -> float:
        """Return what a task will cost, in tokens of output."""
        output = self.expected.tokens(task) if self.options.predict == "mean" else task.max_tokens
        return output + self.options.prompt_cost * max(task.prompt - task.cached, 0)

    def finished(self, id: int) -> None:
        """Learn how long the task was, and forget it."""
        entry = self.tasks.get(id)
        if entry is not None:
            self.expected.learn(entry.view, entry.view.max_tokens - entry.left)
            del self._lengths[id]
        super().finished(id)


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a scheduler that serves the shortest first; *config* holds `Options`.  Raises `ConfigError`."""
    return ShortestJobFirst(options=read_options(Options, config, "scheduler:sjf"))
