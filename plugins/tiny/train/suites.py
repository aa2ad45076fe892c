"""Write the test sets as suites of ``llmos eval``: what is asked of the bundled model, and what would be right.

    python suites.py ../evaluation
    llmos eval tiny ../evaluation/tasks.toml

A record's group is its task and its test set: *combination* (unseen content, known wording) or *phrasing* (unseen
wording).  Each is `COUNT` texts of each of `SEEDS`.  What a story is expected to be is one of many that would be right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_corpus import TASKS, Example, Split, held_out

COUNT = 100
"""Texts of a test set and seed."""
SEEDS = (0, 1, 2)
HEADS = {
    "tasks": 'metrics = ["exact"]\n\n[task]\ntype = "chat"\nparams = { max_tokens = 60 }\n',
    "stories": 'metrics = ["exact"]\n\n[task]\ntype = "generate"\nparams = { max_tokens = 200 }\n',
}
"""The suites, and what stands in the heads of their records."""


def suite_of(task: str) -> str:
    """Return the name of the suite that *task* belongs to."""
    return "stories" if task.startswith("story") else "tasks"


def splits(task: str) -> tuple[Split, ...]:
    """Return the test sets of *task*; questions about itself have no content to combine."""
    return (Split.PHRASING,) if task.startswith("chat") else (Split.COMBINATION, Split.PHRASING)


def records(task: str) -> Iterator[dict[str, Any]]:
    """Yield the records of *task*."""
    for split in splits(task):
        for seed in SEEDS:
            for example in held_out(task, split, seed, COUNT):
                yield {**asked(example), "expected": example.answer, "group": f"{task} {split.value}"}


def asked(example: Example) -> dict[str, Any]:
    """Return the input of *example*: the beginning of a story, or what was said before the answer."""
    if not example.question:
        return {"prompt": example.opening}
    if not example.system and len(example.turns) == 1:
        return {"messages": example.question}
    messages = [{"role": "system", "content": example.system}] if example.system else []
    for question, answer in example.turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages[:-1]}


def write(folder: Path) -> None:
    """Write the suites into *folder*."""
    folder.mkdir(exist_ok=True)
    for name, head in HEADS.items():
        (folder / f"{name}.toml").write_text(head, encoding="utf-8")
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for task in TASKS:
                if suite_of(task) == name:
                    file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records(task))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
