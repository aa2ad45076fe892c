"""Reports as pictures.  matplotlib is an extra, and imported when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from llmos_simulator.report import POINTS, Report

MOMENTS = 60
"""About how many points a curve over time has."""


def draw(title: str, reports: Sequence[Report], path: Path) -> None:
    """Draw how long first tokens took, by policy and by tenant, and tokens over time, into *path*."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and only who draws needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    with plt.rc_context({"svg.hashsalt": "llmos", "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}):
        canvas, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
        _first_tokens(axes[0], reports)
        _by_tenant(axes[1], reports)
        _over_time(axes[2], reports)
        canvas.suptitle(title)
        dated = {"Date": None} if path.suffix.lower() == ".svg" else None
        canvas.savefig(path, dpi=120, metadata=dated)
        plt.close(canvas)


def _first_tokens(axes: Any, reports: Sequence[Report]) -> None:  # noqa: ANN401 - matplotlib is untyped
    for report in reports:
        if report.all.first.count:
            shares = [point / POINTS for point in range(POINTS + 1)]
            axes.plot(report.all.first.quantiles, shares, label=report.policy)
            axes.legend(loc="lower right")
    axes.set(xscale="log", xlabel="seconds to the first token", ylabel="share of requests", ylim=(0, 1))


def _by_tenant(axes: Any, reports: Sequence[Report]) -> None:  # noqa: ANN401 - the same
    names = sorted({service.tenant for report in reports for service in report.tenants})
    height = 0.8 / len(reports)
    for at, report in enumerate(reports):
        found = {service.tenant: service.first.p95 or 0.0 for service in report.tenants}
        places = [place + at * height for place in range(len(names))]
        axes.barh(places, [found.get(name, 0.0) for name in names], height, label=report.policy)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(names))], names)
    axes.invert_yaxis()
    axes.set(xlabel="p95 of seconds to the first token", xlim=(0, None))


def _over_time(axes: Any, reports: Sequence[Report]) -> None:  # noqa: ANN401 - the same
    for report in reports:
        sums = [sum(rates) for rates in zip(*report.served.values(), strict=True)]
        each = max(1, len(sums) // MOMENTS)
        means = [mean(sums[at : at + each]) for at in range(0, len(sums), each)]
        axes.plot([(at + 0.5) * each * report.window for at in range(len(means))], means, label=report.policy)
    axes.set(xlabel="seconds", ylabel="tokens per second", ylim=(0, None))
