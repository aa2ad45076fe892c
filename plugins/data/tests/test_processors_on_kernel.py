"""The processors on the real kernel, over the echo backend, which repeats what reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_data import normalize, template
from llmos_kernel import Chunk, Done, Failed, Kernel, KernelConfig, Process, Task
from llmos_kernel.errors import InvalidArgument, KernelError, NotFound, PluginFailed

TEMPLATES = {
    "ask": "Q:  {{ input }}",
    "sum": "sum up {{ text }}",
    "loop": "{% for i in input %}{{ input }}{% endfor %}",
}


@contextmanager
def seat() -> Iterator[Process]:
    """A process at a kernel with both processors."""
    settings = KernelConfig(
        models=(echo_spec(),),
        options={"processor:template": {"templates": TEMPLATES, "default": "ask", "limit": 10_000}},
        timeout=30.0,
    )
    plugins = (EchoBackend(), FirstComePlugin(), normalize, template)
    with Kernel(settings, plugins=plugins) as kernel, kernel.attach() as process:
        yield process


def run(process: Process, value: object, **fields: Any) -> tuple[list[str], Done | Failed]:
    """The pieces and the terminal event of a task."""
    handle = process.schedule(Task("generate", "echo", value, **fields))
    pieces: list[str] = []
    while isinstance(event := process.recv(handle).body, Chunk):
        pieces.append(event.text)
    assert isinstance(event, Done | Failed)
    return pieces, event


def test_before_the_model() -> None:
    """Input passes the processors in the order in which the task names them."""
    with seat() as process:
        _, asked = run(process, "who  wrote\r\nEmma? ", pre=("template", "normalize"))
        _, summed = run(process, {"template": "sum", "values": {"text": "this"}}, pre=("template",))

    assert asked == Done(asked.task, "Q: who wrote\nEmma?", asked.tokens, finish="stop", usage=asked.usage)  # type: ignore[union-attr]
    assert isinstance(summed, Done)
    assert summed.text == "sum up this"


def test_after_the_model() -> None:
    """A stream's pieces add up to the evened-out text, and so does its end."""
    text = "caf\u0065\u0301  au   lait\x07\u00a0\u00a0now"
    with seat() as process:
        pieces, ended = run(process, text, post=("normalize",), stream=True)

    assert isinstance(ended, Done)
    assert "".join(pieces) == ended.text == "café au lait now"
    assert len(pieces) > 1


@pytest.mark.parametrize(
    ("value", "pre", "error"),
    [
        ({"template": "sum"}, ("template",), InvalidArgument),
        ({"template": "summ"}, ("template",), NotFound),
        ({"template": "loop", "values": {"input": "a" * 1000}}, ("template",), PluginFailed),
        (7, ("normalize",), InvalidArgument),
    ],
)
def test_failure_is_the_task_s_alone(value: object, pre: tuple[str, ...], error: type[KernelError]) -> None:
    """What a processor refuses fails that task with the processor's error; the next one passes."""
    with seat() as process:
        _, failed = run(process, value, pre=pre)
        _, fine = run(process, "fine", pre=("normalize",))

    assert isinstance(failed, Failed)
    assert isinstance(failed.error, error)
    assert isinstance(fine, Done)
