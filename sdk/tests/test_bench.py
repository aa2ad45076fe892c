"""``llmos bench``: what is measured, what is said where it cannot be, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llmos.cli import check_plot
from llmos.cli._bench import Effort, Figure, Run
from llmos.cli.machine import busy, machine
from llmos_kernel.api import Done, Usage
from llmos_kernel.errors import InvalidArgument
from sdk.tests.cli import CommandLine, Done as Printed
from sdk.tests.token_echo import TokenBackend


@pytest.fixture
def llmos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line of somebody who has such a model."""
    return CommandLine(TokenBackend(), monkeypatch, capsys)


def measured(done: Printed) -> dict[str, list[dict[str, Any]]]:
    """Return the figures that ``--json`` printed, by work."""
    assert 0 == done.code, done.err
    found: dict[str, list[dict[str, Any]]] = {}
    for figure in json.loads(done.out)["figures"]:
        found.setdefault(figure["work"], []).append(figure)
    return found


def test_every_work_is_measured(llmos: CommandLine) -> None:
    """Each in the order of the help, with all its repetitions, their median and their spread."""
    found = measured(llmos("bench", "--quick", "--json", "--repeat", "2", "--streams", "1,3"))

    assert ["load", "single", "concurrent", "outside", "prefill", "shared-prefix", "mixed", "memory"] == list(found)
    assert ["decode, 1 stream", "decode, 3 streams"] == [figure["title"] for figure in found["concurrent"]]
    assert [2, 2, 2] == [len(figure["values"]) for figure in found["prefill"]]
    for figure in (figure for figures in found.values() for figure in figures):
        values = figure["values"]
        assert min(values) <= figure["median"] <= max(values)
        assert 0 <= figure["spread"]


@pytest.mark.parametrize("command", ["bench --work prefill", "profile"])
def test_a_name_that_looks_like_a_path(command: str, llmos: CommandLine) -> None:
    """It is a model's where there is one of that name and no such folder."""
    assert 0 == llmos("models", "alias", "org/echo", "echo").code
    done, absent = (llmos(*command.split(), "--quick", "--json", name) for name in ("org/echo", "org/absent"))

    assert (0, 4) == (done.code, absent.code)
    assert "org/absent is no model folder" in absent.err


def test_time_outside_of_the_runtime_is_the_engines_own_count(llmos: CommandLine) -> None:
    """The executor says that half of each step is the runtime's."""
    found = measured(llmos("bench", "--quick", "--json", "--work", "concurrent", "--streams", "16"))

    assert 50.0 == pytest.approx(found["outside"][0]["median"])


def test_requests_are_what_was_asked_for(llmos: CommandLine) -> None:
    """So many streams, with prompts of so many tokens, the same ones for the same seed and others for another.

    Streams begin side by side, so their order is nobody's promise.
    """
    args = (
        "bench",
        "--json",
        "--work",
        "concurrent",
        "--streams",
        "3",
        "--prompt",
        "20",
        "--new",
        "5",
        "--repeat",
        "1",
    )
    prompts = []
    for seed in ("1", "1", "2"):
        llmos.echo.executors.clear()
        assert 0 == llmos(*args, "--seed", seed).code
        tasks = [task for task in llmos.echo.executors[0].tasks if task.params.get("max_tokens") == 5]
        prompts.append(sorted(task.input for task in tasks))

    assert [20, 20, 20] == [len(prompt.split()) for prompt in prompts[0]]
    assert prompts[0] == prompts[1]
    assert prompts[0] != prompts[2]


def test_a_table_for_people(llmos: CommandLine) -> None:
    """It names figures, machine and versions; progress goes elsewhere."""
    done = llmos("bench", "--quick", "--work", "prefill")

    assert 0 == done.code
    for word in ("prefill of 1,024 tokens", "tokens/s", "load to first token", "llmos-kernel", machine()["cpu"]):
        assert word in done.out
    assert "%" in done.err


def test_what_does_not_fit_is_named(llmos: CommandLine) -> None:
    """A model with a short context is measured with what fits, and the rest is said to be left out."""
    done = llmos("bench", "--quick", "--json", "-o", "context=600")
    report = json.loads(done.out)

    assert ["prefill", "shared-prefix"] == [line.partition(":")[0] for line in report["skipped"]]
    assert "1025" in report["skipped"][0]
    assert "600" in report["skipped"][0]
    assert 600 == report["model"]["context"]
    assert 2 == len(measured(done)["prefill"])


