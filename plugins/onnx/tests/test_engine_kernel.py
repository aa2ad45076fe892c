"""The backend under the real kernel: from a system call to text, many tasks at once, and tasks that end early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmos.testing import FirstComePlugin
from llmos_kernel import (
    Chunk, Credentials, Done, Failed, Kernel, KernelConfig, ModelSpec, Process, Task, TaskHandle,
)  # fmt: skip
from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx import backend

PARAMS = {"max_tokens": 24, "ignore_eos": True, "temperature": 1.0}


@pytest.fixture
def spec(model_folder: Callable[..., Path]) -> ModelSpec:
    """A model of four slots."""
    path = str(model_folder("nano", "fp32"))
    return ModelSpec(name="nano", backend="onnx", path=path, options={"slots": 4, "context": 128, "threads": 1})


@contextmanager
def seat(spec: ModelSpec) -> Iterator[Process]:
    """A process at a kernel that serves *spec*."""
    config = KernelConfig(models=(spec,), scheduler="first_come", timeout=60.0)
    with (
        Kernel(config, plugins=[("onnx", backend), ("first_come", FirstComePlugin())]) as kernel,
        kernel.attach(Credentials()) as process,
    ):
        yield process


def end(process: Process, task: TaskHandle) -> Done | Failed:
    """Return a task's terminal event."""
    while isinstance(event := process.recv(task).body, Chunk):
        pass
    assert isinstance(event, Done | Failed)
    return event


def generate(process: Process, value: Any, **fields: Any) -> TaskHandle:
    """Schedule a generation."""
    params = {**PARAMS, **fields.pop("params", {})}
    return process.schedule(Task("generate", "nano", value, params=params, **fields))


def test_text(spec: ModelSpec) -> None:
    """A task gives text, tokens, usage and the reason of its end; streamed pieces join to the same text."""
    with seat(spec) as process:
        whole = end(process, generate(process, "Once upon a time", params={"seed": 1}))
        streamed = generate(process, "Once upon a time", params={"seed": 1}, stream=True)
        text = ""
        while isinstance(event := process.recv(streamed).body, Chunk):
            text += event.text

    assert isinstance(whole, Done)
    assert ("length", 24, 24) == (whole.finish, len(whole.tokens), whole.usage.generated)
    assert whole.text
    assert whole.text == text


def test_more_tasks_than_slots(spec: ModelSpec) -> None:
    """Twenty tasks on four slots end with the text that each seed gives alone."""
    with seat(spec) as process:
        alone = [end(process, generate(process, f"prompt {seed}", params={"seed": seed})) for seed in range(20)]
        tasks = [generate(process, f"prompt {seed}", params={"seed": seed}) for seed in range(20)]
        together = [end(process, task) for task in tasks]

    assert [done.text for done in alone] == [done.text for done in together]
    assert 20 == len({done.text for done in together})


def test_closed_task_frees_its_slot(spec: ModelSpec) -> None:
    """Readers that leave in the middle make room for others, who are not disturbed."""
    with seat(spec) as process:
        expected = end(process, generate(process, "stays", params={"seed": 5}))
        leaving = [generate(process, "leaves", stream=True, params={"max_tokens": 100}) for _ in range(4)]
        for task in leaving:
            process.recv(task)
            task.close()
        staying = end(process, generate(process, "stays", params={"seed": 5}))

    assert expected.text == staying.text


def test_refusals_reach_the_caller(spec: ModelSpec) -> None:
    """What prepare refuses ends that task alone, with the field's name."""
    with seat(spec) as process:
        wrong = end(process, generate(process, "x", params={"temperature": float("nan")}))
        right = end(process, generate(process, "x"))

    assert isinstance(wrong, Failed)
    assert isinstance(wrong.error, InvalidArgument)
    assert "params.temperature" == wrong.error.fields["field"]
    assert isinstance(right, Done)


def test_tokenize(spec: ModelSpec) -> None:
    """Tokenising needs no step and gives its ids as the value."""
    with seat(spec) as process:
        done = end(process, process.schedule(Task("tokenize", "nano", "hello")))

    assert isinstance(done, Done)
    assert all(isinstance(id, int) for id in done.value)


def test_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """A missing folder is the model's error, said to who asks for it."""
    with (
        seat(ModelSpec(name="nano", backend="onnx", path=str(tmp_path / "none"))) as process,
        pytest.raises(ModelUnavailable, match=r"llmos\.json"),
    ):
        generate(process, "x")
