"""Measure the model of the package by ``llmos eval``, and write the figures into its card.

    python card.py

The suites of ``../evaluation`` are run as anybody runs them; ``../evaluation/results.json`` keeps what was found,
without the answers but with a mark for each record, in order: 1 where it is right.  It needs llmos-evaluation and no
torch.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from evaluate import fill_card
from suites import HEADS
from tiny_corpus import TASKS, Split, is_grammatical

from llmos import Client
from llmos_evaluation import Item, Metric, Result, evaluate, read_suite, scored

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "evaluation"
MARK = "results"


def story(item: Item) -> float:
    """Return 1 for a continuation that is grammatical, keeps to its characters and comes to an end."""
    return float(item.finish == "stop" and is_grammatical(item.input, item.said.strip()))


STORY = scored("story", "stories that follow the grammar and end", story)
EXTRA: dict[str, list[Metric]] = {"tasks": [], "stories": [STORY]}
"""Metrics of each suite besides its own."""
DECIDES = {"tasks": "exact", "stories": "story"}
"""The one of each suite that stands in the card."""


def measure(home: Path) -> dict[str, Any]:
    """Return what is kept of all suites; the whole results are below *home*."""
    with Client() as client, client.load_model("tiny") as model:
        return {name: summary(name, evaluate(model, read_suite(FOLDER / f"{name}.toml"), home, extra=EXTRA[name]))
                for name in HEADS}  # fmt: skip


def summary(name: str, result: Result) -> dict[str, Any]:
    """Return *result* without its records and its times, which say more of the machine, and the marks of each group."""
    marks = dict.fromkeys(result.groups, "")
    for item in result.items:
        marks[item.group] += "1" if item.scores[DECIDES[name]] else "0"
    plain = result.summary().to_plain()
    metrics = {metric: figure for metric, figure in plain["metrics"].items() if metric == DECIDES[name]}
    return {**plain, "metrics": metrics, "marks": marks}


def table(found: dict[str, Any]) -> str:
    """Write the figures as a Markdown table."""
    lines = ["| task | unseen combinations | unseen phrasings |", "|---|---|---|"]
    figures = {group: figure[DECIDES[name]] for name, one in found.items() for group, figure in one["groups"].items()}
    for task in TASKS:
        cells = [
            f"{one['value']:.1f} ({one['low']:.0f} to {one['high']:.0f})"
            if (one := figures.get(f"{task} {split.value}"))
            else "–"
            for split in (Split.COMBINATION, Split.PHRASING)
        ]
        lines.append(f"| {task} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    with tempfile.TemporaryDirectory() as home:
        found = measure(Path(home))
    (FOLDER / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    fill_card(ROOT / "MODEL_CARD.md", table(found), MARK)


if __name__ == "__main__":
    main()
