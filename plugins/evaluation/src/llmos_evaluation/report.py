"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from llmos_evaluation.comparing import Difference
from llmos_evaluation.metrics import Figure
from llmos_evaluation.store import Result

if TYPE_CHECKING:
    from rich.table import Table

SURE = 0.05
"""A difference that chance makes less often is marked."""


def print_result(result: Result) -> None:
    """Print the figures of *result*, those of its groups, and what they were measured on."""
    table = _table(f"{result.model} on {result.suite}: {result.records:,} records", ("mean", "95 %", "p50", "p95", "n"))
    for figure in result.metrics.values():
        table.add_row(figure.title, shown(figure.value, figure.unit), _bounds(figure.low, figure.high),
                      _or_nothing(figure.p50), _or_nothing(figure.p95), f"{figure.n:,}")  # fmt: skip
    _print(table)
    if result.groups:
        _print(_grouped(result.groups))
    if result.failed:
        click.echo(f"failed: {result.failed:,} of {result.records:,}")
    cpu, cores = (result.machine.get(key, "") for key in ("cpu", "cores"))
    click.echo(f"{cpu}, {cores} cores, {result.at_once} at once, {result.finished}")
    click.echo(f"kept as {result.id}")


def _grouped(groups: Mapping[str, Mapping[str, Figure]]) -> Table:
    names = list(dict.fromkeys(name for figures in groups.values() for name in figures))
    table = _table("groups", (*names, "n"))
    for group, figures in groups.items():
        cells = [f"{shown(f.value, f.unit)} {_bounds(f.low, f.high)}" if (f := figures.get(n)) else "" for n in names]
        table.add_row(group, *cells, f"{max(figure.n for figure in figures.values()):,}")
    return table


def print_differences(first: Result, second: Result, found: Iterable[Difference]) -> None:
    """Print how *second* differs from *first*; what is better than by chance is marked."""
    title = f"{first.id} and {second.id}, {first.records:,} records"
    table = _table(title, (first.model, second.model, "difference", "95 %", "p"))
    for one in found:
        sure = one.p is not None and one.p < SURE
        mark = "" if not sure else " better" if (one.difference > 0) == one.larger else " worse"
        chance = "" if one.p is None else f"{one.p:.3f}"
        table.add_row(one.title, shown(one.first, one.unit), shown(one.second, one.unit),
                      f"{one.difference:+,.4g}{mark}", _bounds(one.low, one.high), chance)  # fmt: skip
    _print(table)


def print_list(found: Mapping[int, Result]) -> None:
    """Print a line for each result, behind its place."""
    rows = [("", "RESULT", "MODEL", "SUITE", "RECORDS", "FIGURE")]
    for place, result in found.items():
        name = next(iter(result.metrics), "")
        figure = f"{name} {shown(result.metrics[name].value, result.metrics[name].unit)}" if name else ""
        rows.append((str(place), result.id, result.model, result.suite, f"{result.records:,}", figure))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def shown(value: float, unit: str) -> str:
    """Return *value* to four digits with its *unit*."""
    return f"{value:,.4g} {unit}".rstrip()


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:,.4g} to {high:,.4g}"


def _or_nothing(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _table(title: str, columns: Iterable[str]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - 100 ms that only tables pay

    table = Table(title=title or None)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _print(table: Table) -> None:
    from rich.console import Console  # noqa: PLC0415 - the same

    Console().print(table)
