"""The figures of serving as tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

SHORT = 8
"""Tokens of a short answer on average: of what it costs, more is the request's than its tokens'."""
COST, ADDED, MEMORY = 0.05, 2.0, 200
"""What serving may cost: a share of the throughput, milliseconds to the first token, MB for the streams that wait."""


def goals(run: Mapping[str, Any]) -> dict[str, tuple[float, bool]]:
    """Return each figure that has a goal, in the goal's unit, and whether it is met: medians of the rounds."""
    cost, memory = _cost(run, "closed"), run["idle"]["bytes"] / 1e6
    added = {f"added, {load}": _added(run, load) for load in ("open", "closed")}
    return {
        "cost": (cost, cost <= COST), "memory": (memory, memory <= MEMORY),
        **{name: (later, later <= ADDED) for name, later in added.items()},
    }  # fmt: skip


def _cost(run: Mapping[str, Any], load: str) -> float:
    """Return the share of the throughput that serving costs, each side beside the other of its round."""
    return statistics.median(1 - two["tokens_per_second"] / one["tokens_per_second"] for one, two in _pairs(run, load))


def _added(run: Mapping[str, Any], load: str) -> float:
    """Return by how many milliseconds the first token comes later."""
    return statistics.median(1e3 * (two["first_p50"] - one["first_p50"]) for one, two in _pairs(run, load))


def _pairs(run: Mapping[str, Any], load: str) -> list[tuple[dict[str, float], dict[str, float]]]:
    return [(one[load]["embedded"], one[load]["served"]) for one in run["rounds"]]


def markdown(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of one or several models."""
    facts = runs[0]["machine"]
    where = f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['date']}"
    sizes = ", ".join(f"`{run['model']}` with {run['threads']} thread{'s' * (run['threads'] > 1)}" for run in runs)
    return "\n".join([*_costs(runs), "", *_crowds(runs), "", f"{sizes}; {where}."])


def _costs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [f"`{run['model']}`" for run in runs]
    later = f"first token later by (≤ {ADDED:.0f} ms)"
    rows = {
        "embedded, tokens/s": [f"{_rate(run, 'embedded'):,.0f}" for run in runs],
        "served, tokens/s": [f"{_rate(run, 'served'):,.0f}" for run in runs],
        f"throughput that serving costs (≤ {COST:.0%})": [_judged(run, "cost", "{:.1%}") for run in runs],
        f"the same, of answers of {SHORT} tokens": [f"{_cost(run, 'short'):.1%}" for run in runs],
        f"{later}, requests come by themselves": [_judged(run, "added, open", "{:.1f} ms") for run in runs],
        f"{later}, 16 clients in a closed loop": [_judged(run, "added, closed", "{:.1f} ms") for run in runs],
        f"memory of {runs[0]['idle']['streams']:,} streams that wait (≤ {MEMORY} MB)": [
            _judged(run, "memory", "{:.0f} MB") for run in runs
        ],
    }
    head = [f"| at 16 streams | {' | '.join(names)} |", "|---" * (len(runs) + 1) + "|"]
    return [*head, *(f"| {what} | {' | '.join(cells)} |" for what, cells in rows.items())]


def _rate(run: Mapping[str, Any], way: str) -> float:
    found: float = statistics.median(one["closed"][way]["tokens_per_second"] for one in run["rounds"])
    return found


def _judged(run: Mapping[str, Any], name: str, form: str) -> str:
    value, met = goals(run)[name]
    return f"{form.format(value)} {'met' if met else 'missed'}"


def _crowds(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = "model", "clients", "tokens/s", "first token, median", "95th percentile", "between tokens", "failed"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for run in runs:
        named = [(f"{one['clients']}", one) for one in run["crowds"]]
        named += [(f"come at {one['share']:.0%} of the highest rate", one) for one in run["loads"]]
        named += [(f"16, {peer}", one) for peer, one in run["peers"].items()]
        lines += [
            f"| `{run['model']}` | {name} | {one['tokens_per_second']:,.0f} | {1e3 * one['first_p50']:,.0f} ms | "
            f"{1e3 * one['first_p95']:,.0f} ms | {1e3 * one['between_p50']:.1f} ms | {one['failed']} |"
            for name, one in named
        ]
    return lines
