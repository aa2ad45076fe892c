"""``--format auto`` keeps what suits the goal, says why, and leaves nothing else behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos_kernel.errors import InvalidArgument
from llmos_onnx import auto
from llmos_onnx.auto import CANDIDATES, choose, explain, ranked, settled
from llmos_onnx.export import export_model, main
from llmos_onnx.folder import open_folder, read_manifest
from llmos_onnx.manifest import Choice, Speeds
from llmos_onnx.speeds import Timed
from plugins.onnx.tests.checkpoint_writer import Recipe, write_checkpoint
from plugins.onnx.tests.driver import Driver, load

MEASURED = {
    "w8a8": Speeds(prefill=1200, decode_1=60, decode_16=330),
    "q8": Speeds(prefill=500, decode_1=70, decode_16=200),
    "q4": Speeds(prefill=560, decode_1=104, decode_16=260),
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every folder be as fast as `MEASURED` says; return the formats that were asked for."""
    asked: list[str] = []

    def measure(folder: Path) -> Timed:
        asked.append(read_manifest(folder).weights)
        return Timed(MEASURED[asked[-1]], MEASURED[asked[-1]])

    monkeypatch.setattr(auto, "measure", measure)
    return asked


@pytest.mark.parametrize(
    ("goal", "best"), [("latency", "q4"), ("throughput", "w8a8"), ("balanced", "q4"), (None, "q4")]
)
def test_the_goal_decides(
    goal: str | None, best: str, measured: list[str], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """One request alone takes 1.46 s with q4 and 2.24 s with w8a8; sixteen take 11.5 s and 7.9 s."""
    manifest = export_model(checkpoint("nano"), tmp_path / "target", weights="auto", goal=goal)

    assert [*CANDIDATES, *reversed(CANDIDATES)] == measured
    assert best == manifest.weights
    assert Choice(goal=goal or "balanced", speeds=MEASURED) == manifest.choice
    assert manifest == read_manifest(tmp_path / "target") == open_folder(tmp_path / "target").manifest
    assert ["target"] == [path.name for path in tmp_path.iterdir()]


def test_balanced_weighs_both_times() -> None:
    """Twice as fast alone is worth as much as twice as fast together."""
    slow, fast = Speeds(prefill=1e9, decode_1=10, decode_16=100), Speeds(prefill=1e9, decode_1=21, decode_16=50)

    assert ["b", "a"] == ranked(Choice(goal="balanced", speeds={"a": slow, "b": fast}))


def timed(clock: float, processor: float) -> Timed:
    """Return a round with so many tokens per second."""
    speeds = [Speeds(prefill=rate, decode_1=rate, decode_16=rate) for rate in (clock, processor)]
    return Timed(*speeds)


@pytest.mark.parametrize(
    ("first", "second", "enough"),
    [
        ([(100, 50), (99, 50)], [(98, 49), (97, 49)], True),
        ([(100, 50), (80, 50)], [(60, 30), (50, 30)], True),
        ([(100, 50), (80, 50)], [(90, 45), (89, 45)], False),
        ([(100, 50), (80, 50)], [(60, 60), (50, 60)], False),
    ],
    ids=["steady", "far apart", "not far enough", "processor time disagrees"],
)
def test_rounds_go_on_until_they_settle(
    first: list[tuple[float, float]], second: list[tuple[float, float]], enough: bool
) -> None:
    """Enough is where rounds hardly differ, or where formats differ by more, by the clock and by processor time."""
    rounds = {"a": [timed(*one) for one in first], "b": [timed(*one) for one in second]}

    assert enough is settled("latency", rounds)


def test_processor_time_decides_on_a_busy_machine() -> None:
    """Where the clock settles nothing, the format that takes least processor time is chosen, and the spread is kept."""
    rounds = {"a": [timed(100, 40), timed(50, 40)], "b": [timed(90, 60), timed(45, 60)]}
    best, choice = choose("latency", rounds)

    assert "b" == best
    assert choice.spread == pytest.approx(1.0)
    assert ["a", "b"] == ranked(choice)


def test_a_busy_machine_is_measured_more_often_and_told_of(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Rounds that never settle end after six, and a person reads why the choice may be wrong."""
    asked: list[str] = []

    def measure(folder: Path) -> Timed:
        asked.append(folder.name)
        return timed(100.0 * asked.count(folder.name) ** 2, {"w8a8": 3.0, "q8": 1.0, "q4": 2.0}[folder.name])

    monkeypatch.setattr(auto, "measure", measure)
    manifest = export_model(checkpoint("nano"), tmp_path / "target", weights="auto")

    assert 6 * len(CANDIDATES) == len(asked)
    assert "w8a8" == manifest.weights
    assert "This machine was busy: rounds of one format differ by 44%." in explain(manifest)
    assert "least processor time" in explain(manifest)[-1]
    assert manifest == read_manifest(tmp_path / "target")


def test_options_of_blocks_and_cache_reach_the_formats_that_have_them(
    measured: list[str], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A block size means nothing to w8a8; an int8 cache is for all."""
    options: dict[str, Any] = {"block_size": 32, "asymmetric": True, "kv": "int8"}
    latency = export_model(checkpoint("nano"), tmp_path / "a", weights="auto", goal="latency", **options)
    throughput = export_model(checkpoint("nano"), tmp_path / "b", weights="auto", goal="throughput", **options)

    assert latency.blocks is not None
    assert (32, False, "int8") == (latency.blocks.size, latency.blocks.symmetric, latency.kv)
    assert (None, "int8") == (throughput.blocks, throughput.kv)


def test_a_format_that_cannot_be_is_passed_over(measured: list[str], tmp_path: Path) -> None:
    """Widths that blocks do not divide leave w8a8."""
    source = write_checkpoint(tmp_path / "source", Recipe(hidden=24, heads=1, kv_heads=1, head_dim=16, mlp=24))

    manifest = export_model(source, tmp_path / "target", weights="auto")

    assert ({"w8a8"}, "w8a8") == (set(measured), manifest.weights)


def test_progress_goes_through_all_candidates(
    measured: list[str], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """It grows to one total, and says which format it is at."""
    heard: list[tuple[str, int, int]] = []

    export_model(checkpoint("nano"), tmp_path / "t", weights="auto", progress=lambda *report: heard.append(report))

    done = [done for _, done, _ in heard]
    assert sorted(done) == done
    assert {done[-1]} == {total for _, _, total in heard}
    assert heard[-1][0].startswith("q4: ")


@pytest.mark.parametrize(
    "options",
    [{"goal": "speed", "weights": "auto"}, {"goal": "latency"}, {"calibration": "x", "weights": "auto"}],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, Any], checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """An unknown goal, and one that nothing is chosen for."""
    with pytest.raises(InvalidArgument) as caught:
        export_model(checkpoint("nano"), tmp_path / "target", **options)

    assert next(iter(options)) == caught.value.fields["field"]


def test_what_exists_is_not_overwritten(measured: list[str], checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """The target is refused before anything is exported."""
    with pytest.raises(InvalidArgument, match="target"):
        export_model(checkpoint("nano"), tmp_path, weights="auto")

    assert [] == measured


def test_a_person_reads_what_was_measured_and_why(
    checkpoint: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Really measured, by the engine's own steps: a line per format, and the reason; the folder runs."""
    arguments = [str(checkpoint("nano")), str(tmp_path / "target"), "--format", "auto", "--for", "latency"]

    assert 0 == main(arguments)

    manifest = read_manifest(tmp_path / "target")
    printed = capsys.readouterr().out
    assert manifest.choice is not None
    assert set(CANDIDATES) == set(manifest.choice.speeds)
    said = explain(manifest)
    assert said == printed.splitlines()[: len(said)]
    assert said[-1].startswith(f"Chose {manifest.weights} for latency: ")
    driver = Driver(load(tmp_path / "target", slots=2, context=64))
    row = driver.add(0, [5, 6, 7], max_tokens=4, ignore_eos=True)
    driver.finish()
    assert 4 == len(row.tokens)


def test_a_folder_of_one_format_says_nothing(model_folder: Callable[..., Path]) -> None:
    """Where the format was asked for by name, there is nothing to explain."""
    assert [] == explain(read_manifest(model_folder("nano", "q4")))
