"""Measure a checkpoint in each format of weights that the exporter writes: exact match, and perplexity, by llmos.

    python formats.py checkpoint --out results.json --card ../MODEL_CARD.md

Exact match is the mean over all test sets of ``evaluate.py``.  Perplexity is that of the right answers of the same kinds
of texts, their ends included: exp(-mean log p(token | what stands before it)).  It needs no torch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from math import exp, fsum
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluate import evaluate, fill_card
from folder_engine import load, log_probabilities
from llmos_onnx.export import export_model
from tiny_corpus import TASKS, Example, Split, held_out

FORMATS = ("fp32", "w8a8", "q8", "q4")
MARK = "formats"
ALLOWED = 1.0
"""Points of exact match that a format may be away from fp32."""


def texts(tasks: list[str], count: int) -> Iterator[Example]:
    """Yield *count* texts of each test set of *tasks*, of a seed that measures nothing else."""
    for task in tasks:
        for split in (Split.COMBINATION, Split.PHRASING):
            if split is Split.PHRASING or not task.startswith("chat"):
                yield from held_out(task, split, 3, count)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is known of one model folder."""
    found = log_probabilities(folder, list(texts(options.tasks, options.texts)))
    tasks = evaluate(load(folder), options)
    means = [split["mean"] for splits in tasks.values() for split in splits.values()]
    return {
        "megabytes": round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1),
        "exact": round(fmean(means), 2),
        "perplexity": round(exp(-fsum(found) / len(found)), 3),
        "tokens": len(found),
        "tasks": tasks,
    }


def table(formats: dict[str, Any]) -> str:
    """Write the results as a Markdown table, and say which format is too far from fp32."""
    lines = ["| weights | folder | exact match | against fp32 | perplexity |", "|---|---|---|---|---|"]
    base = formats["fp32"]["exact"]
    far = [name for name, found in formats.items() if abs(found["exact"] - base) > ALLOWED]
    for name, found in formats.items():
        size, exact = f"{found['megabytes']:.1f} MB", found["exact"]
        lines.append(f"| {name} | {size} | {exact:.1f} | {exact - base:+.1f} | {found['perplexity']:.3f} |")
    verdict = f"More than {ALLOWED:.0f} point away from fp32: {', '.join(far) or 'none'}."
    return "\n".join([*lines, "", verdict])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="write the scores here, as JSON")
    parser.add_argument("--card", type=Path, required=True, help="write the table into this model card")
    parser.add_argument("--count", type=int, default=100, help="texts in a test set")
    parser.add_argument("--texts", type=int, default=10, help="texts of each test set for the perplexity")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    options = parser.parse_args()
    options.failures = 0
    formats = {}
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "model")
            export_model(options.checkpoint, folder, weights=name, name="tiny")
            formats[name] = measure(folder, options)
            print(name, {key: formats[name][key] for key in ("exact", "perplexity")}, flush=True)
    how = {"count": options.count, "seeds": options.seeds, "texts": options.texts}
    report = {"formats": {**how, "results": formats}}
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    fill_card(options.card, table(formats), MARK)


if __name__ == "__main__":
    main()
