"""The figures of ``llmos bench`` as a table and as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.cli._common import say

_FACTS = ("weights", "kv", "provider", "threads", "slots", "context")


def print_table(report: Mapping[str, Any]) -> None:
    """Print what was measured, and on what."""
    from rich.console import Console  # noqa: PLC0415 - 100 ms that only this table pays
    from rich.table import Table  # noqa: PLC0415 - the same

    model = report["model"]
    said = ", ".join(f"{key} {model[key]}" for key in _FACTS if key in model)
    table = Table(title=f"{model['name']}" + (f": {said}" if said else ""), title_justify="left")
    table.add_column("what")
    for column in ("median", "spread", "n"):
        table.add_column(column, justify="right")
    for figure in report["figures"]:
        spread = f"{figure['spread']:.0%}" if len(figure["values"]) > 1 else ""
        median = f"{figure['median']:,.4g} {figure['unit']}"
        table.add_row(figure["title"], median, spread, str(len(figure["values"])))
    Console().print(table)
    for why in report["skipped"]:
        say(why, "left out: ")
    facts = report["machine"]
    flags, versions = " ".join(facts["flags"]), ", ".join(f"{key} {value}" for key, value in facts["versions"].items())
    say(f"{facts['cpu']}, {facts['cores']} cores ({flags}), load {facts['load']}, {facts['date']}")
    say(f"Python {facts['python']}, {versions}")


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw the figures, a panel per unit and a bar with its spread per figure, into a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and only who draws needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    units = list(dict.fromkeys(figure["unit"] for figure in report["figures"]))
    by_unit = [[figure for figure in report["figures"] if figure["unit"] == unit] for unit in units]
    heights = [len(figures) + 1 for figures in by_unit]
    canvas, axes = plt.subplots(
        len(units), 1, figsize=(9, 0.4 * sum(heights) + 1), squeeze=False, height_ratios=heights, layout="constrained"
    )
    for axis, unit, figures in zip(axes.flat, units, by_unit, strict=True):
        medians = [figure["median"] for figure in figures]
        reach = [
            [figure["median"] - min(figure["values"]) for figure in figures],
            [max(figure["values"]) - figure["median"] for figure in figures],
        ]
        axis.barh([figure["title"] for figure in figures], medians, xerr=reach)
        axis.invert_yaxis()
        axis.set_xlabel(unit)
    canvas.suptitle(f"{report['model']['name']} on {report['machine']['cpu']}")
    canvas.savefig(path, dpi=120)
    plt.close(canvas)
