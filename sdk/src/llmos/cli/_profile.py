"""What ``llmos profile`` does with a model: serve tasks of many sizes through a kernel, and time each step.

Steps are timed as they are served, with what passes between them: planning, delivering tokens, waking who waits.  The
same plans without a kernel take a few percent less, and where a model is busy 80 % of the time, five percent more of
each step are a quarter more of each wait.  Prompts are random tokens, so nothing is cached.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llmos import StepProfile
from llmos.cli._fit import Step, fit
from llmos_kernel import Kernel, KernelConfig, Process
from llmos_kernel.api import Failed, Task
from llmos_kernel.contracts import (
    Admitted,
    Backend,
    Footprint,
    Limits,
    ModelSpec,
    NotNow,
    Plan,
    Preemption,
    Prepared,
    Result,
    StepExecutor,
)
from llmos_kernel.errors import ModelUnavailable
from llmos_kernel.hookspecs import hookimpl

NAME = "profiled"
Progress = Callable[[str, int, int], None]


@attrs.frozen(kw_only=True)
class Effort:
    """How much is measured."""

    prompts: tuple[int, int] = (16, 768)
    """The shortest and the longest prompt, in tokens; short ones are as frequent as those ten times as long."""
    outputs: tuple[int, int] = (8, 48)
    """The fewest and the most tokens that a task decodes."""
    repeat: int = 2
    """How often as many tasks are served as the model has rows: all at once, in halves, ... and one by one."""
    seed: int = 0

    def fitted(self, limits: Limits) -> Effort:
        """Return what a model of such limits has room for; raise `ModelUnavailable` if that is nothing."""
        shortest, longest = self.prompts[0], min(self.prompts[1], limits.context - self.outputs[1])
        if min(limits.rows, limits.free) < 1 or longest < shortest:
            expected = f"at least {shortest + self.outputs[1]} tokens"
            message = f"it has {limits.free} free places of {limits.context} tokens; to be measured it needs {expected}"
            raise ModelUnavailable(message, field="context", value=limits.context, expected=expected)
        return attrs.evolve(self, prompts=(shortest, longest))


QUICK = Effort(prompts=(16, 96), outputs=(4, 12), repeat=1)


@attrs.define
class Watched(StepExecutor):
    """An executor that is used as it is, its steps noted; closing it leaves it open, for it is somebody else's."""

    executor: StepExecutor
    clock: Callable[[], float]
    steps: list[Step] = attrs.field(factory=list)
    """Each with what passed since the step before it, where that had a task of this one."""
    _cached: dict[int, int] = attrs.field(factory=dict)
    """Tokens in the cache, by task."""
    _last: frozenset[int] = frozenset()
    """The tasks of the step before."""
    _ended: float = 0.0

    @property
    def limits(self) -> Limits:
        """Its limits."""
        return self.executor.limits

    def prepare(self, id: int, task: Task, tenant: str) -> Prepared:
        """Ask it."""
        return self.executor.prepare(id, task, tenant)

    def admit(self, id: int) -> Admitted | NotNow:
        """Ask it, and note what it has cached."""
        found = self.executor.admit(id)
        if isinstance(found, Admitted):
            self._cached.setdefault(id, found.cached)
        return found

    def preempt(self, id: int, how: Preemption) -> None:
        """Let it."""
        if how == "drop":
            self._cached.pop(id)
        self.executor.preempt(id, how)

    def step(self, plan: Plan) -> Iterable[Result]:
        """Let it, and note how long that took."""
        ids = frozenset(id for id, _ in plan.prefill + plan.decode)
        begun = self._ended if ids & self._last else self.clock()
        results = list(self.executor.step(plan))
        self._ended, self._last = self.clock(), ids
        self._note(plan, self._ended - begun)
        for id, tokens in plan.prefill:
            self._cached[id] += tokens
        decoded = {id for id, _ in plan.decode}
        for result in results:
            if result.id in decoded:
                self._cached[result.id] += len(result.tokens)
        return results

    def _note(self, plan: Plan, seconds: float) -> None:
        rows, cached = plan.prefill + plan.decode, self._cached
        pairs = sum(piece * cached[id] + piece * (piece - 1) // 2 for id, piece in plan.prefill)
        self.steps.append(
            Step(
                rows=len(rows), prompt=sum(piece for _, piece in plan.prefill), prompts=max(len(plan.prefill), 1),
                context=sum(cached[id] for id, _ in rows), pairs=pairs, seconds=seconds,
            )
        )  # fmt: skip

    def release(self, ids: Iterable[int]) -> None:
        """Let it."""
        gone = list(ids)
        for id in gone:
            self._cached.pop(id, None)
        self.executor.release(gone)

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


def measure(
    executor: StepExecutor, effort: Effort, tokens: Sequence[int], config: KernelConfig,
    plugins: Sequence[object] = (), *, progress: Progress = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> StepProfile:  # fmt: skip
    """Return the profile of *executor*, without name and machine; raise `ModelUnavailable` for one without room."""
    limits = executor.limits
    found = steps(executor, effort, tokens, config, plugins, progress=progress, clock=clock)
    return attrs.evolve(
        fit(found), places=limits.free, rows=limits.rows, tokens=limits.tokens, chunks=limits.chunks,
        context=limits.context,
    )  # fmt: skip


def steps(
    executor: StepExecutor, effort: Effort, tokens: Sequence[int], config: KernelConfig,
    plugins: Sequence[object] = (), *, progress: Progress = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Step]:  # fmt: skip
    """Serve tasks with *executor* and return its steps; raise `ModelUnavailable` for one without room.

    *config* says by which scheduler; *plugins* are objects besides the installed ones, and *tokens* are what prompts
    are made of.  Every place is used once before anything is noted: memory is given to a process at its first use.
    """
    effort = effort.fitted(executor.limits)
    places = min(executor.limits.rows, executor.limits.free)
    spec, watched = ModelSpec(name=NAME, backend=NAME), Watched(executor, clock)
    settings = attrs.evolve(config, models=(spec,), aliases={}, policies=(), router=None)
    waves = [count for _ in range(effort.repeat) for count in _waves(places)]
    with Kernel(settings, [Lent(watched), *plugins]) as kernel, kernel.attach() as process:
        rng = random.Random(effort.seed)  # noqa: S311 - the same prompts each time
        _serve(process, [_task(rng, tokens, effort.prompts[1], effort.outputs[1]) for _ in range(places)])
        watched.steps.clear()
        for number, count in enumerate(waves):
            progress(f"{count} at once", number, len(waves))
            _serve(process, [_random(rng, tokens, effort) for _ in range(count)])
        progress("done", len(waves), len(waves))
    return watched.steps


def _waves(places: int) -> Iterator[int]:
    """Yield how many tasks come at once: all, then halves of them, ..., so that every number of rows is seen often."""
    count = places
    while count:
        yield from [count] * (places // count)
        count //= 2


def _random(rng: random.Random, tokens: Sequence[int], effort: Effort) -> Task:
    shortest, longest = effort.prompts
    prompt = shortest * (longest / shortest) ** rng.random()
    return _task(rng, tokens, round(prompt), rng.randint(*effort.outputs))


def _task(rng: random.Random, tokens: Sequence[int], prompt: int, output: int) -> Task:
    params = {"max_tokens": output, "min_tokens": output, "ignore_eos": True, "temperature": 0.0}
    return Task("generate", NAME, rng.choices(tokens, k=prompt), params=params)


def _serve(process: Process, tasks: Sequence[Task]) -> None:
    """Schedule all, wait for all; raise the error of the first that failed."""
    for handle in [process.schedule(task) for task in tasks]:
        with handle:
            event = process.recv(handle).body
        if isinstance(event, Failed):
            raise event.error
