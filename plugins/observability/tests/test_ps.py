"""What people see of a kernel, on whatever terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import llmos
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig, Task
from llmos_kernel.errors import PortBroken
from llmos_observability.ps import ps, text
from llmos_observability.view import View, clean, duration, size, table


def task(id: int = 1, **fields: Any) -> dict[str, Any]:
    """Return what the control port says of a task."""
    facts = {"id": id, "kind": "generate", "model": "tiny", "state": "running", "priority": 0, "tenant": "acme"}
    usage = {"prompt": 12, "cached": 0, "generated": 30, "queued": 0.0, "prefill": 0.1, "decode": 2.0, "age": 2.1}
    return {**facts, **usage, "process": 1, "principal": "ann", **fields}


def view(*tasks: dict[str, Any], dropped: int = 0) -> View:
    """Return a kernel with one loaded model and one that is not."""
    model = {"name": "tiny", "state": "loaded", "unfinished": 2, "footprint": {"device": "cpu", "nbytes": 23_068_672}}
    other = {"name": "far", "state": "unloaded", "unfinished": 0, "footprint": None}
    stats = {
        "state": "running", "processes": 2, "handles": 9, "ports": 3, "events_dropped": dropped,
        "devices": {"cpu": {"used": 23_068_672, "limit": 2**34}},
    }  # fmt: skip
    return View(stats, [model, other], tasks)


def test_page() -> None:
    """Who runs comes first, then by priority; speeds are of the time since the first token."""
    waiting = {"state": "waiting", "generated": 0, "decode": 0.0}
    page = text(view(task(3), task(4, **waiting), task(5, **waiting, priority=10), dropped=7), 80)

    assert page.splitlines() == [
        "kernel running, 2 processes, 9 handles, 3 ports, 7 events dropped",
        "cpu: 22.0 MiB of 16.0 GiB of weights",
        "",
        "MODEL  STATE   WAITING  RUNNING  TOK/S  MEMORY",
        "tiny   loaded  2        1        15.0   22.0 MiB cpu",
        "",
        "ID  STATE    MODEL  KIND      TENANT  PRIO  AGE   TOKENS  TOK/S",
        "3   running  tiny   generate  acme    0     2.1s  12+30   15.0",
        "5   waiting  tiny   generate  acme    10    2.1s  12+0    -",
        "4   waiting  tiny   generate  acme    0     2.1s  12+0    -",
    ]


def test_one_of_each() -> None:
    """What there is one of is told in the singular."""
    few = attrs.evolve(view(), stats={**view().stats, "processes": 1, "handles": 1, "ports": 0})

    assert "kernel running, 1 process, 1 handle, 0 ports" == few.summary()[0]


def test_nothing_to_do() -> None:
    """It is said."""
    assert "No task runs or waits." == text(view(), 80).splitlines()[-1]


@given(st.text(max_size=200), st.text(max_size=200), st.integers(40, 160))
def test_any_name_on_any_terminal(model: str, tenant: str, width: int) -> None:
    """Lines fit, and hold nothing that a terminal would obey."""
    page = text(view(task(model=model, tenant=tenant)), width)
    lines = page.split("\n")

    assert 8 == len(lines)
    assert all(cell_len(line) <= max(width, 54) for line in lines[3:])  # fewer columns cannot hold nine of them
    assert all(char.isprintable() for line in lines for char in line)


@pytest.mark.parametrize(("seconds", "told"), [(0, "0.0s"), (59.94, "59.9s"), (245, "4m05s"), (7380, "2h03m")])
def test_durations(seconds: float, told: str) -> None:
    """Short ones are told to a tenth of a second."""
    assert told == duration(seconds)


@pytest.mark.parametrize(("nbytes", "told"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**52, "4096.0 TiB")])
def test_sizes(nbytes: int, told: str) -> None:
    """In the unit that fits."""
    assert told == size(nbytes)


def test_longest_column_is_cut() -> None:
    """The others stay whole."""
    assert ["A   B", "aa  bbbbbb…"] == table(("A", "B"), [("aa", "b" * 20)], 11)
    assert "a\N{REPLACEMENT CHARACTER}[2J" == clean("a\x1b[2J")


# --- the command -------------------------------------------------------------------------------------------------


@contextmanager
def busy() -> Iterator[tuple[llmos.Client, Any]]:
    """Yield a client of a kernel with a task that runs, and the task's handle."""
    echo = EchoBackend()
    with Kernel(KernelConfig(models=[echo_spec("echo")]), [echo, FirstComePlugin()]) as kernel:
        client = llmos.Client(kernel=kernel)
        with client.load_model("echo"):
            echo.gate.shut()
            handle = client.process.schedule(Task("generate", "echo", "one two"))
            echo.gate.wait_for_visitor()
            try:
                yield client, handle
            finally:
                echo.gate.open()
                client.close()


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the server that it is given, with the key from the environment; JSON has all that the kernel says."""
    asked: list[tuple[str, str | None]] = []
    with busy() as (client, handle):

        def connect(server: str, token: str | None) -> _Open:
            asked.append((server, token))
            return _Open(client)

        monkeypatch.setattr(llmos, "Client", connect)
        arguments = ["--server", "http://elsewhere:1", "--json"]
        told = CliRunner(env={"LLMOS_KEY": "k"}).invoke(ps, arguments, catch_exceptions=False)
        page = CliRunner().invoke(ps, [], catch_exceptions=False)
    facts = json.loads(told.output)

    assert [("http://elsewhere:1", "k"), ("http://127.0.0.1:11535", None)] == asked
    assert [handle.id] == [one["id"] for one in facts["tasks"]]
    assert {"stats", "models", "tasks"} == set(facts)
    assert f"{handle.id}" == page.output.splitlines()[-1].split()[0]


class _Open:
    """A client that stays open."""

    def __init__(self, client: llmos.Client) -> None:
        self._client = client

    def __enter__(self) -> llmos.Client:
        return self._client

    def __exit__(self, *error: object) -> None:
        pass


def test_no_server() -> None:
    """Nobody at that address is one typed error, which the command line tells."""
    with pytest.raises(PortBroken):
        CliRunner().invoke(ps, ["--server", "http://127.0.0.1:1"], catch_exceptions=False)
