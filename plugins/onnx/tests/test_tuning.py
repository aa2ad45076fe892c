"""``llmos tune``: the fastest options win, what is nearly equal stays, and a profile holds where it was measured."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.command import remarks
from llmos_onnx.folder import read_manifest
from llmos_onnx.manifest import Manifest, Speeds
from llmos_onnx.profile import Knobs, Profile, Trial, machine, profile_path, read_profile, write_profile
from llmos_onnx.tuning import MARGIN, Measured, Tuning, alternatives, default_knobs, tune

KNOBS = Knobs(threads=1, spinning=False, step_tokens=128, arena=True, prepacking=True)
SPEEDS = Speeds(prefill=100.0, decode_1=10.0, decode_16=50.0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's own data."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(model_folder: Callable[..., Path]) -> Path:
    """A small model."""
    return model_folder("nano", "fp32")


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    """The manifest of a small model."""
    return read_manifest(folder)


def machine_where(speed: Callable[[Knobs], float]) -> Measured:
    """Return a machine on which everything runs at ``speed(knobs)`` tokens per second, every second round at half."""

    def measured(one: Knobs, other: Knobs) -> Iterator[tuple[Speeds, Speeds]]:
        for factor in itertools.cycle([1.0, 0.5]):
            yield at(speed(one) * factor), at(speed(other) * factor)

    return measured


def at(rate: float) -> Speeds:
    """Return speeds of *rate* tokens per second."""
    return Speeds(prefill=rate, decode_1=rate, decode_16=rate)


def test_fastest_wins(manifest: Manifest) -> None:
    """Each option gets the value that is fastest, whatever its default."""

    def speed(knobs: Knobs) -> float:
        return 100 + 20 * (not knobs.spinning) + 10 * (knobs.step_tokens == 128) - 30 * (not knobs.prepacking)

    profile = tune(manifest, "1.31.1", machine_where(speed)).profile

    assert attrs.evolve(default_knobs(manifest), spinning=False, step_tokens=128) == profile.knobs


@pytest.mark.parametrize(("gain", "wins"), [(MARGIN * 0.9, False), (MARGIN * 1.1, True)])
def test_margin(manifest: Manifest, gain: float, wins: bool) -> None:
    """What is better by less than the margin stays as it is."""
    profile = tune(manifest, "1.31.1", machine_where(lambda knobs: 100 if knobs.arena else 100 * (1 + gain))).profile

    assert wins is not profile.knobs.arena


def test_every_alternative_is_tried(manifest: Manifest) -> None:
    """The profile keeps all that was measured, the defaults first; who waits hears of each."""
    heard: list[tuple[str, int, int]] = []
    found = tune(manifest, "1.31.1", machine_where(lambda _: 100.0), lambda *what: heard.append(what))
    profile = found.profile

    assert ((), 0.0) == (found.untried, found.spread)
    tried = alternatives(manifest)
    assert default_knobs(manifest) == profile.knobs == profile.trials[0].knobs
    assert len(tried) + 1 == len(profile.trials)
    assert [*((f"{name} {value}", done, len(tried)) for done, (name, value) in enumerate(tried))] == heard[:-1]
    assert ("done", len(tried), len(tried)) == heard[-1]


def rounds_of(gains: list[float]) -> tuple[Measured, list[int]]:
    """Return what measures an alternative that gains so much in turn, and how many rounds of each were asked for."""
    taken: list[int] = []

    def measured(one: Knobs, other: Knobs) -> Iterator[tuple[Speeds, Speeds]]:
        taken.append(0)
        for gain in itertools.cycle(gains):
            taken[-1] += 1
            yield at(100.0), at(100.0 * (1 + gain))

    return measured, taken


@pytest.mark.parametrize(
    ("gains", "rounds", "spread"), [([0.2], 2, 0.0), ([0.0], 2, 0.0), ([0.2, -0.2], 5, 0.4), ([0.0, 0.2, 0.2], 5, 0.2)]
)
def test_rounds_that_agree_are_enough(manifest: Manifest, gains: list[float], rounds: int, spread: float) -> None:
    """Two rounds decide where they agree, five where they do not, and how far they were apart is told."""
    measured, taken = rounds_of(gains)
    found = tune(manifest, "1.31.1", measured)

    assert {rounds} == set(taken)
    assert spread == pytest.approx(found.spread)


def test_it_ends_in_time(manifest: Manifest) -> None:
    """What is not begun in time stays as it is and is named; the alternative that is being measured counts."""
    now = itertools.count()
    measured, taken = rounds_of([0.2])
    found = tune(manifest, "1.31.1", measured, until=3.0, clock=lambda: float(next(now)))
    tried = [f"{name} {value}" for name, value in alternatives(manifest)]

    assert 1 <= len(taken) < len(tried)
    assert tuple(tried[len(taken) :]) == found.untried
    assert default_knobs(manifest) != found.profile.knobs
    assert found.untried[0] in " ".join(remarks(found))


def test_busy_machines_are_told_of(manifest: Manifest) -> None:
    """Rounds far apart are worth a remark, others none."""
    profile = Profile(machine("1.31.1"), KNOBS)

    assert "busy" in " ".join(remarks(Tuning(profile, (), 0.4)))
    assert [] == remarks(Tuning(profile, (), 0.05))


def test_kept(home: Path, manifest: Manifest) -> None:
    """What was written is read again on the same machine with the same runtime, and nowhere else."""
    profile = Profile(machine("1.31.1"), KNOBS, (Trial(KNOBS, SPEEDS),))
    write_profile(home, manifest, profile)

    assert profile == read_profile(home, manifest, "1.31.1")
    assert read_profile(home, manifest, "1.32.0") is None
    assert read_profile(home, attrs.evolve(manifest, name="another"), "1.31.1") is None


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (lambda values: values.update(format=2), "format"),
        (lambda values: values["knobs"].update(threads=0), "threads"),
        (lambda values: values["knobs"].update(spin=True), "spin"),
        (lambda values: values.update(trials=[{"knobs": values["knobs"]}]), "speeds"),
        (lambda values: values.update(trials=7), "trials"),
        (lambda values: values.pop("machine"), "machine"),
    ],
)
def test_malformed(home: Path, manifest: Manifest, broken: Callable[[dict[str, object]], None], field: str) -> None:
    """A profile that somebody edited wrongly is refused by file and field, with what to do; it is not passed over."""
    path = write_profile(home, manifest, Profile(machine("1.31.1"), KNOBS))
    values = json.loads(path.read_text("utf-8"))
    broken(values)
    path.write_text(json.dumps(values), "utf-8")

    with pytest.raises(ModelUnavailable, match=field) as caught:
        read_profile(home, manifest, "1.31.1")
    assert path.name in str(caught.value)
    assert "llmos tune" in caught.value.__notes__[0]


def test_used(home: Path, folder: Path, manifest: Manifest) -> None:
    """The backend runs a folder as its profile says; the specification wins over it; `describe` says so."""
    import onnxruntime  # noqa: PLC0415 - only here

    write_profile(home, manifest, Profile(machine(onnxruntime.__version__), KNOBS))
    backend = OnnxBackend({})
    spec = ModelSpec(name="nano", backend="onnx", path=str(folder))
    tuned = backend.load(spec)
    told = backend.load(attrs.evolve(spec, options={"spinning": True, "slots": 200, "context": 32}))

    assert (True, 1, False) == tuple(tuned.describe()[name] for name in ("tuned", "threads", "spinning"))
    assert tuned.limits.tokens == 128
    assert told.describe()["spinning"] is True
    assert told.limits.tokens == 200  # a step decodes every slot
    profile_path(home, manifest).unlink()
    assert backend.load(spec).describe()["tuned"] is False
