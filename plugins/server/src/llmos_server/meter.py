"""How fast and how soon: figures from the tasks that somebody may see."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import attrs

from llmos_server.console import Ended

WINDOW = 300
"""Seconds that figures look back."""
QUANTILES = (0.5, 0.95, 0.99)
RECENT = 64
"""Tasks of a model from which its speed is told."""


def latency(tasks: Iterable[Ended], now: float) -> dict[str, dict[str, float | int | None]]:
    """Return quantiles, in seconds, over the tasks that ended well within `WINDOW` seconds before *now*.

    ``first`` is the time to the first token, ``between`` that between two tokens, ``whole`` that of the answer.
    Quantiles are of the nearest rank (Hyndman and Fan 1996, definition 1), so each is a time that somebody waited.
    """
    told = [task for task in tasks if task.state == "done" and task.generated and now - task.ended <= WINDOW]
    values = {
        "first": [task.queued + task.prefill for task in told],
        "between": [task.decode / (task.generated - 1) for task in told if task.generated > 1],
        "whole": [task.age for task in told],
    }
    return {name: _quantiles(sorted(found)) for name, found in values.items()}


def _quantiles(values: Sequence[float]) -> dict[str, float | int | None]:
    ranks = {f"p{share * 100:g}": math.ceil(share * len(values)) - 1 for share in QUANTILES}
    return {"count": len(values), **{name: values[rank] if values else None for name, rank in ranks.items()}}


def speed(tasks: Sequence[Ended], model: str) -> dict[str, float | int | None]:
    """Return the middle speeds, in tokens per second, of the last `RECENT` tasks of *model*.

    ``decode`` is that of one answer while it is generated, ``prefill`` that of reading its prompt.
    """
    found = [task for task in tasks if task.model == model and task.state == "done"][:RECENT]
    decode = [(task.generated - 1) / task.decode for task in found if task.generated > 1 and task.decode > 0]
    prefill = [(task.prompt - task.cached) / task.prefill for task in found if task.prefill > 0 and task.prompt]
    return {
        "tasks": len(found), "decode": median(decode) if decode else None,
        "prefill": median(prefill) if prefill else None,
    }  # fmt: skip


def history(tasks: Iterable[Ended], now: float) -> list[dict[str, float]]:
    """Return what each of the last `WINDOW` seconds was like, that of *now* too, the oldest first, as the *tasks* tell.

    Tokens are spread evenly over the time in which a task read its prompt or generated.  Seconds before the first of
    the tasks are left out, because nothing is known of them.
    """
    first = math.floor(now) - WINDOW + 1
    rows = [dict.fromkeys(("prompt", "generated", "waiting", "running"), 0.0) for _ in range(WINDOW)]
    oldest = WINDOW
    for task in tasks:
        began, spoke = task.accepted + task.queued, task.ended - task.decode
        oldest = min(oldest, max(0, math.floor(task.accepted) - first))
        _spread(rows, "prompt", (began - first, spoke - first), task.prompt - task.cached if task.prefill else 0)
        _spread(rows, "generated", (spoke - first, task.ended - first), task.generated)
        _spread(rows, "waiting", (task.accepted - first, began - first), task.queued)
        _spread(rows, "running", (began - first, task.ended - first), task.prefill + task.decode)
    return [{"at": float(first + index), **row} for index, row in enumerate(rows) if index >= oldest]


def _spread(rows: Sequence[dict[str, float]], name: str, span: tuple[float, float], amount: float) -> None:
    """Add *amount* to the seconds that *span* covers, to each by its share."""
    begin, end = span
    if end <= begin:
        if amount and 0 <= begin < len(rows):
            rows[math.floor(begin)][name] += amount
        return
    for index in range(max(0, math.floor(begin)), min(len(rows), math.ceil(end))):
        rows[index][name] += amount * (min(end, index + 1) - max(begin, index)) / (end - begin)


@attrs.define
class Meter:
    """How many tokens were read and generated between one look and the next."""

    _known: dict[int, tuple[int, int]] = attrs.field(factory=dict, init=False)
    """Prompt tokens that were read and tokens that were generated, by task, at the last look."""
    _at: float | None = attrs.field(default=None, init=False)

    def tick(self, live: Sequence[Mapping[str, Any]], ended: Iterable[Ended], now: float) -> dict[str, float]:
        """Return the rates since the last look, in tokens per second, and how many wait and run *now*."""
        before, last, self._known = self._known, self._at, {task["id"]: _counts(task) for task in live}
        self._at = now
        states = Counter(task["state"] for task in live)
        running = states["running"]
        row = {"at": now, "waiting": len(live) - running, "running": running, "preempted": states["preempted"]}
        if last is None or now <= last:
            return {**row, "prompt": 0.0, "generated": 0.0}
        made = dict(self._known)
        made |= {task.id: _counts(attrs.asdict(task, recurse=False)) for task in ended if task.ended > last}
        sums = [sum(_more(before, id, counts)[part] for id, counts in made.items()) for part in (0, 1)]
        return {**row, "prompt": sums[0] / (now - last), "generated": sums[1] / (now - last)}


def _counts(task: Mapping[str, Any]) -> tuple[int, int]:
    read = task["prompt"] - task["cached"] if task["generated"] or task["decode"] else 0
    return read, task["generated"]


def _more(before: Mapping[int, tuple[int, int]], id: int, counts: tuple[int, int]) -> tuple[int, int]:
    read, made = before.get(id, (0, 0))
    return max(0, counts[0] - read), max(0, counts[1] - made)
