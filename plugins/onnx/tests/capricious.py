"""A scheduler that keeps to the contract and to nothing else: it admits, rests, cuts and preempts as chance has it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import attrs

from llmos_kernel.contracts import Limits, Plan, Preemption, Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl

_HOW: tuple[Preemption, ...] = ("keep", "swap", "drop")


class Capricious(Scheduler):
    """Draws its plans; the same *seed* and the same tasks give the same plans."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._tasks: dict[int, TaskView] = {}
        self.preempted = 0

    def arrived(self, task: TaskView) -> None:
        """Note it."""
        self._tasks[task.id] = task

    def changed(self, task: TaskView) -> None:
        """Note it."""
        self._tasks[task.id] = task

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Note what is done."""
        if task := self._tasks.get(id):
            prefilled, generated = task.prefilled + prefilled, task.generated + generated
            self._tasks[id] = attrs.evolve(task, prefilled=prefilled, generated=generated)

    def finished(self, id: int) -> None:
        """Forget it."""
        self._tasks.pop(id, None)

    def plan(self, now: float, limits: Limits) -> Plan:
        """Preempt a few, serve some of the others, and fill some of the free places."""
        chance = self._chance
        placed = [id for id, task in self._tasks.items() if task.placed]
        preempt = tuple((id, chance.choice(_HOW)) for id in placed if chance.random() < 0.05)
        stuck = not limits.free and all(self._tasks[id].state == "stalled" for id in placed)
        if stuck:  # nobody reads what runs, and somebody may wait for what does not
            preempt = ((placed[0], chance.choice(_HOW[1:])),)
        self.preempted += len(preempt)
        stopped = {id for id, _ in preempt}
        running = [id for id in placed if self._tasks[id].state == "running" and id not in stopped]
        served = [id for id in running if chance.random() < 0.8] or running
        free = limits.free + sum(how != "keep" for _, how in preempt)
        admit, resume = self._places(free, stopped, eager=not served)
        prefill, decode = self._rows(served[: limits.rows], limits)
        return Plan(admit=admit, resume=resume, preempt=preempt, prefill=prefill, decode=decode)

    def _places(self, free: int, stopped: set[int], *, eager: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return whom to admit and whom to resume; an *eager* plan leaves nobody outside who has a place."""
        admit: list[int] = []
        resume: list[int] = []
        outside = [task for task in self._tasks.values() if task.id not in stopped]
        self._chance.shuffle(outside)
        for task in outside:
            if task.state not in ("waiting", "preempted") or not (eager or self._chance.random() < 0.7):
                continue
            if not task.placed and free < 1:
                continue
            free -= not task.placed
            (admit if task.state == "waiting" else resume).append(task.id)
        return tuple(admit), tuple(resume)

    def _rows(self, served: list[int], limits: Limits) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Return pieces of prompts, of any length, and who decodes."""
        prefill: list[tuple[int, int]] = []
        decode: list[tuple[int, int]] = []
        tokens = limits.tokens - len(served)
        for id in served:
            task = self._tasks[id]
            left = task.prompt - task.cached - task.prefilled
            if left <= 0:
                decode.append((id, self._chance.choice((1, 4))))
            elif tokens > 0 and len(prefill) < limits.chunks:
                prefill.append((id, self._chance.randint(1, min(left, tokens))))
                tokens -= prefill[-1][1]
        return tuple(prefill), tuple(decode)


class CapriciousPlugin:
    """Brings a `Capricious` scheduler, and shows those that were made."""

    name = "capricious"
    api = 1

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.made: list[Capricious] = []

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> Scheduler:
        """Return a new one."""
        self.made.append(Capricious(self._seed))
        return self.made[-1]
