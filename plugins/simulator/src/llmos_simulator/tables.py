"""Reports as people read them: tables of policies and tenants, and how long first tokens took, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import log

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmos_simulator.report import POINTS, Report, Service, Times

_SHADES, _ASCII = "▁▂▃▄▅▆▇█", ".:-=+*#@"
_ROUND = (1, 2, 5)
"""What the ticks of an axis begin with."""


def duration(seconds: float | None) -> str:
    """Return *seconds* in the unit that they are read in, three digits long; a dash for None."""
    if seconds is None:
        return "–"
    if seconds == 0:
        return "0"
    for most, unit, factor in ((0.9995e-3, "µs", 1e6), (0.9995, "ms", 1e3), (99.95, "s", 1.0), (5997, "min", 1 / 60)):
        if seconds < most:
            return f"{_three(seconds * factor)} {unit}"
    return f"{_three(seconds / 3600)} h"


def share(value: float | None) -> str:
    """Return *value* as a percentage; a dash for None, and never 100 % or 0 % for what is not."""
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "<0.1%"
    shown = f"{100 * value:.1f}" if value < 0.0995 else f"{100 * value:.0f}"
    return f"{'>99' if shown == '100' and value < 1 else shown.removesuffix('.0')}%"


def _three(value: float) -> str:
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f}"


_COLUMNS: tuple[tuple[str, Callable[[Service], str], int], ...] = (
    ("mean\nwait", lambda one: duration(one.wait.mean), 0),
    ("p95\nwait", lambda one: duration(one.wait.p95), 95),
    ("mean\nfirst", lambda one: duration(one.first.mean), 0),
    ("p95\nfirst", lambda one: duration(one.first.p95), 0),
    ("p99\nfirst", lambda one: duration(one.first.p99), 105),
    ("mean\nanswer", lambda one: duration(one.total.mean), 0),
    ("p95\nanswer", lambda one: duration(one.total.p95), 0),
    ("tokens\n/s", lambda one: _three(one.tokens_per_second), 0),
    ("\nlate", lambda one: share(one.missed / max(1, one.requests)), 0),
    ("\nrefused", lambda one: share(one.refused / max(1, one.requests)), 0),
)
"""Heads, cells, and how wide a terminal has to be to show them."""


def print_reports(console: Console, title: str, reports: Sequence[Report]) -> None:
    """Print a table with a row for each policy and its tenants below it, and how long first tokens took."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1))
    table.add_column("policy", no_wrap=True, vertical="bottom", overflow="ellipsis")
    columns = [(head, cell) for head, cell, width in _COLUMNS if console.width >= width]
    for head, _ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for at, report in enumerate(reports):
        several = len(report.tenants) > 1
        table.add_row(Text(report.policy, "bold"), *(cell(report.all) for _, cell in columns))
        for service in report.tenants if several else ():
            table.add_row(f"  {service.tenant}", *(cell(service) for _, cell in columns), style="dim")
        if several and at < len(reports) - 1:
            table.add_row()
    console.print(table)
    console.print()
    console.print(_runs(reports))
    for report in reports:
        for name, count in report.all.errors.items():
            console.print(f"{report.policy}: {count:,} × {name}", highlight=False)
    console.print()
    draw_distributions(console, "time to the first token", [(one.policy, one.all.first) for one in reports])


def _runs(reports: Sequence[Report]) -> Table:
    """Return a table of what concerns a policy as a whole."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("policy", no_wrap=True, overflow="ellipsis", style="bold")
    for head in ("answered", "of", "in", "a second", "busy", "fairness", "contested"):
        table.add_column(head, justify="right", no_wrap=True)
    for report in reports:
        fairness = "–" if report.fairness is None else f"{report.fairness:.3f}"
        table.add_row(
            report.policy, f"{report.all.done:,}", f"{report.all.requests:,}", duration(report.seconds),
            f"{report.all.requests_per_second:.3g}", share(report.utilisation), fairness, share(report.contested),
        )  # fmt: skip
    return table


def draw_distributions(console: Console, title: str, found: Iterable[tuple[str, Times]]) -> None:
    """Draw a density per name over a common logarithmic axis, with medians and 95th percentiles behind."""
    rows = [(name, times) for name, times in found if times.count]
    if not rows:
        return
    most = max(times.quantiles[-1] for _, times in rows)
    least = max(min(times.quantiles[1] for _, times in rows), most / 1e6, 1e-9)
    if most <= least:
        most = least * 1.01
    margin = max(len(name) for name, _ in rows) + 2
    width = max(20, min(console.width - margin - 28, 100))
    blocks, tick = (_ASCII, "|") if console.options.ascii_only else (_SHADES, "╵")
    console.print(Text(f"{'':{margin}}{title}", "bold"))
    for name, times in rows:
        bars = _bars(_densities(times.quantiles, least, most, width), blocks)
        numbers = f"  p50 {duration(times.p50):>8}  p95 {duration(times.p95):>8}"
        console.print(Text.assemble((f"{name:<{margin}}", "bold"), (bars, "cyan"), numbers), soft_wrap=True)
    console.print(Text(" " * margin + _axis(least, most, width, tick)), soft_wrap=True)


def _densities(quantiles: Sequence[float], least: float, most: float, width: int) -> list[float]:
    """Return which share of the values lies in each of *width* steps, of equal ratio, from *least* to *most*."""
    edges = [least * (most / least) ** (at / width) for at in range(1, width)]
    below = [0.0, *(_below(quantiles, edge) for edge in edges), 1.0]
    return [high - low for low, high in pairwise(below)]


def _below(quantiles: Sequence[float], value: float) -> float:
    """Return the share of values that are at most *value*, on the straight lines between quantiles."""
    for at, (low, high) in enumerate(pairwise(quantiles)):
        if value < high:
            inside = (value - low) / (high - low) if value > low else 0.0
            return (at + inside) / POINTS
    return 1.0


def _bars(densities: Sequence[float], blocks: str) -> str:
    highest = max(densities)
    return "".join(
        " " if density <= 0.001 else blocks[min(len(blocks) - 1, int(density / highest * len(blocks)))]
        for density in densities
    )


def _axis(least: float, most: float, width: int, tick: str) -> str:
    """Return a line with round numbers at their places, as many as have room."""
    line, free = "", 0
    exponent = -9
    while 10.0**exponent <= most:
        for digit in _ROUND:
            value = digit * 10.0**exponent
            place = round(log(max(value, 1e-12) / least) / log(most / least) * width)
            label = f"{tick}{duration(value).replace('.00', '').replace('.0 ', ' ')}"
            if free <= place and place + len(label) <= width + 8 and value <= most:
                line = f"{line:<{place}}{label}"
                free = len(line) + 2
        exponent += 1
    return line
