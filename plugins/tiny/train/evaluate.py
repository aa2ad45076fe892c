"""Measure a checkpoint, or a model folder, on texts that were kept from the training.

    python evaluate.py checkpoint                                       # the checkpoint, with torch
    python evaluate.py checkpoint --folder ../src/llmos_tiny/model      # the model folder, with llmos

Every task has two test sets, *combination* (unseen content, known wording) and *phrasing* (unseen wording), in three
seeds each.  The score is exact match; for stories it is the share whose continuation is grammatical, keeps to its
characters and comes to an end.  The figures of the model card are those of ``card.py``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from tiny_corpus import BOS, TASKS, Example, Split, held_out, is_grammatical

Continue = Callable[[list[Example], int], list[str | None]]
LIMITS = {"story": 200, "chat": 60}


def score(example: Example, written: str | None) -> bool:
    """Return whether what the model wrote is right."""
    if written is None:
        return False
    if example.task.startswith("story"):
        return is_grammatical(example.opening, written.strip())
    return written.strip() == example.answer


def measure(run: Continue, task: str, split: Split, seed: int, count: int) -> tuple[float, list[dict[str, str]]]:
    """Return the score on one test set, and the first failures."""
    examples = held_out(task, split, seed, count)
    limit = LIMITS.get(task.split("-", maxsplit=1)[0], 48)
    written = run(examples, limit)
    right = [score(e, w) for e, w in zip(examples, written, strict=True)]
    wrong = [
        {"prompt": e.prompt().removeprefix(BOS), "expected": e.answer, "written": w or "(no end)"}
        for e, w, ok in zip(examples, written, right, strict=True)
        if not ok
    ]
    return sum(right) / count, wrong[:3]


def evaluate(run: Continue, options: argparse.Namespace) -> dict[str, Any]:
    """Return the scores of all tasks, in per cent."""
    results: dict[str, Any] = {}
    for task in options.tasks:
        for split in (Split.COMBINATION, Split.PHRASING):
            if split is Split.COMBINATION and task.startswith("chat"):
                continue  # its questions have no content to combine
            measured = [measure(run, task, split, seed, options.count) for seed in options.seeds]
            scores = [round(100 * share, 1) for share, _ in measured]
            entry = {"mean": round(fmean(scores), 1), "low": min(scores), "high": max(scores), "scores": scores}
            results.setdefault(task, {})[split.value] = entry
            print(f"{task:18s} {split.value:12s} {entry['mean']:5.1f}  ({entry['low']} to {entry['high']})", flush=True)
            for failure in (f for _, wrong in measured for f in wrong[: options.failures]):
                print(f"    {failure['prompt']} -> {failure['written']!r}, not {failure['expected']!r}")
    return results


def fill_card(card: Path, text: str, mark: str) -> None:
    """Put *text* into the model card, between the marks of that name."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, rest = card.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    card.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--folder", type=Path, help="measure this model folder instead, through llmos")
    parser.add_argument("--out", type=Path, help="write the scores here, as JSON")
    parser.add_argument("--count", type=int, default=100, help="texts in a test set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--failures", type=int, default=0, help="show so many failures of each test set")
    options = parser.parse_args()
    start = time.time()
    engine = importlib.import_module("folder_engine" if options.folder else "torch_engine")
    tasks = evaluate(engine.load(options.folder or options.checkpoint), options)
    report = {
        "training": json.loads((options.checkpoint / "training.json").read_text()),
        "measured": "model folder, by llmos" if options.folder else "checkpoint, by torch",
        "count": options.count,
        "seeds": options.seeds,
        "tasks": tasks,
    }
    print(f"{time.time() - start:.0f} s")
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
