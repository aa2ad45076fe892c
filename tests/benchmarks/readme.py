"""Writes the tables of the documents from the committed figures: ``python -m tests.benchmarks.readme``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__" and not __package__:  # run as a file
    sys.path.insert(0, str(ROOT))

from tests.benchmarks.encoders import report as embedding  # noqa: E402 - the path comes first
from tests.benchmarks.figures import cells, load  # noqa: E402 - the path comes first
from tests.benchmarks import operators, records, remote  # noqa: E402 - the same
from tests.benchmarks.peers import report  # noqa: E402 - the same
from tests.benchmarks.policies import report as waiting  # noqa: E402 - the same
from tests.benchmarks.policies import simulated  # noqa: E402 - the same
from tests.benchmarks.peers.results import Comparison  # noqa: E402 - the same
from tests.benchmarks.serving.report import markdown as serving  # noqa: E402 - the same

RESULTS = Path(__file__).parent / "results"
KERNEL = RESULTS / "kernel.json"
ENCODERS = RESULTS / "encoders-minilm.json"
SIMULATED = RESULTS / "simulated-smollm2-135m.json"
POLICIES = RESULTS / "policies-smollm2-135m.json"
SERVED = [RESULTS / "serving-tiny.json", RESULTS / "serving-smollm2-135m.json"]
RECORDS = RESULTS / "records.json"
REMOTE = RESULTS / "remote.json"
OPERATORS = RESULTS / "operators-smollm2-135m.json"


def markdown(path: Path = KERNEL) -> str:
    """Return the kernel's figures as a table."""
    facts, figures = load(path)
    lines = ["| what | median | p99 | n | goal | | reference in the same run |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells(one))} |" for one in figures]
    lines += ["", f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['date']}."]
    return "\n".join(lines)


def comparisons(folder: Path = RESULTS) -> str:
    """Return the tables of every comparison with peers, those with the smallest file name first."""
    found = [report.markdown(Comparison.load(path)) for path in sorted(folder.glob("peers-*.json"))]
    return "\n\n".join(found) or "Not measured yet."


def encoders(path: Path = ENCODERS) -> str:
    """Return the tables of the model that embeds."""
    return embedding.markdown(Comparison.load(path)) if path.exists() else "Not measured yet."


def served() -> str:
    """Return the tables of what serving costs."""
    return serving([json.loads(path.read_text("utf-8")) for path in SERVED])


def write(readme: Path, text: str, name: str) -> None:
    """Replace what stands between the two marks called *name*; raise `ValueError` where they are not."""
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, begin, rest = readme.read_text("utf-8").partition(first)
    _, end, tail = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"{readme.name} has no place for the table: {first} and {last}")
    readme.write_text(f"{head}{first}\n{text}\n{last}{tail}", "utf-8")


if __name__ == "__main__":
    write(ROOT / "README.md", markdown(), "benchmarks")
    write(ROOT / "README.md", comparisons(), "speed")
    write(ROOT / "README.md", encoders(), "encoders")
    write(ROOT / "docs" / "benchmarks.md", operators.markdown(OPERATORS), "operators")
    write(ROOT / "plugins" / "schedulers" / "README.md", waiting.markdown(POLICIES), "policies")
    write(ROOT / "plugins" / "simulator" / "README.md", simulated.markdown(SIMULATED), "simulated")
    write(ROOT / "plugins" / "data" / "README.md", records.markdown(RECORDS), "records")
    write(ROOT / "plugins" / "remote" / "README.md", remote.markdown(REMOTE), "remote")
    write(ROOT / "plugins" / "server" / "README.md", served(), "serving")
