"""What is logged can be read by machines, is short, and gives nothing away."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig, Task
from llmos_kernel.errors import ConfigError
from llmos_kernel.services import Event
from llmos_observability.log import LONGEST, Log


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return what was written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def logged(name: str, options: Any = None, **fields: Any) -> list[dict[str, Any]]:
    """Return the lines that an event makes."""
    stream = io.StringIO()
    Log(options or {}, stream, now=lambda: 0.0).llmos_event(event=Event(name, 1.5, fields))
    return lines(stream)


def test_a_task_is_told_with_its_ids() -> None:
    """Its beginning and its end each have a line, with the same numbers."""
    stream = io.StringIO()
    config = KernelConfig(models=[echo_spec("echo")])
    with Kernel(config, [EchoBackend(), FirstComePlugin(), ("log", Log({}, stream))]) as kernel:
        process = kernel.attach()
        handle = process.schedule(Task("generate", "echo", "a secret prompt"))
        process.recv(handle)
        process.close()
    told = {line["event"]: line for line in lines(stream)}

    assert [(handle.id, "echo", "local")] * 2 == [
        tuple(told[name][field] for field in ("task", "model", "tenant")) for name in ("task.accepted", "task.done")
    ]
    assert "secret prompt" not in stream.getvalue()


def test_a_line() -> None:
    """Level, time, the kernel's clock and the fields."""
    (line,) = logged("model.failed", model="tiny", error="no such file")

    assert {
        "event": "model.failed", "level": "warning", "time": "1970-01-01T00:00:00.000+00:00", "at": 1.5,
        "model": "tiny", "error": "no such file",
    } == line  # fmt: skip


def test_a_trace_has_its_number_in_the_line() -> None:
    """By which the lines of a request are found; a task without a trace, or with nonsense for one, has none."""
    context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    (line,) = logged("task.done", task=7, trace=f"{context} congo=t61rcWkgMzE")

    assert "4bf92f3577b34da6a3ce929d0e0e4736" == line["trace_id"]
    for nobody in ("", "nonsense", None, 7):
        (line,) = logged("task.done", task=7, trace=nobody)
        assert {"event", "level", "time", "at", "task"} == set(line)
    (line,) = logged("plugin.failed", trace="of a plugin's own")
    assert "of a plugin's own" == line["trace"]


def test_what_is_wanted() -> None:
    """Steps and handles are left out, unless the options name them."""
    assert [] == logged("step", rows=1)
    assert 1 == len(logged("step", {"events": ["st*"]}, rows=1))
    assert [] == logged("task.done", {"events": []}, task=1)
    with pytest.raises(ConfigError, match="events"):
        Log({"events": "task.*"})


@pytest.mark.parametrize(
    "secret",
    ["llmos-4f1c2a9b0d3e-AbCdEfGh12345678", "sk-abcdefgh12345678", "hf_abcdefgh12345678", "Bearer abcdefgh"],
)
def test_keys_are_left_out(secret: str) -> None:
    """What looks like a key is not written, wherever it stands."""
    (line,) = logged("plugin.failed", why=f"the key {secret} was refused", parts=[secret])

    assert secret not in json.dumps(line)
    assert line["why"].endswith("… was refused")


@given(st.text(max_size=2000))
def test_any_text_is_one_line_of_ascii(text: str) -> None:
    """It is escaped, and cut."""
    stream = io.StringIO()
    Log({}, stream).llmos_event(event=Event("task.done", 0.0, {"why": text}))
    written = stream.getvalue()

    assert written.isascii()
    assert [1, True] == [written.count("\n"), written.endswith("\n")]
    assert len(json.loads(written)["why"]) <= LONGEST + 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, object(), {"a": {"b": 1}}, list(range(1000))])
def test_any_value_is_short(value: object) -> None:
    """What JSON has no form for becomes text, and long lists end early."""
    stream = io.StringIO()
    Log({}, stream).llmos_event(event=Event("task.done", 0.0, {"value": value}))

    assert len(stream.getvalue()) < 2000
    assert "NaN" not in stream.getvalue()
    assert "Infinity" not in stream.getvalue()
