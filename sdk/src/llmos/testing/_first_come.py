"""The smallest scheduler that is complete: first come, first served.  It lets kernel tests run without a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llmos_kernel.contracts import Limits, Plan, Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl


class FirstCome(Scheduler):
    """Decodes everything that runs, prefills what was admitted, and admits in order of arrival while there is room."""

    def __init__(self) -> None:
        self._views: dict[int, TaskView] = {}

    def arrived(self, task: TaskView) -> None:
        """Put the task at the end of the queue."""
        self._views[task.id] = task

    def changed(self, task: TaskView) -> None:
        """Take the new view; the place in the queue stays."""
        if task.id in self._views:
            self._views[task.id] = task

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Count what a step did."""
        view = self._views.get(id)
        if view is not None:
            done, generated = view.prefilled + prefilled, view.generated + generated
            self._views[id] = attrs.evolve(view, prefilled=done, generated=generated)

    def finished(self, id: int) -> None:
        """Forget the task."""
        self._views.pop(id, None)

    def plan(self, now: float, limits: Limits) -> Plan:
        """Decode first, then prefill within the limits, then admit."""
        running = [view for view in self._views.values() if view.state == "running"][: limits.rows]
        decode = [view.id for view in running if _missing(view) == 0][: limits.tokens]
        tokens = limits.tokens - len(decode)
        prefill: list[tuple[int, int]] = []
        for view in running:
            count = min(_missing(view), tokens)
            if count > 0 and len(prefill) < limits.chunks:
                prefill.append((view.id, count))
                tokens -= count
        back, new = self._admissions(limits)
        return Plan(admit=new, resume=back, prefill=tuple(prefill), decode=tuple((id, 2**20) for id in decode))

    def _admissions(self, limits: Limits) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the preempted tasks to bring back and the waiting ones to admit: the queue's head, never past it."""
        free = limits.free
        classes = [places for _, places in limits.pools] or [free]
        chosen: dict[str, list[int]] = {"preempted": [], "waiting": []}
        for view in self._views.values():
            if view.state not in chosen:
                continue
            place = min(view.length_class, len(classes) - 1)
            if free < 1 or classes[place] < 1:
                break
            classes[place] -= 1
            free -= 1
            chosen[view.state].append(view.id)
        return tuple(chosen["preempted"]), tuple(chosen["waiting"])


class FirstComePlugin:
    """A plugin object that brings `FirstCome` under the name ``fifo``."""

    name = "fifo"
    api = 1

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> Scheduler:
        """Return a new scheduler."""
        return FirstCome()


def _missing(view: TaskView) -> int:
    """Prompt tokens that are still to be computed."""
    return max(0, view.prompt - view.cached - view.prefilled)
