"""The benchmarks of the repository: what they make of measurements, and that the comparison runs end to end."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

import attrs
import pytest

from tests.benchmarks.encoders.report import markdown as encoder_table
from tests.benchmarks.encoders.words import sentences
from llmos_onnx.export import export_model
from tests.benchmarks import operators, records, remote
from tests.benchmarks.checkpoints import write_checkpoint
from tests.benchmarks.peers.compare import Comparing, Seat, interleaved
from tests.benchmarks.peers.environments import Home
from tests.benchmarks.peers.goals import goals
from tests.benchmarks.peers.pins import ENGINES, OURS, PEERS, Engine
from tests.benchmarks.peers.progress import Progress
from tests.benchmarks.peers.report import markdown, plot
from tests.benchmarks.peers.results import Comparison, Goal, Measurement
from tests.benchmarks.peers.worker import Place, Worker, WorkerFailed
from tests.benchmarks.peers.works import QUICK, decode, mixed, prefill, streams
from tests.benchmarks.policies import compare, simulated
from tests.benchmarks.policies.compare import Saturated, judge
from tests.benchmarks.policies.report import markdown as policy_table
from tests.benchmarks.readme import OPERATORS, POLICIES, RECORDS, REMOTE, SIMULATED, comparisons, served, write
from tests.benchmarks.readme import markdown as kernel_table
from tests.workspace import ROOT, run

UNITS = {"load": "s", "outside": "%", "shared-prefix": "×"}


def measured(work: str, engine: str, form: str, *values: float) -> Measurement:
    """Return a measurement with a title made of its work."""
    unit = UNITS.get(work, "tokens/s")
    return Measurement(work=work, title=f"the {work}", engine=engine, form=form, unit=unit, values=list(values))


def comparison(*found: Measurement, load: float = 0.1, problems: dict[str, str] | None = None) -> Comparison:
    """Return a comparison with these measurements."""
    machine = {
        "cpu": "a processor",
        "flags": ["avx2"],
        "cores": 2,
        "python": "3.11",
        "date": "2026-01-02",
        "load": [load],
    }
    engines = {
        name: {"title": ENGINES[name].title, "versions": [f"{name} 1"], "problems": problems or {}, "rss": {}}
        for name in dict.fromkeys(one.engine for one in found)
    }
    return Comparison(
        machine=machine, model="a-model", threads=2, effort={}, engines=engines, measurements=list(found),
        goals=list(goals(list(found))),
    )  # fmt: skip


RESULT = comparison(
    measured("decode-1", "llmos", "q4", 90.0, 110.0, 100.0), measured("decode-1", "llmos", "fp32", 500.0),
    measured("decode-1", "llamacpp", "q4_0", 80.0), measured("decode-1", "openvino", "int4", 50.0),
    measured("prefill-1024", "llmos", "w8a8", 900.0), measured("prefill-1024", "openvino", "int8", 1000.0),
    measured("load", "llmos", "q4", 1.0), measured("load", "llamacpp", "q4_0", 2.0),
    measured("outside", "llmos", "q4", 2.0), measured("outside", "llmos", "fp32", 7.0), load=1.5,
    problems={"int3": "no such format"},
)  # fmt: skip


# --- ratios and tables -----------------------------------------------------------------------------------------


def test_goals_are_ratios_of_medians() -> None:
    """Four-bit formats beside the best four-bit peer; a load's ratio is better small; our worst format counts alone."""
    found = {goal.title: (goal.ratio, goal.met) for goal in RESULT.goals}

    assert (1.25, True) == found["decode, 1 stream, 4-bit weights, best of the peers"]
    assert (0.9, False) == found["prefill of 1,024 tokens, OpenVINO GenAI"]
    assert (0.5, True) == found["load to first token, llama.cpp"]
    assert (7.0, False) == found["% of a 16-row step outside of the runtime"]
    assert 4 == len(found)


def test_json_round_trip(tmp_path: Path) -> None:
    """What is saved is what is loaded, and the file has medians and verdicts for other readers."""
    RESULT.save(tmp_path / "result.json")
    written = json.loads((tmp_path / "result.json").read_text("utf-8"))

    assert RESULT == Comparison.load(tmp_path / "result.json")
    assert (100.0, 0.2) == (written["measurements"][0]["median"], written["measurements"][0]["spread"])
    assert [True, False, True, False] == [goal["met"] for goal in written["goals"]]


