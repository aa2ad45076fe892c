"""Clients that go away: their slots are free at the next step, also in the middle of a long prompt."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmos import Client, Model, Stream
from llmos.testing import Gate
from llmos_kernel import Kernel, ModelSpec, Plan
from llmos_onnx.executor import OnnxExecutor
from llmos_onnx.export import export_model
from plugins.onnx.tests.checkpoint_writer import Recipe, write_checkpoint
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.served import executor, served, until

OPTIONS: dict[str, Any] = {"temperature": 0.9, "seed": 3, "params": {"ignore_eos": True}}
LONG = "A prompt that is computed in many pieces, one after the other, until somebody goes away. " * 6


class Steps:
    """Stands before each step of an executor: notes who is in it, and can hold it."""

    def __init__(self, client: Client, model: Model) -> None:
        watched = executor(client, model)
        self._driver = client.process._core.models.find(model.name).driver
        self.gate = Gate()
        self.when: Callable[[Plan], bool] = lambda plan: False
        """Says which step is held."""
        self.seen: list[tuple[tuple[int, ...], int]] = []
        """Tasks of each step, and the slots that were free when it began."""
        step, interrupt = watched.step, watched.interrupt

        def held(plan: Plan) -> Any:
            if self.when(plan):
                self.when = lambda plan: False
                self.gate.shut()
            self.gate.enter()
            self.seen.append((tuple(id for id, _ in (*plan.prefill, *plan.decode)), watched.limits.free))
            return step(plan)

        def cut() -> None:
            interrupt()
            self.gate.cut()

        watched.step, watched.interrupt = held, cut  # type: ignore[method-assign]

    @property
    def arrivals(self) -> int:
        """Tasks of which the scheduler will hear once the step ends."""
        assert self._driver is not None
        return [what for what, _ in list(self._driver.dispatcher.notes)].count("arrived")


Leave = Callable[[Client, list[Stream]], None]


def close_the_stream(client: Client, streams: list[Stream]) -> None:
    """Say that the answer is not wanted any more."""
    streams.pop().close()


def drop_the_stream(client: Client, streams: list[Stream]) -> None:
    """Forget the answer, and go on with something else."""
    streams.pop()
    gc.collect()
    client.models()


def close_the_client(client: Client, streams: list[Stream]) -> None:
    """Go away without a word about the answer."""
    client.close()


@pytest.fixture
def spec(model_folder: Callable[..., Path]) -> ModelSpec:
    """A model of two slots that computes at most 32 tokens in a step."""
    options = {"slots": 2, "context": 512, "threads": 1, "step_tokens": 32}
    return ModelSpec(name="nano", backend="onnx", path=str(model_folder("nano", "fp32")), options=options)


@contextmanager
def leaver(spec: ModelSpec) -> Iterator[tuple[Model, Client, Steps]]:
    """The model for whoever stays, the client of whoever leaves, and the steps."""
    with served(spec) as (client, model):
        kernel = client._lease.kernel
        assert isinstance(kernel, Kernel)

        with Client(kernel=kernel) as leaving:
            yield model, leaving, Steps(client, model)


leaving_somehow = pytest.mark.parametrize("leave", [close_the_stream, drop_the_stream, close_the_client])


@leaving_somehow
def test_leaving_while_it_decodes(spec: ModelSpec, leave: Leave) -> None:
    """The next step is without the one who left, and somebody who waited has the slot."""
    with leaver(spec) as (model, client, steps):
        expected = [model.generate_text(text, max_tokens=20, **OPTIONS) for text in ("stays", "waits")]
        steps.when = lambda plan: len(plan.decode) == 2
        going = [client.load_model("nano").stream("leaves", max_tokens=400, **OPTIONS)]
        staying = model.stream("stays", max_tokens=20, **OPTIONS)
        steps.gate.wait_for_visitor()
        waiting = model.stream("waits", max_tokens=20, **OPTIONS)
        until(lambda: steps.arrivals)
        before = len(steps.seen)
        leave(client, going)
        steps.gate.open()
        assert expected == [staying.result(), waiting.result()]
        held, *following = steps.seen[before:]
        stays, waits = staying.result().task, waiting.result().task

    assert stays in held[0]
    assert 2 == len(held[0])
    assert ((stays,), 0) == following[0]  # the slot that is free has been given to who waited
    assert {stays, waits} == set(following[1][0])


@leaving_somehow
def test_leaving_while_its_prompt_is_computed(spec: ModelSpec, leave: Leave) -> None:
    """The rest of the prompt is not computed, the slot is free, and who comes next gets the tokens it gets alone."""
    with leaver(spec) as (model, client, steps):
        engine = executor(client, model)
        leaving = client.load_model("nano")
        steps.when = lambda plan: len(steps.seen) == 3
        going = [leaving.stream(LONG, max_tokens=8, **OPTIONS)]
        steps.gate.wait_for_visitor()
        leave(client, going)
        until(lambda: not engine._sequences)
        computed = engine.describe()["steps"]["prefilled"]
        steps.gate.open()
        before = len(steps.seen)
        answer = model.generate_text(LONG, max_tokens=8, **OPTIONS)

    assert 3 * 32 == computed == answer.usage.cached
    assert {1} == {free for _, free in steps.seen[before:]}
    assert alone(spec, LONG) == answer.tokens


def alone(spec: ModelSpec, prompt: str) -> tuple[int, ...]:
    """Return the tokens that *prompt* gives on an executor of its own, where it is the first."""
    driver = Driver(load(Path(spec.path), slots=1, context=512, threads=1))
    row = driver.add(1, prompt, max_tokens=8, seed=3, ignore_eos=True, temperature=0.9)
    driver.finish()
    return tuple(row.tokens)


# --- inside a run ------------------------------------------------------------------------------------------------


class Runs:
    """Stands before each run of the runtime, and notes how it ended."""

    def __init__(self, engine: OnnxExecutor) -> None:
        runner = engine._parts.runner
        self.begun, self.ended = threading.Event(), threading.Event()
        self.hold: threading.Event | None = None
        """What a run waits for before it begins."""
        self.errors: list[str] = []
        self.early = 0
        """Runs that were told to end before they began."""
        session = runner._session  # type: ignore[attr-defined]
        runner._session = self  # type: ignore[attr-defined]
        self.io_binding, self._run = session.io_binding, session.run_with_iobinding

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        """Run."""
        self.begun.set()
        if self.hold is not None:
            self.hold.wait(20)
        self.early += options.terminate
        try:
            self._run(binding, options)
        except Exception as error:
            self.errors.append(str(error))
            raise
        finally:
            self.ended.set()


def test_cancelling_ends_a_run_with_the_runtimes_own_error(spec: ModelSpec) -> None:
    """A run that is told to end gives up; nothing of it counts, and the slot is as good as new."""
    whole = ModelSpec(name="nano", backend="onnx", path=spec.path, options={**spec.options, "step_tokens": 512})
    with served(whole) as (client, model):
        engine = executor(client, model)
        runs, told, interrupt = Runs(engine), threading.Event(), engine.interrupt
        runs.hold = told

        def tell() -> None:
            interrupt()
            told.set()

        engine.interrupt = tell  # type: ignore[method-assign]
        stream = model.stream(LONG, max_tokens=8, **OPTIONS)
        assert runs.begun.wait(20)
        stream.close()
        assert runs.ended.wait(20)
        until(lambda: not engine._sequences)
        cut, computed = list(runs.errors), engine.describe()["steps"]["prefilled"]
        runs.hold = None
        answer = model.generate_text(LONG, max_tokens=8, **OPTIONS)

    assert 1 == len(cut)
    assert "terminate" in cut[0].lower()
    assert (0, 0) == (computed, answer.usage.cached)
    assert alone(spec, LONG) == answer.tokens
    assert cut == runs.errors


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A model that takes a good part of a second for a long prompt."""
    root = tmp_path_factory.mktemp("deep")
    recipe = Recipe(hidden=192, layers=24, heads=6, kv_heads=2, head_dim=32, mlp=512)
    export_model(write_checkpoint(root / "checkpoint", recipe), root / "model", weights="fp32")
    options = {"slots": 2, "context": 512, "threads": 1, "step_tokens": 512}
    return ModelSpec(name="deep", backend="onnx", path=str(root / "model"), options=options)


def test_cancelling_reaches_into_a_run(deep: ModelSpec) -> None:
    """A run that had begun when its task was cancelled ends before its time, with nothing held."""
    with served(deep) as (client, model):
        engine = executor(client, model)
        runs = Runs(engine)
        for attempt in range(20):  # a busy machine may bring word too late
            runs.begun.clear()
            runs.errors, runs.early = [], 0
            stream = model.stream(f"{attempt} {LONG}", max_tokens=8, **OPTIONS)
            assert runs.begun.wait(20)
            stream.close()
            until(lambda: not engine._sequences)
            if runs.errors and not runs.early:
                break
        answer = model.generate_text(LONG, max_tokens=8, **OPTIONS)

    assert 1 == len(runs.errors)
    assert (0, True) == (runs.early, "terminate" in runs.errors[0].lower())
    assert alone(deep, LONG) == answer.tokens
