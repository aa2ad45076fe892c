"""``python -m tests.benchmarks.peers --model smollm2-135m --out FILE``: prepare the peers and compare."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from llmos.cli.machine import machine
from tests.benchmarks.checkpoints import SHAPES
from tests.benchmarks.peers.compare import Comparing
from tests.benchmarks.peers.environments import Home
from tests.benchmarks.peers.goals import goals
from tests.benchmarks.peers.pins import ENGINES, OURS, Engine
from tests.benchmarks.peers.report import plot, print_tables
from tests.benchmarks.peers.results import Comparison
from tests.benchmarks.peers.works import FULL, QUICK

CACHE = Path.home() / ".cache" / "llmos-benchmarks"
_OURS = ("llmos-kernel", "llmos-onnx", "onnxruntime-gpu", "onnxruntime")


def main() -> None:
    """Prepare, compare, print, and write what was found."""
    options = _options()
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - begin:6.0f} s  {text}", file=sys.stderr, flush=True)

    engines = [ENGINES[name] for name in dict.fromkeys([OURS.name, *options.engines])]
    comparing = Comparing(
        home=Home(options.environments, options.models, say), model=options.model, vocab=SHAPES[options.model].vocab,
        threads=options.threads, effort=QUICK if options.quick else FULL, engines=_with_formats(engines, options),
    )  # fmt: skip
    comparing.prepare()
    if options.prepare:
        return
    facts = machine()
    comparing.measure()
    result = Comparison(
        machine=facts, model=options.model, threads=options.threads, effort=attrs.asdict(comparing.effort),
        engines=_engines(comparing), measurements=comparing.measurements, goals=list(goals(comparing.measurements)),
    )  # fmt: skip
    print_tables(result)
    if options.out:
        result.save(options.out)
        say(f"wrote {options.out}")
    if options.plot:
        plot(result, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description="Compare llmos with peers.")
    parser.add_argument("--model", choices=SHAPES, default="smollm2-135m", help="the shape; its weights are random")
    parser.add_argument("--out", type=Path, help="write what was found to this JSON file")
    parser.add_argument("--plot", type=Path, help="draw it into this PNG; needs matplotlib")
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=list(ENGINES), help="default: all")
    parser.add_argument(
        "--formats", nargs="*", metavar="ENGINE:FORMAT", default=[], help="of these engines, only these"
    )
    parser.add_argument("--quick", action="store_true", help="one round of less, to see that it works")
    parser.add_argument("--prepare", action="store_true", help="only make environments and models")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--environments", type=Path, default=CACHE, help="where peer-NAME environments are (%(default)s)"
    )
    parser.add_argument("--models", type=Path, default=CACHE, help="where checkpoints and models are (%(default)s)")
    return parser.parse_args()


def _with_formats(engines: list[Engine], options: argparse.Namespace) -> list[Engine]:
    """Return *engines* with the formats that were asked for."""
    asked: dict[str, list[str]] = {}
    for word in options.formats:
        name, _, form = word.partition(":")
        if name not in ENGINES or form not in ENGINES[name].formats:
            known = ", ".join(f"{engine.name}:{form}" for engine in engines for form in engine.formats)
            sys.exit(f"--formats: {word!r} is none of {known}")
        asked.setdefault(name, []).append(form)
    return [attrs.evolve(engine, formats=tuple(asked.get(engine.name, engine.formats))) for engine in engines]


def _engines(comparing: Comparing) -> dict[str, Any]:
    """Return what is known of each engine: what it is, what it holds in memory, and what went wrong."""
    installed = {dist.name: dist.version for dist in metadata.distributions() if dist.name in _OURS}
    found: dict[str, Any] = {}
    for engine in comparing.engines:
        versions = [f"{name} {version}" for name, version in sorted(installed.items())]
        found[engine.name] = {
            "title": engine.title, "versions": list(engine.requirements) or versions,
            "formats": list(engine.formats), "problems": comparing.problems.get(engine.name, {}),
            "rss": {seat.form: seat.facts.get("rss") for seat in comparing.seats if seat.engine is engine},
        }  # fmt: skip
    return found


if __name__ == "__main__":
    main()