def test_table_tells_everything() -> None:
    """Each engine's best with its format, ratios, misses, failures, the machine, versions, and that it was busy."""
    text = markdown(RESULT)

    assert "| best format of each | llmos | llama.cpp | OpenVINO GenAI |" in text
    assert "| the decode-1, tokens/s | 500 (fp32) | 80 (q4_0) | 50 (int4) |" in text
    assert "| the load, s | 1 (q4) | 2 (q4_0) | – |" in text
    assert "| 0.90 | ≥ 1 | missed |" in text
    for words in ("a processor", "2026-01-02", "llamacpp 1", "failed (int3): no such format", "busy"):
        assert words in text


def test_table_goes_between_the_marks(tmp_path: Path) -> None:
    """The rest of the README stays; a README without the marks is an error."""
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nafter\n", "utf-8")
    write(readme, "new", "speed")

    assert "before\n<!-- speed:begin -->\nnew\n<!-- speed:end -->\nafter\n" == readme.read_text("utf-8")
    with pytest.raises(ValueError, match="benchmarks:begin"):
        write(readme, "new", "benchmarks")


def test_plot(tmp_path: Path) -> None:
    """It is a picture."""
    plot(RESULT, tmp_path / "plot.png")

    assert b"\x89PNG" == (tmp_path / "plot.png").read_bytes()[:4]


# --- what is asked, and what is reported -----------------------------------------------------------------------


def test_works_are_the_same_for_everybody() -> None:
    """The same seed makes the same requests; tokens stay clear of special ones."""
    for work in (decode(24), streams(8, 24), prefill(1024), mixed(64)):
        first, second = (work.requests(random.Random(f"a {work.name}"), 512) for _ in range(2))

        assert first == second
        assert 3 <= min(min(map(min, prompts)) for prompts, _ in first)
        assert 511 >= max(max(map(max, prompts)) for prompts, _ in first)


def test_figures_are_tokens_per_second() -> None:
    """Of one set of requests all counts; of two, what the larger has more, so that what both do is left out."""
    rng = random.Random(0)
    one, several, read, answers = decode(24), streams(8, 24), prefill(1024), mixed(2)

    assert 24 / 3 == one.figure(one.requests(rng, 512), [{"seconds": 2.0}, {"seconds": 5.0}])
    assert 8 * 24 / 4 == several.figure(several.requests(rng, 512), [{"seconds": 4.0}])
    assert 1024 / 2 == read.figure(read.requests(rng, 512), [{"seconds": 2.0}])
    assert 10 / 2 == answers.figure([([[5], [5]], [3, 7])], [{"seconds": 2.0}])


def test_mixed_lengths() -> None:
    """Inputs and outputs are uniform in 32 to 256."""
    ((prompts, lengths),) = mixed(400).requests(random.Random(0), 512)
    sizes = [len(prompt) for prompt in prompts]

    for values in (sizes, lengths):
        assert 32 <= min(values) < 36
        assert 252 < max(values) <= 256
        assert 134 < sum(values) / len(values) < 154


def test_progress_counts_only_what_was_asked_for() -> None:
    """A row that is run on with its batch gets no more tokens."""
    progress = Progress([3, 1])
    assert progress.add(0, 7)
    assert progress.add(0, 8)
    assert not progress.add(1, 9)
    assert not progress.add(1, 9)
    assert not progress.add(0, 5)
    report = progress.report()

    assert [[7, 8, 5], [9]] == report["tokens"]
    assert 0 < report["seconds"]


def test_engines_take_turns() -> None:
    """Whatever the number of their formats."""
    place = Place(Path("python"), "ours", Path())
    one, other = (Engine(name=name, title=name, module="ours", formats=("a", "b")) for name in ("one", "other"))
    seats = [Seat(one, "a", place), Seat(one, "b", place), Seat(other, "a", place)]

    assert [("one", "a"), ("other", "a"), ("one", "b")] == [seat.key for seat in interleaved(seats)]


def test_pins() -> None:
    """Every package of a peer's environment is pinned, torch to a build without CUDA, and has a module to run it."""
    for peer in PEERS:
        assert peer.requirements
        for requirement in peer.requirements:
            assert "==" in requirement
            assert not requirement.startswith("torch=") or requirement.endswith("+cpu")
    for engine in (OURS, *PEERS):
        assert (ROOT / "tests" / "benchmarks" / "peers" / f"{engine.module}.py").is_file()


