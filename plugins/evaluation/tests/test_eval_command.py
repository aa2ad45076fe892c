"""``llmos eval``, as it is typed, over a model that repeats what it is asked."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from llmos.cli import Common, run
from llmos.testing import EchoBackend, FirstComePlugin
from llmos_evaluation import find_result
from llmos_kernel.errors import InvalidArgument

SETTINGS = """
plugins = ["command:eval"]
[[models]]
name = "echo"
backend = "echo"
[[models]]
name = "short"
backend = "echo"
options = { context = 3 }
"""


@attrs.frozen
class Done:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@attrs.define
class Llmos:
    """The command line of somebody with two models."""

    echo: EchoBackend
    home: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: str) -> Done:
        """Run ``llmos eval`` with *args*."""
        code = run(("eval", *args), Common(plugins=(self.echo, FirstComePlugin())))
        return Done(code, *self.capsys.readouterr())

    def ids(self) -> list[str]:
        """Return the ids of the results that are kept, the newest first."""
        return [one["id"] for one in json.loads(self("list", "--json").out)]


@pytest.fixture
def llmos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Llmos:
    """The command line, in a folder with a suite of four records, of which echo knows three."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    Path("llmos.toml").write_text(SETTINGS)
    put("words.jsonl", ("a", "a"), ("b", "x"), ("c d e", "c d e"), ("f", "f"))
    return Llmos(EchoBackend(), tmp_path / "home", capsys)


def put(name: str, *pairs: tuple[str, str]) -> None:
    """Write lines of JSON."""
    with Path(name).open("w") as file:
        for asked, right in pairs:
            group = "long" if " " in asked else "short"
            file.write(json.dumps({"input": asked, "expected": right, "group": group}) + "\n")


def test_a_result_is_shown_and_kept(llmos: Llmos) -> None:
    """The table says it; the file has the agreed form, with what it was measured on."""
    done = llmos("echo", "words.jsonl", "--metric", "exact", "--metric", "f1")
    (path,) = (llmos.home / "evaluations").iterdir()
    kept = json.loads(path.read_text())

    assert 0 == done.code
    assert "75 %" in done.out
    assert path.stem in done.out
    assert ("echo", "words", 1, 4, 0) == tuple(kept[key] for key in ("model", "suite", "format", "records", "failed"))
    assert (75.0, 4) == (kept["metrics"]["exact"]["value"], kept["metrics"]["exact"]["n"])
    assert {"exact", "f1", "first-token", "between-tokens", "total-time", "throughput"} == set(kept["metrics"])
    assert {"short": 3, "long": 1} == {name: group["f1"]["n"] for name, group in kept["groups"].items()}
    assert ("b", ["x"], "b", "stop", {"exact": 0.0, "f1": 0.0}) == tuple(
        kept["items"][1][key] for key in ("input", "expected", "answer", "finish", "scores")
    )
    assert kept["started"] <= kept["finished"]
    assert {"cpu", "cores", "versions"} <= set(kept["machine"])
    assert [] == [*path.parent.glob("*.part")]


def test_json_is_what_is_kept(llmos: Llmos) -> None:
    """For programs; `show` prints the same, and `list` without the records."""
    made = json.loads(llmos("echo", "words.jsonl", "--json").out)
    shown = json.loads(llmos("show", made["id"][:10], "--json").out)
    (listed,) = json.loads(llmos("list", "--json").out)

    assert made == shown == json.loads((llmos.home / "evaluations" / f"{made['id']}.json").read_text())
    assert {**made, "items": []} == listed
    assert made["id"] in llmos("list").out
    assert "exact match" in llmos("show", made["id"]).out


def test_compare(llmos: Llmos) -> None:
    """Two results of one suite, record by record; of two suites it is refused."""
    put("other.jsonl", ("a", "a"))
    first, second, other = (
        json.loads(llmos("echo", *args, "--json").out)["id"]
        for args in (("words.jsonl",), ("words.jsonl", "--at-once", "1"), ("other.jsonl",))
    )
    done = llmos("compare", first, second, "--json")
    exact = next(one for one in json.loads(done.out) if one["name"] == "exact")
    refused = llmos("compare", first, other)

    time = next(one for one in json.loads(done.out) if one["name"] == "total-time")

    assert (None, None) == (time["p"], time["low"])
    assert (75.0, 75.0, 0.0, 1.0, 4) == tuple(exact[key] for key in ("first", "second", "difference", "p", "n"))
    assert "difference" in llmos("compare", first, second).out
    assert (1, True) == (refused.code, "different suites" in refused.err)


