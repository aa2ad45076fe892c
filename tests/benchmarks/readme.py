"""Writes the table of the README from the last figures: ``python -m tests.benchmarks.readme``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__" and not __package__:  # run as a file
    sys.path.insert(0, str(ROOT))

from tests.benchmarks.figures import cells, load  # noqa: E402 - the path comes first

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
RESULTS = Path(__file__).parent / "results" / "kernel.json"


def markdown(path: Path = RESULTS) -> str:
    """Return the figures as a table."""
    facts, figures = load(path)
    lines = ["| what | median | p99 | n | goal | | reference in the same run |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells(one))} |" for one in figures]
    lines += ["", f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['date']}."]
    return "\n".join(lines)


def write(readme: Path, text: str) -> None:
    """Replace what stands between the two marks; raise `ValueError` where they are not."""
    head, begin, rest = readme.read_text("utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme.name} has no place for the table: {BEGIN} and {END}")
    readme.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", "utf-8")


if __name__ == "__main__":
    write(ROOT / "README.md", markdown())
