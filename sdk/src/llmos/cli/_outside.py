"""What passes between the steps of a model that is served: planning, delivering tokens, waking who waits for them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llmos import StepProfile
from llmos_kernel import Kernel, KernelConfig
from llmos_kernel.api import Failed, Task
from llmos_kernel.contracts import (
    Admitted,
    Backend,
    Footprint,
    Limits,
    ModelSpec,
    NotNow,
    Plan,
    Prepared,
    Result,
    StepExecutor,
)
from llmos_kernel.hookspecs import hookimpl

NAME = "profiled"
PROMPT, TOKENS = 16, 32
"""Tokens at most that each task begins with, and that it decodes where the model goes on as long."""


@attrs.frozen
class Pause:
    """What passed between the ends of two steps that decoded the same rows, but for the later of them."""

    rows: int
    seconds: float


@attrs.define
class Watched(StepExecutor):
    """An executor that is used as it is, and noted when; closing it leaves it open, for it is somebody else's."""

    executor: StepExecutor
    clock: Callable[[], float]
    pauses: list[Pause] = attrs.field(factory=list)
    _ended: float = 0.0
    _rows: int = 0
    """Rows of the last step, if it did nothing but decode."""

    @property
    def limits(self) -> Limits:
        """Its limits."""
        return self.executor.limits

    def prepare(self, id: int, task: Task, tenant: str) -> Prepared:
        """Ask it."""
        return self.executor.prepare(id, task, tenant)

    def admit(self, id: int) -> Admitted | NotNow:
        """Ask it."""
        return self.executor.admit(id)

    def step(self, plan: Plan) -> Iterable[Result]:
        """Let it, and note what passed since the last time."""
        begun, rows = self.clock(), 0 if plan.prefill else len(plan.decode)
        if rows and rows == self._rows:
            self.pauses.append(Pause(rows, begun - self._ended))
        results = self.executor.step(plan)
        self._ended, self._rows = self.clock(), rows
        return results

    def release(self, ids: Iterable[int]) -> None:
        """Let it."""
        self.executor.release(ids)

    def interrupt(self) -> None:
        """Let it."""
        self.executor.interrupt()


class Lent(Backend):
    """A plugin object that serves one executor, which is there already."""

    name = NAME
    api = 1

    def __init__(self, executor: StepExecutor) -> None:
        self._executor = executor

    @hookimpl
    def llmos_backend(self, config: Mapping[str, Any]) -> Backend:
        """Return itself."""
        return self

    def measure(self, spec: ModelSpec) -> Footprint:
        """Nothing is taken that was not taken before."""
        return Footprint("none", 0)

    def load(self, spec: ModelSpec) -> StepExecutor:
        """Return the executor."""
        return self._executor


def pauses(
    executor: StepExecutor, config: KernelConfig, plugins: Sequence[object], tokens: Sequence[int], *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Pause]:  # fmt: skip
    """Serve tasks with *executor* through a kernel, one alone and as many at once as there are rows.

    *config* says by which scheduler; *plugins* are objects besides the installed ones, and *tokens* are what prompts
    are made of.
    """
    spec, watched = ModelSpec(name=NAME, backend=NAME), Watched(executor, clock)
    settings = attrs.evolve(config, models=(spec,), aliases={}, policies=(), router=None)
    with Kernel(settings, [Lent(watched), *plugins]) as kernel, kernel.attach() as process:
        for rows in sorted({1, min(executor.limits.rows, executor.limits.free)}):
            turns = [number % len(tokens) for number in range(rows)]
            tasks = [_task([*tokens[turn:], *tokens[:turn]][:PROMPT]) for turn in turns]
            for handle in [process.schedule(task) for task in tasks]:
                with handle:
                    _check(process.recv(handle).body)
    return watched.pauses


def _check(event: object) -> None:
    if isinstance(event, Failed):
        raise event.error


def _task(prompt: Sequence[int]) -> Task:
    params = {"max_tokens": TOKENS, "min_tokens": TOKENS, "ignore_eos": True, "temperature": 0.0}
    return Task("generate", NAME, [*prompt], params=params)


def with_pauses(profile: StepProfile, found: Iterable[Pause]) -> StepProfile:
    """Return *profile* with what passes from one step to the next in `fixed` and `per_row`.

    It is a line through the medians for the fewest and the most rows, neither of whose terms is negative.
    """
    by_rows: dict[int, list[float]] = {}
    for pause in found:
        by_rows.setdefault(pause.rows, []).append(pause.seconds)
    if not by_rows:
        return profile
    (few, short), (many, long) = ((rows, statistics.median(by_rows[rows])) for rows in (min(by_rows), max(by_rows)))
    per_row = max((long - short) / (many - few), 0.0) if many > few else 0.0
    per_row = min(per_row, long / many)
    fixed = long - per_row * many
    return attrs.evolve(profile, fixed=profile.fixed + fixed, per_row=profile.per_row + per_row)
