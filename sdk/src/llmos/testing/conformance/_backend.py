"""What a backend and its executors owe."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from llmos.testing._first_come import FirstComePlugin
from llmos.testing.conformance._base import (
    Conformance,
    expect,
    expect_end,
    expect_facts,
    expect_type,
    in_threads,
)
from llmos_kernel.api import Done, Failed, Task
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import (
    Admitted, Backend, Footprint, Limits, ModelSpec, Plan, Preemption, RunExecutor, StepExecutor,
)  # fmt: skip
from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable
from llmos_kernel.kernel import Kernel
from llmos_kernel.process import Process

PROMPT = "The quick brown fox jumps over the lazy dog"
INPUTS: Mapping[str, Any] = {
    "generate": PROMPT, "chat": [{"role": "user", "content": PROMPT}], "embed": PROMPT, "classify": PROMPT,
    "tokenize": PROMPT,
}  # fmt: skip
"""What is asked of a model, by the kind of task, where a `Served` says nothing else."""


@attrs.frozen
class Served:
    """A backend, and a model that it serves, as small as can be."""

    backend: Backend
    spec: ModelSpec
    inputs: Mapping[str, Any] = attrs.field(factory=dict)
    """Input by kind of task, for kinds that are not in `INPUTS` or want another."""
    params: Mapping[str, Any] = attrs.field(factory=dict)
    """Parameters of tasks that write text; they make answers short, and the same each time."""

    def task(self, kind: str) -> Task:
        """Return a task of *kind* that the model can do."""
        given = {**INPUTS, **self.inputs}
        expect(True, kind in given, f"an input for {kind!r} tasks in Served.inputs")
        return Task(kind, self.spec.name, given[kind], params=self.params if kind in ("generate", "chat") else {})

    @property
    def first(self) -> Task:
        """A task of the first kind that the model serves."""
        return self.task(self.spec.kinds[0])

    @contextmanager
    def process(self) -> Iterator[Process]:
        """Give a process at a kernel that serves the model."""
        config = KernelConfig(models=(self.spec,), timeout=120.0)
        with Kernel(config, plugins=((self.spec.backend, self.backend), FirstComePlugin())) as kernel:
            yield kernel.attach()

    @contextmanager
    def executor(self) -> Iterator[StepExecutor | RunExecutor]:
        """Give the loaded model, and close it."""
        executor = self.backend.load(self.spec)
        try:
            yield executor
        finally:
            executor.close()

    @contextmanager
    def steps(self) -> Iterator[StepExecutor]:
        """Give the loaded model if it is driven step by step; skip the test if it runs tasks from start to end."""
        with self.executor() as executor:
            if not isinstance(executor, StepExecutor):
                pytest.skip("this backend's executor runs tasks from start to end: it has no steps")
            yield executor


class BackendConformance(Conformance):
    """What every backend owes.  Subclass it, and give it a fixture ``served`` that returns a `Served`."""

    def test_measures(self, served: Served) -> None:
        """`Backend.measure`: "Say what `load` will take, without loading": the same each time."""
        found = expect_type(Footprint, served.backend.measure(served.spec), "what it says")
        expect(found, served.backend.measure(served.spec), "what it says again")

    def test_loads(self, served: Served) -> None:
        """`Limits`: "What an executor can take now": a model that is loaded and idle can take a task."""
        with served.executor() as executor:
            limits = expect_type(Limits, executor.limits, "the limits")
        expect(True, limits.rows >= 1 <= limits.free, f"rows and free places from 1 ({limits})")
        expect(True, limits.tokens >= limits.rows, f"room for a token of each row in a step ({limits})")

    def test_tells_facts(self, served: Served) -> None:
        """`Executor.describe` and `Backend.doctor`: "Return facts", by name."""
        with served.executor() as executor:
            for facts in (executor.describe(), served.backend.doctor()):
                expect_facts(facts)

    def test_says_what_is_wrong(self, served: Served) -> None:
        """`Backend.load`: "Raise `ModelUnavailable` naming what is wrong": an option that it has not, for instance."""
        spec = attrs.evolve(served.spec, options={**served.spec.options, "no-such-option": 1})
        try:
            served.backend.load(spec).close()
        except ModelUnavailable as error:
            expect(True, "no-such-option" in error.message, f"naming what is wrong ({error.message})")
        else:
            raise AssertionError("loading with the option no-such-option: expected ModelUnavailable, found a model")

    def test_serves_its_kinds(self, served: Served) -> None:
        """`ModelSpec.kinds`: "Task kinds that it serves": a task of each ends well."""
        with served.process() as process:
            for kind in served.spec.kinds:
                event = expect_end(process, served.task(kind))
                expect_type(Done, event, f"the end of a {kind!r} task")

    def test_serves_several(self, served: Served) -> None:
        """`Limits.rows`: "Most tasks that one step may serve": more than that are served too, one after the other."""
        with served.executor() as executor:
            count = min(executor.limits.rows, 4) + 2
        with served.process() as process:
            tasks = [process.schedule(served.first) for _ in range(count)]
            ends = [type(process.recv(task).body) for task in tasks]
        expect([Done] * count, ends, "the ends of several tasks")

    def test_refuses_input(self, served: Served) -> None:
        """`StepExecutor.prepare`: "raise `InvalidArgument` naming the field": wrong input fails one task."""
        with served.process() as process:
            for kind in served.spec.kinds:
                error = _refused(process, attrs.evolve(served.task(kind), input=object()))
                named = str(error.fields.get("field", ""))
                expect(True, named.startswith("input"), f"naming the input ({named!r}: {error.message})")
            expect_type(Done, expect_end(process, served.first), "the end of another task")

    def test_refuses_parameters(self, served: Served) -> None:
        """`InvalidArgument`: "Fields: ``field``": a parameter that it does not know is named, not ignored."""
        with served.process() as process:
            task = served.first
            error = _refused(process, attrs.evolve(task, params={**task.params, "no_such_parameter": 1}))
            named = str(error.fields.get("field", "")).rpartition(".")[2]  # or ``params.`` and the name
            expect("no_such_parameter", named, "the field that the error names")

    def test_prepares_in_any_thread(self, served: Served) -> None:
        """`StepExecutor.prepare`: "Worker pool: any thread, concurrently"."""
        ids = itertools.count(1)
        with served.steps() as executor:
            alone = executor.prepare(0, served.first, "tenant")

            def prepare() -> tuple[int, int]:
                prepared = executor.prepare(next(ids), served.first, "tenant")
                return prepared.prompt_tokens, prepared.max_tokens

            found = in_threads(prepare, threads=8)
            executor.release(range(next(ids)))
        expect([(alone.prompt_tokens, alone.max_tokens)] * len(found), found, "what it learns in other threads")

    def test_release_gives_places_back(self, served: Served) -> None:
        """`StepExecutor.release`: "Forget tasks in whatever state, prepared ones too": their places are free again."""
        with served.steps() as executor:
            free = executor.limits.free
            for id in range(1, 4):
                executor.prepare(id, served.first, "tenant")
                executor.prepare(100 + id, served.first, "tenant")
                executor.admit(id)
                executor.release([id, 100 + id])
                expect(free, executor.limits.free, f"free places after {id} tasks were released")

    def test_release_of_nobody(self, served: Served) -> None:
        """`StepExecutor.release`: "Ids that are unknown are not an error"."""
        with served.steps() as executor:
            executor.release([10**9])

    @pytest.mark.parametrize("how", ["keep", "swap", "drop"])
    def test_preempted_goes_on(self, served: Served, how: Preemption) -> None:
        """`StepExecutor.preempt`: "`admit` brings it back": the text is the same as without."""
        with served.steps() as executor:
            alone = _run(executor, 1, served.first)
            again = _run(executor, 2, served.first, how)
        expect(alone, again, f"the text of a task that was preempted ({how})")


def _refused(process: Process, task: Task) -> InvalidArgument:
    """Return the error with which *task* was refused, at once or at its end."""
    try:
        event = expect_end(process, task)
    except KernelError as error:  # at once
        event = Failed(0, error)
    found = event.error if isinstance(event, Failed) else event
    return expect_type(InvalidArgument, found, f"the end of a {task.kind!r} task that cannot be")


class _Row:
    """A task that has its place, and what it said."""

    def __init__(self, executor: StepExecutor, id: int, task: Task) -> None:
        prepared = executor.prepare(id, task, "tenant")
        self._executor, self.id, self.prompt = executor, id, prepared.prompt_tokens
        self.text, self.generated = "", 0
        self.ended = prepared.answer is not None
        self.left = 0 if self.ended else self.prompt - self._admitted()
        """Tokens of the prompt that are not computed."""

    def step(self) -> None:
        """Let the executor go one step further with this task alone."""
        count = min(self.left, self._executor.limits.tokens)
        plan = Plan(prefill=((self.id, count),)) if count else Plan(decode=((self.id, 1),))
        (result,) = self._executor.step(plan)
        self.left -= count
        self.text += result.text
        self.generated += len(result.tokens)
        self.ended = result.finish is not None or result.error is not None

    def preempt(self, how: Preemption) -> None:
        """Stop the task, and bring it back."""
        self._executor.preempt(self.id, how)
        cached = self._admitted()
        if how == "drop":  # what it has said is part of the prompt now
            self.left = self.prompt + self.generated - cached

    def _admitted(self) -> int:
        what = f"the answer to the admission of task {self.id} by an executor that is idle"
        return expect_type(Admitted, self._executor.admit(self.id), what).cached


def _run(executor: StepExecutor, id: int, task: Task, how: Preemption | None = None) -> str:
    """Return the text of *task*, preempted in the middle if *how* says so."""
    row = _Row(executor, id, task)
    for number in range(1000):
        if row.ended:
            break
        if how is not None and number == 2:
            row.preempt(how)
        row.step()
    executor.release([id])
    expect(True, row.ended, "an end of the task within 1000 steps")
    return row.text
