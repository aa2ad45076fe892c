"""Results as bars with their intervals: a panel per unit, the results beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmos_evaluation.metrics import Figure
from llmos_evaluation.store import Result


def draw_results(results: Sequence[Result], path: Path) -> None:
    """Draw the figures of *results* into the PNG, SVG or PDF at *path*; needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and only who draws needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    names = [name for name in results[0].metrics if all(name in one.metrics for one in results)]
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(results[0].metrics[name].unit, []).append(name)
    heights = [len(panel) * len(results) + 1 for panel in panels.values()]
    canvas, axes = plt.subplots(
        len(panels), 1, figsize=(9, 0.35 * sum(heights) + 1), squeeze=False, height_ratios=heights,
        layout="constrained",
    )  # fmt: skip
    width = 0.8 / len(results)
    names_differ = len({one.model for one in results}) == len(results)
    for axis, (unit, panel) in zip(axes.flat, panels.items(), strict=True):
        for row, one in enumerate(results):
            figures = [one.metrics[name] for name in panel]
            places = [at + width * row for at in range(len(panel))]
            axis.barh(
                places,
                [figure.value for figure in figures],
                width,
                xerr=_reach(figures),
                label=one.model if names_differ else one.id,
            )
        axis.set_yticks(
            [at + 0.4 - width / 2 for at in range(len(panel))], [results[0].metrics[n].title for n in panel]
        )
        axis.invert_yaxis()
        axis.set_xlabel(unit)
    if len(results) > 1:
        axes.flat[0].legend()
    canvas.suptitle(f"{' and '.join(one.model for one in results)} on {results[0].suite}")
    canvas.savefig(path, dpi=120)
    plt.close(canvas)


def _reach(figures: Sequence[Figure]) -> list[list[float]]:
    """Return how far the intervals go to the left and to the right."""
    left = [max(0.0, one.value - (one.value if one.low is None else one.low)) for one in figures]
    right = [max(0.0, (one.value if one.high is None else one.high) - one.value) for one in figures]
    return [left, right]
