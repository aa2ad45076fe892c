"""A comparison as people read it: tables on the terminal, Markdown, and a plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llmos.cli.machine import busy
from tests.benchmarks.peers.results import Comparison, Goal, Measurement


def print_tables(result: Comparison) -> None:
    """Print every figure, the ratios, and what went wrong."""
    console = Console()
    table = Table(title=f"{result.model}, {result.threads} threads, {_machine(result)}")
    for column in ("what", "engine", "format", "median", "unit", "spread", "note"):
        table.add_column(column)
    for one in result.measurements:
        title = result.engines[one.engine]["title"]
        table.add_row(one.title, title, one.form, f"{one.median:,.4g}", one.unit, f"{one.spread:.0%}", one.note)
    console.print(table)
    ratios = Table(title="ratios")
    for column in ("what, beside whom", "ours", "theirs", "ratio", "must be", ""):
        ratios.add_column(column)
    for goal in result.goals:
        ratios.add_row(*_goal_cells(goal))
    console.print(ratios)
    for line in (*_problems(result), *_warnings(result)):
        console.print(line)


def markdown(result: Comparison) -> str:
    """Return the figures and ratios as Markdown tables, misses and failures included."""
    names = [name for name in result.engines if any(one.engine == name for one in result.measurements)]
    lines = [f"| best format of each | {' | '.join(result.engines[name]['title'] for name in names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for work, title, unit in _works(result):
        cells = [_best_cell(result.of(work, name), unit) for name in names]
        lines.append(f"| {title}, {unit} | {' | '.join(cells)} |")
    lines += ["", "| ratio | ours | theirs | ratio | must be | |", "|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_goal_cells(goal))} |" for goal in result.goals]
    lines += ["", f"Shape of {result.model}, random weights, {result.threads} threads. {_machine(result)}.", ""]
    lines += [f"- {result.engines[name]['title']}: {', '.join(result.engines[name]['versions'])}" for name in names]
    lines += [f"- {line}" for line in (*_problems(result), *_warnings(result))]
    return "\n".join(lines)


def plot(result: Comparison, path: Path) -> None:
    """Draw a panel of bars per work into a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - only who draws needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    works = _works(result)
    columns = 3
    rows = -(-len(works) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3.2 * rows), squeeze=False, layout="constrained")
    for axis, (work, title, unit) in zip(axes.flat, works, strict=False):
        found = sorted(result.of(work), key=lambda one: one.median)
        labels = [f"{result.engines[one.engine]['title']} {one.form}" for one in found]
        colours = ["tab:orange" if one.engine == "llmos" else "tab:blue" for one in found]
        axis.barh(labels, [one.median for one in found], color=colours)
        axis.set_title(f"{title} ({unit})", fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes.flat[len(works) :]:
        axis.remove()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _works(result: Comparison) -> list[tuple[str, str, str]]:
    """Return name, title and unit of every work once: who did a part of it says so in a note."""
    works: dict[str, tuple[str, str, str]] = {}
    for one in result.measurements:
        works.setdefault(one.work, (one.work, one.title, one.unit))
    return list(works.values())


def _best_cell(found: list[Measurement], unit: str) -> str:
    """Return an engine's best figure and its format; a note says what is special."""
    if not found:
        return "–"
    smallest = unit in ("s", "×", "%")
    one = (min if smallest else max)(found, key=lambda one: one.median)
    shown = f"{one.median:,.0f}" if one.median >= 1000 else f"{one.median:.3g}"
    return f"{shown} ({one.form}{'; ' if one.note else ''}{one.note})"


def _goal_cells(goal: Goal) -> tuple[str, ...]:
    sign = "≥" if goal.at_least else "≤"
    return (
        goal.title, goal.ours, goal.theirs, f"{goal.ratio:.2f}", f"{sign} {goal.must:g}",
        "met" if goal.met else "missed",
    )  # fmt: skip


def _machine(result: Comparison) -> str:
    facts = result.machine
    flags = " ".join(facts["flags"])
    return f"{facts['cpu']} ({flags}), {facts['cores']} cores, Python {facts['python']}, {facts['date']}"


def _problems(result: Comparison) -> Iterator[str]:
    for facts in result.engines.values():
        for what, why in facts["problems"].items():
            yield f"{facts['title']} failed ({what}): {why}"


def _warnings(result: Comparison) -> Iterator[str]:
    if said := busy(result.machine):
        yield f"When this began, {said}."
