"""Modelled executors: they keep count of what a real one would compute, and take the time that it would take.

Not modelled: hits of a prefix cache, length classes, and the time that it takes to move a cache to host memory and
back.  A decode yields one token per row and step, whatever the plan allows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from llmos import StepProfile
from llmos_kernel.api import Task
from llmos_kernel.contracts import (
    Admitted, Backend, Emit, Footprint, Limits, ModelSpec, NotNow, Plan, Preemption, Prepared, Result, RunExecutor,
    StepExecutor,
)  # fmt: skip
from llmos_kernel.errors import InvalidArgument
from llmos_simulator.loop import EventLoop
from llmos_simulator.records import Arrival


@attrs.define(eq=False)
class _Sequence:
    """One task, in numbers."""

    missing: int
    """Prompt tokens to compute, and generated ones that a dropped cache made part of the prompt."""
    left: int
    """Tokens to produce."""
    more: Result
    """What a step yields that does not end it."""
    end: Result
    """What its last step yields."""
    computed: int = 0
    """Tokens in its cache."""
    placed: bool = False


class _Step:
    """A step under way: `Lasting`, and when its time has passed, the results."""

    __slots__ = ("_executor", "_plan", "cut", "seconds")

    def __init__(self, executor: ModelledExecutor, plan: Plan, seconds: float) -> None:
        self._executor, self._plan, self.seconds, self.cut = executor, plan, seconds, executor.cut

    def __iter__(self) -> Iterator[Result]:
        return iter(self._executor.results(self._plan))


class ModelledExecutor(StepExecutor):
    """Steps as long as *profile* says; loading takes *seconds*."""

    def __init__(self, profile: StepProfile, seconds: float = 0.0) -> None:
        self._profile, self.seconds = profile, seconds
        self._places = profile.places
        self._limits: dict[int, Limits] = {}
        self._sequences: dict[int, _Sequence] = {}
        self.cut = threading.Lock()
        """Taken; released to cut a step short."""
        self.cut.acquire()
        self.steps = 0
        self.busy = 0.0
        """Seconds that its steps took, those that were cut short counted whole."""

    @property
    def limits(self) -> Limits:
        """What the profile says, and the places that are free."""
        free, profile = self._places, self._profile
        limits = self._limits.get(free)
        if limits is None:
            limits = Limits(profile.rows, free, profile.tokens, profile.chunks, profile.context)
            self._limits[free] = limits
        return limits

    def describe(self) -> Mapping[str, Any]:
        """Say what is simulated."""
        return {"provider": "simulated", "model": self._profile.model, "context": self._profile.context}

    def prepare(self, id: int, task: Task, tenant: str) -> Prepared:
        """Take the numbers of the task's `Arrival`."""
        arrival = task.input
        if not isinstance(arrival, Arrival):
            raise InvalidArgument.of("input", arrival, "an Arrival")
        most, room = arrival.max_tokens or arrival.output, self._profile.context - arrival.prompt
        if most > room:
            expected = f"<= {room}, what the context of {self._profile.context} leaves beside the prompt"
            raise InvalidArgument.of("max_tokens", most, expected)
        finish = "stop" if arrival.output < most else "length"
        more, end = Result(id, (0,)), Result(id, (0,), finish=finish)
        self._sequences[id] = _Sequence(arrival.prompt, arrival.output, more, end)
        return Prepared(arrival.prompt, most)

    def admit(self, id: int) -> Admitted | NotNow:
        """Give a place, if there is one."""
        sequence = self._sequences[id]
        if not sequence.placed:
            if not self._places:
                return NotNow()
            self._places -= 1
            sequence.placed = True
        return Admitted()

    def preempt(self, id: int, how: Preemption) -> None:
        """Take the place away, unless it is kept; a dropped cache has to be computed again."""
        sequence = self._sequences[id]
        if how != "keep":
            self._leave(sequence)
        if how == "drop":
            sequence.missing, sequence.computed = sequence.missing + sequence.computed, 0

    def _leave(self, sequence: _Sequence) -> None:
        self._places += sequence.placed
        sequence.placed = False

    def step(self, plan: Plan) -> Iterable[Result]:
        """Return what takes as long as the profile says."""
        profile = self._profile
        context = pairs = prompt = 0
        for id, count in plan.prefill:
            prompt += count
            if profile.per_prompt_context:
                pairs += count * self._sequences[id].computed + count * (count - 1) // 2
        rows = len(plan.prefill) + len(plan.decode)
        if profile.per_context_token:
            context = sum([self._sequences[id].computed for id, _ in plan.prefill + plan.decode])
        seconds = profile.seconds(rows, prompt, context, pairs, prompts=len(plan.prefill))
        self.steps += 1
        self.busy += seconds
        return _Step(self, plan, seconds)

    def results(self, plan: Plan) -> list[Result]:
        """Count what the step did; return a result per row."""
        found = []
        for id, count in plan.prefill:
            sequence = self._sequences[id]
            sequence.missing -= count
            sequence.computed += count
            found.append(Result(id) if sequence.missing > 0 else self._token(sequence))
        for id, _ in plan.decode:
            sequence = self._sequences[id]
            sequence.computed += 1
            found.append(self._token(sequence))
        return found

    @staticmethod
    def _token(sequence: _Sequence) -> Result:
        sequence.left -= 1
        return sequence.more if sequence.left > 0 else sequence.end

    def release(self, ids: Iterable[int]) -> None:
        """Forget tasks."""
        for id in ids:
            sequence = self._sequences.pop(id, None)
            if sequence is not None:
                self._leave(sequence)

    def interrupt(self) -> None:
        """End the step that is under way."""
        if self.cut.locked():
            self.cut.release()


class DrawnExecutor(RunExecutor):
    """Runs up to *rows* tasks from start to end, each for as long as its `Arrival.service` says: a queue of theory."""

    def __init__(self, loop: EventLoop, rows: int) -> None:
        self._loop, self._limits = loop, Limits(rows, rows)
        self.steps, self.busy = 0, 0.0

    @property
    def limits(self) -> Limits:
        """So many rows."""
        return self._limits

    async def run(self, id: int, task: Task, emit: Emit) -> None:
        """Take the task's time."""
        arrival = task.input
        if not isinstance(arrival, Arrival) or arrival.service is None:
            raise InvalidArgument.of("service", getattr(arrival, "service", arrival), "a time in seconds")
        self.steps += 1
        self.busy += arrival.service
        await self._loop.sleep(arrival.service)


class ModelledBackend(Backend):
    """Serves the executors of one simulation."""

    name = "simulated"

    def __init__(self, loop: EventLoop, models: Mapping[str, StepProfile | int]) -> None:
        self._loop, self._models = loop, models
        self.loaded: dict[str, list[ModelledExecutor | DrawnExecutor]] = {name: [] for name in models}
        """What was loaded by each name, in order."""

    def measure(self, spec: ModelSpec) -> Footprint:
        """Take what the specification says, of the main memory."""
        return Footprint("cpu", spec.nbytes)

    def load(self, spec: ModelSpec) -> ModelledExecutor | DrawnExecutor:
        """Make an executor; it takes the ``load_seconds`` of the specification's options."""
        model = self._models[spec.name]
        made: ModelledExecutor | DrawnExecutor
        if isinstance(model, int):
            made = DrawnExecutor(self._loop, model)
        else:
            made = ModelledExecutor(model, spec.options.get("load_seconds", 0.0))
        self.loaded[spec.name].append(made)
        return made
