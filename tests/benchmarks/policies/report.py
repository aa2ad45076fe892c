"""The tables of the documents, from the committed figures."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.policies.compare import DEADLINE, RATE, Loaded, Saturated, judge


def markdown(path: Path) -> str:
    """Return the tables of the figures in the file at *path*."""
    data = json.loads(path.read_text("utf-8"))
    heads = "policy", "first token, median", "95th percentile", "of `fifo`'s", "tokens/s", "cost", "swapped", "n"
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|---|---|"]
    for one in judge([Saturated(**run) for run in data.get("saturated", ())]):
        ratio, cost = (f"{one.ratio:.2f}", f"{one.cost:+.1%}") if one.policy != "fifo" else ("", "")
        times = f"{one.p50:.2f} s | {one.p95:.2f} s"
        lines.append(
            f"| `{one.policy}` | {times} | {ratio} | {one.throughput:.0f} | {cost} | {one.swapped} | {one.n} |"
        )
    lines += [
        "",
        f"| policy at {_load(data):.0%} load | missed deadlines of {DEADLINE:g} s | slowest | batch, 95th percentile |",
        "|---|---|---|---|",
    ]
    for run in (Loaded(**fields) for fields in data.get("loaded", ())):
        missed = f"{run.missed} of {run.interactive}"
        lines.append(f"| `{run.policy}` | {missed} | {run.slowest:.2f} s | {run.batch_p95:.1f} s |")
    facts = data["machine"]
    where = (
        f"`{data['model']}`, 16 places, {RATE:g} interactive requests a second; {facts['cpu']}, {facts['cores']} cores"
    )
    return "\n".join([*lines, "", f"{where}, {facts['date']}."])


def _load(data: dict[str, list[dict[str, float]]]) -> float:
    return next((run["load"] for run in data.get("loaded", ())), 0.0)