def test_a_record_that_fails(llmos: Llmos) -> None:
    """It is counted as wrong, ends no other, and the exit code says that there was one."""
    done = llmos("short", "words.jsonl", "--max-tokens", "1", "--json")
    kept = json.loads(done.out)

    assert (1, 1) == (done.code, kept["failed"])
    assert 50.0 == kept["metrics"]["exact"]["value"]
    assert "do not fit" in kept["items"][2]["error"]["message"]
    assert 3 == kept["metrics"]["first-token"]["n"]


def test_a_reference_that_is_too_long(llmos: Llmos) -> None:
    """There is no perplexity of it; its answer counts as any."""
    put("long.jsonl", ("a", "a"), ("b", "b b b b"))
    done = llmos("short", "long.jsonl", "--max-tokens", "1", "--metric", "f1", "--metric", "perplexity", "--json")
    first, second = json.loads(done.out)["items"]

    assert (1, 1) == (done.code, json.loads(done.out)["failed"])
    assert ([0.0, 1], None, None) == (first["likelihood"], first["likelihood_error"], second["likelihood"])
    assert "do not fit" in second["likelihood_error"]["message"]
    assert (pytest.approx(40.0), None) == (second["scores"]["f1"], second["error"])


@pytest.mark.parametrize("at_once", [1, 3])
def test_many_at_once(llmos: Llmos, at_once: int) -> None:
    """Never more records are under way than is said."""
    put("many.jsonl", *((f"{word} " * 5, "x") for word in "abcdefgh"))
    llmos("echo", "many.jsonl", "--at-once", str(at_once))
    rows = [len(plan.prefill) + len(plan.decode) for plan in llmos.echo.executors[0].plans]

    assert 1 <= max(rows) <= at_once


def test_classification(llmos: Llmos) -> None:
    """The answer is the likeliest label."""
    put("labels.jsonl", ("a", "odd"), ("a b", "odd"))
    kept = json.loads(llmos("echo", "labels.jsonl", "--type", "classify", "--json").out)

    assert (["odd", "even"], 50.0) == ([item["answer"] for item in kept["items"]], kept["metrics"]["exact"]["value"])


def test_options(llmos: Llmos) -> None:
    """What is typed wins over the suite: the prompt, the stop, the length, and how many records."""
    kept = json.loads(
        llmos("echo", "words.jsonl", "--prompt", "say {{ input }} now", "--stop", "now", "--limit", "2", "--json").out
    )

    assert ["say a ", "say b "] == [f"{item['answer']} " for item in kept["items"]]
    assert "say {{ input }} now" == kept["task"]["prompt"]


def test_perplexity_needs_a_backend_that_can(llmos: Llmos) -> None:
    """Echo says what it likes, so nothing is told of what is expected; the error says what would be."""
    done = llmos("echo", "words.jsonl", "--metric", "perplexity")

    assert 1 == done.code
    assert "perplexity of echo cannot be measured" in done.err
    assert [] == llmos.ids()


def test_perplexity_of_what_is_certain(llmos: Llmos) -> None:
    """Where the model can say nothing else than what is expected it is 1; alone it asks for no answers."""
    put("same.jsonl", ("a b", "a b"), ("c", "c"))
    kept = json.loads(llmos("echo", "same.jsonl", "--metric", "perplexity", "--json").out)

    assert (1.0, 2) == (kept["metrics"]["perplexity"]["value"], kept["metrics"]["perplexity"]["n"])
    assert {"perplexity"} == set(kept["metrics"])
    assert [None, None] == [item["answer"] for item in kept["items"]]
    assert 2 == sum(task.kind == "generate" for task in llmos.echo.executors[0].tasks)


