"""Priority with ageing: the more urgent first, and nobody for ever last.

A task's urgency is its priority plus one point for every `ageing` seconds since it arrived (Kleinrock, "A Delay
Dependent Queue Discipline", Naval Research Logistics Quarterly 1964, with one slope for all).  All grow at the same
rate, so the order of two tasks never changes, and is that of the numbers

    arrival - priority * ageing         smaller is sooner

A task with priority p is passed only by tasks that arrived before ``arrival + (P - p) * ageing``, P the highest
priority in use: they are finitely many, so it does not starve.

A more urgent task takes the place of the least urgent running one.  Because the order is fixed, it is never taken back
by the same task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_SECONDS, number
from llmos_kernel.contracts import Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book, StepOptions

api = 1
"""The version of the scheduler contract that this module is written for."""


@attrs.frozen(kw_only=True)
class Options(StepOptions):
    """What ``priority`` can be told."""

    ageing: float = attrs.field(default=10.0, validator=number(1e-6, MAX_SECONDS, whole=False))
    """Seconds of waiting that count as much as one point of priority."""


@attrs.define
class Priority(Book):
    """The most urgent first."""

    preemptive: ClassVar[bool] = True

    options: Options = attrs.field(factory=Options)

    def rank(self, task: TaskView) -> tuple[float, ...]:
        """Return the time at which a task of priority 0 would have had to arrive to be as urgent."""
        return (task.arrival - task.priority * self.options.ageing,)


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a scheduler by priority; *config* holds `Options`.  Raises `ConfigError`."""
    return Priority(options=read_options(Options, config, "scheduler:priority"))