# --- running ---------------------------------------------------------------------------------------------------


def comparing(tmp_path: Path, *engines: Engine) -> Comparing:
    """Return a comparison of *engines* on the smallest checkpoint."""
    home = Home(tmp_path, tmp_path, lambda text: None)
    return Comparing(home=home, model="nano", vocab=512, threads=1, effort=QUICK, engines=engines)


def test_a_peer_that_cannot_be_prepared_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, and the others go on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "nano").mkdir()
    (tmp_path / "nano" / "model.safetensors").touch()
    one = comparing(
        tmp_path,
        attrs.evolve(OURS, name="broken", requirements=("nothing==0",)),
        attrs.evolve(OURS, name="x", formats=("fp32",)),
    )
    one.prepare()

    assert "uv" in one.problems["broken"]["environment"]
    assert "model.safetensors" in one.problems["x"]["fp32"]
    assert [] == one.seats


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    """The end of what it wrote is the message."""
    with Worker(Place(Path(sys.executable), "ours", tmp_path), "fp32", 1) as worker:
        with pytest.raises(WorkerFailed) as error:
            worker.start()

        assert "fp32" in str(error.value)


def test_end_to_end(tmp_path: Path) -> None:
    """One command writes a checkpoint, exports it, measures, and writes JSON and a plot."""
    places = ["--environments", tmp_path, "--models", tmp_path, "--out", tmp_path / "out.json"]
    formats = ["--engines", "llmos", "--formats", "llmos:fp32", "llmos:q4"]
    done = run(
        sys.executable, "-m", "tests.benchmarks.peers", "--model", "nano", "--quick", "--threads", "1", *places,
        *formats, cwd=tmp_path, settings={"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    result = Comparison.load(tmp_path / "out.json")
    works = {one.work for one in result.measurements}
    expected = "load load-inner decode-1 prefill-128 prefill-1024 streams-8 streams-16 shared-prefix outside requests"
    assert set(expected.split()) == works
    assert {} == result.engines["llmos"]["problems"]
    # A difference of two short runs can be anything on a busy machine.
    whole = [one for one in result.measurements if one.work != "decode-1"]
    assert all(value > 0 for one in whole for value in one.values)
    assert set(result.engines["llmos"]["rss"]) == {"fp32", "q4"}


def test_documents_show_the_committed_figures() -> None:
    """Their tables are what is generated from the JSON of the last runs."""
    text = (ROOT / "README.md").read_text("utf-8")

    assert comparisons() in text
    assert kernel_table() in text
    assert operators.markdown(OPERATORS) in (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert policy_table(POLICIES) in (ROOT / "plugins" / "schedulers" / "README.md").read_text("utf-8")
    assert simulated.markdown(SIMULATED) in (ROOT / "plugins" / "simulator" / "README.md").read_text("utf-8")
    assert records.markdown(RECORDS) in (ROOT / "plugins" / "data" / "README.md").read_text("utf-8")
    assert served() in (ROOT / "plugins" / "server" / "README.md").read_text("utf-8")
    assert remote.markdown(REMOTE) in (ROOT / "plugins" / "remote" / "README.md").read_text("utf-8")


def test_simulated_waits_are_within_their_goal() -> None:
    """In the committed run, means and 95th percentiles of three workloads are simulated within 15 %."""
    found = json.loads(SIMULATED.read_text("utf-8"))["workloads"]

    assert 3 == len(found)
    assert all(abs(one["errors"][name]) <= 0.15 for one in found for name in ("mean", "p95"))


def test_files_are_processed_as_fast_as_they_should_be() -> None:
    """In the committed run over a million records, with one process and with two workers."""
    found = json.loads(RECORDS.read_text("utf-8"))

    assert 1_000_000 == found["records"]
    assert all(found["speed"][way] >= goal for way, goal in found["goals"].items())


def test_ways_to_a_far_end_are_compared() -> None:
    """Every way gets the same answer from the benchmark's far end, and has its time."""
    found = remote.calls(3)

    assert 4 == len(found)
    assert all(one.n == 3 and one.median > 0 for one in found)


def test_policies_meet_their_goals() -> None:
    """In the committed run, short requests are served early at little cost, and in time below saturation."""
    data = json.loads(POLICIES.read_text("utf-8"))
    first, *others = judge([Saturated(**run) for run in data["saturated"]])

    assert ["fifo", "priority", "fair"] == [first.policy, *(one.policy for one in others)]
    assert all(one.ratio <= 0.3 for one in others)
    assert all(one.cost <= 0.05 for one in others)
    assert {"edf": 0} == {run["policy"]: run["missed"] for run in data["loaded"] if run["policy"] == "edf"}


def test_policies_are_judged_beside_fifo() -> None:
    """The 95th percentile of all runs of a policy, and its mean throughput, over those under fifo."""
    slow = Saturated(policy="fifo", firsts=[10.0] * 100, throughput=200.0, batch_rate=1.0, swapped=1)
    quick = attrs.evolve(slow, policy="priority", firsts=[1.0] * 100)
    runs = [
        slow,
        attrs.evolve(quick, firsts=[1.0] * 95 + [2.0] * 5, throughput=180.0),
        attrs.evolve(slow, policy="fair", firsts=[5.0], throughput=210.0),
        quick,
    ]
    _, priority, fair = judge(runs)

    assert (0.1, 2) == (priority.ratio, priority.swapped)
    assert 0.05 == pytest.approx(priority.cost)
    assert 0.5 == fair.ratio
    assert -0.05 == pytest.approx(fair.cost)


def test_policies_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog and short requests, then both below saturation, on a small model."""
    write_checkpoint("nano", tmp_path / "nano")
    export_model(tmp_path / "nano", tmp_path / "folder", weights="fp32")
    for name, value in {"FILLING": 0.2, "LASTING": 0.5, "RATE": 20.0, "LONG": ((20, 60), (20, 60))}.items():
        monkeypatch.setattr(compare, name, value)

    found = compare.saturated(tmp_path / "folder", "fair")
    below = compare.loaded(tmp_path / "folder", "edf", batch_rate=5.0, seconds=0.5)

    assert found.throughput > 0
    assert 0 < min(found.firsts)
    assert below.missed <= below.interactive
    assert 0 < below.slowest


def test_sentences_of_mixed_lengths() -> None:
    """The same seed makes the same sentences; most are short, some are long, none is longer than the model reads."""
    found = sentences(random.Random(1), 1000)
    lengths = sorted(len(text.split()) for text in found)

    assert found == sentences(random.Random(1), 1000)
    assert 3 == lengths[0]
    assert 10 < lengths[500] < 25
    assert 80 < lengths[-1] <= 180


def test_table_of_encoders() -> None:
    """Every engine and format is in it, with the ratio that counts and whether it is what it must be."""
    found = Comparison(
        machine={"cpu": "a processor", "cores": 2, "date": "2026-01-02"}, model="a-model", threads=2,
        effort={"texts": 256, "rounds": 9},
        engines={"llmos": {"title": "llmos", "versions": ["llmos 1"]}, "plain": {"title": "plain", "versions": ["2"]}},
        measurements=[measured("embed", "llmos", "fp32", 90.0, 110.0, 100.0), measured("embed", "plain", "fp32", 50.0)],
        goals=[Goal(title="fp32, beside plain", ours="100", theirs="50", ratio=2.0, must=1.0)],
    )  # fmt: skip
    lines = encoder_table(found).splitlines()

    assert "| llmos | fp32 | 100 | 20% |  |" in lines
    assert "| fp32, beside plain | 100 | 50 | 2.00 | ≥ 1 | met |" in lines
    assert "- plain: 2" in lines


def test_operators_of_a_run(tmp_path: Path) -> None:
    """Every operator's time is counted once, as attention, products with weights, or the rest."""
    write_checkpoint("nano", tmp_path / "nano")
    export_model(tmp_path / "nano", tmp_path / "folder", weights="w8a8")

    found = operators.spent(tmp_path / "folder", operators.Case("some", 2, 1, 3), threads=1)

    assert 0 < min(found.attention, found.products, found.rest)
    assert sum(found.operators.values()) == pytest.approx(found.whole)
    assert {"GroupQueryAttention", "QGemm", "SkipSimplifiedLayerNormalization"} <= set(found.operators)