@contextmanager
def ctrl_c(echo: EchoBackend) -> Iterator[None]:
    """Press Ctrl-C once a step stands at the gate, and again where the first was not noticed."""
    me = threading.get_ident()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press() -> None:
        echo.gate.wait_for_visitor()
        signal.pthread_kill(me, signal.SIGINT)
        while not echo.gate.wait_until_left(2.0):
            signal.pthread_kill(me, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()
    signal.signal(signal.SIGINT, before)


def test_interrupted_and_resumed(llmos: Llmos) -> None:
    """Ctrl-C leaves no result and 130; --resume asks only what was not answered, and then nothing is left over."""
    llmos.echo.faults.on_step = lambda number, plan: llmos.echo.gate.shut() if number == 3 else None
    with ctrl_c(llmos.echo):
        stopped = llmos("echo", "words.jsonl", "--at-once", "1")
    (part,) = (llmos.home / "evaluations").iterdir()
    answered = len(part.read_bytes().splitlines())
    llmos.echo.faults.on_step = None
    llmos.echo.gate.open()
    done = llmos("echo", "words.jsonl", "--resume", "--json")

    assert (130, True) == (stopped.code, "--resume" in stopped.err)
    assert 2 == answered
    assert (0, 75.0) == (done.code, json.loads(done.out)["metrics"]["exact"]["value"])
    assert ["c d e", "f"] == [task.input for task in llmos.echo.executors[1].tasks]
    assert [".json"] == [path.suffix for path in (llmos.home / "evaluations").iterdir()]


def test_a_line_that_was_cut(llmos: Llmos) -> None:
    """What a kill left of a line is asked again."""
    llmos.echo.faults.on_step = lambda number, plan: llmos.echo.gate.shut() if number == 3 else None
    with ctrl_c(llmos.echo):
        llmos("echo", "words.jsonl", "--at-once", "1")
    (part,) = (llmos.home / "evaluations").iterdir()
    part.write_bytes(part.read_bytes()[:-9])
    llmos.echo.faults.on_step = None
    llmos.echo.gate.open()
    done = llmos("echo", "words.jsonl", "--resume", "--json")

    assert ["b", "c d e", "f"] == [task.input for task in llmos.echo.executors[1].tasks]
    assert ["a", "b", "c d e", "f"] == [item["answer"] for item in json.loads(done.out)["items"]]


def test_plot(llmos: Llmos) -> None:
    """Of one result and of two; what cannot be drawn is said before anything runs."""
    assert 0 == llmos("echo", "words.jsonl", "--plot", "one.png").code
    assert 0 == llmos("echo", "words.jsonl").code
    assert 0 == llmos("compare", *llmos.ids(), "--plot", "two.svg").code
    refused = llmos("echo", "words.jsonl", "--plot", "three.txt")

    assert b"\x89PNG" == Path("one.png").read_bytes()[:4]
    assert "exact match" in Path("two.svg").read_text() or "<svg" in Path("two.svg").read_text()
    assert (1, True) == (refused.code, ".png" in refused.err)
    assert 2 == len(llmos.ids())


def test_which_result_is_meant(llmos: Llmos) -> None:
    """Its place, an id, the beginning of one alone, or a file; a name of none or of several is said to be."""
    made = [json.loads(llmos("echo", "words.jsonl", "--json").out)["id"] for _ in range(2)]
    one, _ = llmos.ids()
    path = llmos.home / "evaluations" / f"{one}.json"

    assert one == find_result(llmos.home, str(path)).id == find_result(llmos.home, one).id
    assert made == [find_result(llmos.home, place).id for place in ("2", "1")]
    assert (1, True) == ((done := llmos("show", "19")).code, "there is no result '19'" in done.err)
    with pytest.raises(InvalidArgument, match="one of"):
        find_result(llmos.home, one[:4])


def test_what_is_no_result(llmos: Llmos) -> None:
    """A broken file is named beside the list, and hides no other."""
    llmos("echo", "words.jsonl")
    for name, text in (("x", "{"), ("y", "[]"), ("z", '{"format": 99}')):
        (llmos.home / "evaluations" / f"{name}.json").write_text(text)
    done = llmos("list")

    assert (0, 3) == (done.code, done.err.count("is no result"))
    assert "echo" in done.out
    assert (1, True) == ((shown := llmos("show", "z")).code, "its form is 99" in shown.err)


def test_nothing_there(llmos: Llmos) -> None:
    """The list says how to make one, and looking writes nothing."""
    assert "llmos eval MODEL SUITE" in llmos("list").out
    assert not llmos.home.exists()


def test_help(llmos: Llmos) -> None:
    """A name that is no command begins a run; without anything typed the commands are listed."""
    assert "compare" in llmos("--help").out
    assert 2 == llmos("echo").code
    assert (2, True) == ((done := llmos("echo", "nowhere.jsonl")).code, "nowhere.jsonl" in done.err)
