"""What a benchmark reports, and how it is printed."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Figure:
    """One measured quantity."""

    name: str
    unit: str
    median: float
    p99: float
    n: int
    goal: str = ""
    """What it should be, for people."""
    met: bool | None = None
    """Whether it is; None where there is no goal."""
    reference: str = ""
    """The figure of the reference that was measured in turn with it, for people."""


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* of the sorted *values* lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def figure(name: str, values: Sequence[float], unit: str = "µs", **facts: Any) -> Figure:
    """Return the figure for samples in seconds (or in *unit*, where it is no time)."""
    scale = {"µs": 1e6, "ms": 1e3}.get(unit, 1.0)
    return Figure(
        name=name, unit=unit, median=statistics.median(values) * scale, p99=quantile(values, 0.99) * scale,
        n=len(values), **facts,
    )  # fmt: skip


def timed(action: Callable[[], object], n: int, inner: int = 1) -> list[float]:
    """Return the seconds that each of *n* runs of *action* took; each run is *inner* calls, and is divided by them."""
    samples = []
    for _ in range(n):
        start = time.perf_counter()
        for _ in range(inner):
            action()
        samples.append((time.perf_counter() - start) / inner)
    return samples


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "date": dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d"),
        "cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(), "load": [round(value, 2) for value in os.getloadavg()],
        "versions": {name: metadata.version(name) for name in ("attrs", "pluggy", "structlog", "packaging")},
    }  # fmt: skip


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as plain text."""
    rows: list[tuple[str, ...]] = [("what", "median", "p99", "n", "goal", "", "reference in the same run")]
    rows += [cells(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def cells(one: Figure) -> tuple[str, ...]:
    """Return a figure as the cells of a table's row."""
    met = "" if one.met is None else "met" if one.met else "missed"
    return (
        one.name, f"{one.median:,.4g} {one.unit}", f"{one.p99:,.4g} {one.unit}", f"{one.n:,}", one.goal, met,
        one.reference,
    )  # fmt: skip


def save(path: Path, figures: Iterable[Figure]) -> None:
    """Write figures and machine as JSON."""
    data = {"machine": machine(), "figures": [attrs.asdict(one) for one in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")


def load(path: Path) -> tuple[dict[str, Any], list[Figure]]:
    """Read what `save` wrote."""
    data = json.loads(path.read_text("utf-8"))
    return data["machine"], [Figure(**one) for one in data["figures"]]