def test_report_is_written(llmos: CommandLine) -> None:
    """The file has what ``--json`` prints, with the hardware that the figures depend on."""
    done = llmos("bench", "--quick", "--json", "--work", "prefill", "--out", "report.json")
    written = json.loads(Path("report.json").read_text("utf-8"))

    assert json.loads(done.out) == written
    assert {"cpu", "flags", "cores", "load", "date", "versions", "python"} <= set(written["machine"])


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (("--new", "1"), "new"),
        (("--repeat", "0"), "repeat"),
        (("--streams", "0,1"), "streams"),
        (("--work", "prefil"), "work"),
    ],
)
def test_an_effort_that_measures_nothing_is_refused(llmos: CommandLine, args: tuple[str, ...], field: str) -> None:
    """Before a model is loaded, with the field's name."""
    done = llmos("bench", "--json", *args)

    assert 1 == done.code
    assert field == json.loads(done.out)["fields"]["field"]
    assert [] == llmos.echo.executors


def test_streams_are_numbers(llmos: CommandLine) -> None:
    """Anything else is wrong usage."""
    done = llmos("bench", "--streams", "many")

    assert 2 == done.code
    assert "1,4,8" in done.err


def test_a_model_that_is_not_there(llmos: CommandLine) -> None:
    """Options make no difference: the kernel names what is near."""
    for args in ((), ("-o", "context=600")):
        done = llmos("bench", "eko", "--quick", *args)

        assert 1 == done.code
        assert "echo" in done.err


def test_a_folder_is_measured_by_its_path(llmos: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model folder that nobody has listed is measured, and called like its folder."""
    monkeypatch.setattr("llmos._models.FOLDER_BACKEND", "echo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "llmos.json").write_text('{"name": "checkpoint"}', "utf-8")
    done = llmos("bench", str(tmp_path / "mine"), "--quick", "--json", "--work", "single")

    assert ["load", "single"] == list(measured(done))
    assert "mine (bench)" == json.loads(done.out)["model"]["name"]


def test_a_plot_needs_matplotlib(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, that is said before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = llmos("bench", "--quick", "--plot", "plot.png")

    assert 1 == done.code
    assert "llmos-sdk[plot]" in done.err
    assert [] == llmos.echo.executors


def test_plot(llmos: CommandLine) -> None:
    """It is a picture."""
    done = llmos("bench", "--quick", "--work", "prefill", "--plot", "plot.png")

    assert 0 == done.code, done.err
    assert b"\x89PNG" == Path("plot.png").read_bytes()[:4]


def test_what_the_backend_refuses_is_what_the_user_reads(llmos: CommandLine) -> None:
    """A context that is too short even for the first request."""
    llmos.echo.faults.load = None
    done = llmos("bench", "--quick", "-o", "context=10")

    assert 1 == done.code
    assert "context" in done.err


def test_decode_rate_counts_what_comes_after_the_last_first_token() -> None:
    """Two streams of 11 tokens: the first has its first token at 1 s and ends at 3 s, the other goes from 2 s to 4 s.

    After 2 s the first has 5 of its 10 later tokens left, the second all 10; the last one comes at 4 s.
    """
    ends = tuple(
        Done(0, usage=Usage(generated=11, queued=0.5, prefill=first - 0.5, decode=2.0)) for first in (1.0, 2.0)
    )
    run = Run(4.0, ends, (0.0, 0.0))

    assert [1.0, 2.0] == run.firsts
    assert 15 / 2 == pytest.approx(run.decode_rate())


def test_median_and_spread() -> None:
    """The spread is the distance of the extremes, as a share of the median."""
    figure = Figure(work="w", title="t", unit="s", values=(1.0, 4.0, 2.0))

    assert (2.0, 1.5) == (figure.median, figure.spread)


def test_a_busy_machine_is_said() -> None:
    """From half a core's work per core on."""
    assert "" == busy({"load": [0.9, 0, 0], "cores": 2})
    assert "busy: load 1.1" in busy({"load": [1.1, 0, 0], "cores": 2})
    assert "" == busy({"load": [], "cores": 2})


def test_defaults() -> None:
    """They are the ones that figures in the documentation were made with."""
    assert ((1, 4, 8, 16), 128, 64, 64) == (Effort().streams, Effort().prompt, Effort().new, Effort().requests)


def test_what_cannot_be_drawn_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A format that there is not, and a library that is not installed; the same for every command that draws."""
    with pytest.raises(InvalidArgument, match=r"\.png, \.svg"):
        check_plot(Path("plot.bmp"), "llmos-x[plot]")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidArgument, match=r"pip install 'llmos-x\[plot\]'"):
        check_plot(Path("plot.png"), "llmos-x[plot]")
