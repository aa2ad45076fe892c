"""Arrivals from CSV files, row by row: what really came, instead of what was drawn.

A file names its columns in the first line, in one of two layouts:

    at,prompt,output          seconds from the begin, tokens of the prompt, tokens of the output; and, where wanted,
                              tenant, kind, priority, max_tokens, deadline, service, model, as `Arrival` has them
    TIMESTAMP,ContextTokens,GeneratedTokens
                              the published traces of Azure's services with language models (Patel et al., "Splitwise",
                              ISCA 2024): a date and time, which counts from that of the first row

Rows stand in order of time.  A file is read while the simulation runs and is never in memory as a whole.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_simulator.records import Arrival

OWN = ("at", "prompt", "output")
AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_FRACTIONS, _WHOLES = ("at", "deadline", "service"), ("prompt", "output", "max_tokens", "priority")
_COLUMNS = (*OWN, *(field.name for field in attrs.fields(Arrival) if field.name not in OWN))


def read_trace(path: Path, tenant: str = "tenant") -> Iterator[Arrival]:
    """Yield the arrivals of the file *path*, those of rows that name no tenant as *tenant*'s.

    Raises `InvalidArgument` with the fields ``file``, ``line``, ``field`` (the column), ``value`` and ``expected`` when
    it comes to a row that is wrong, and for a file that cannot be read or holds no row.
    """
    reader = _Reader(path, tenant)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from reader.arrivals(csv.reader(file, strict=True))
    except OSError as error:
        raise reader.wrong("trace", error.strerror, "a file that can be read") from error
    except UnicodeDecodeError as error:
        raise reader.wrong("row", f"{error.object[error.start : error.end]!r} further on", "UTF-8") from error
    except csv.Error as error:
        reader.line += 1
        raise reader.wrong("row", str(error), "CSV") from error


@attrs.define
class _Reader:
    """Reads one file."""

    path: Path
    tenant: str
    line: int = 1
    columns: Mapping[str, str] = attrs.field(factory=dict, init=False)
    """The file's own name of each field of `Arrival`."""
    begin: datetime | None = attrs.field(default=None, init=False)

    def wrong(self, column: str, value: object, expected: str) -> InvalidArgument:
        """Return the error for a *value* in *column* that is not what is *expected*."""
        message = f"{self.path}, line {self.line}: {column} must be {expected}, not {value!r:.120}"
        facts = {"file": str(self.path), "line": self.line}
        return InvalidArgument(message, field=column, value=value, expected=expected, **facts)

    def arrivals(self, rows: Any) -> Iterator[Arrival]:  # noqa: ANN401 - csv's reader has no public type
        """Yield what *rows* say, in order of time."""
        header = [name.strip() for name in next(rows, ())]
        self._read_header(header)
        before = 0.0
        for row in filter(None, rows):
            self.line = rows.line_num
            if len(row) != len(header):
                raise self.wrong("row", ",".join(row), f"{len(header)} cells, one for each column")
            arrival = self._arrival(dict(zip(header, row, strict=True)))
            if arrival.at < before:
                expected = f"no earlier than the row before ({before!r} s): rows must be sorted"
                raise self.wrong(self.columns["at"], arrival.at, expected)
            before = arrival.at
            yield arrival
        if self.line == 1:
            raise self.wrong("row", "", "at least one row below the names of the columns")

    def _read_header(self, header: list[str]) -> None:
        azure = AZURE[0] in header
        needed = AZURE if azure else OWN
        known = AZURE if azure else _COLUMNS
        for name in header:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0)[0]
                raise self.wrong("header", name, f"one of {', '.join(known)} (the nearest is {near})")
            if header.count(name) > 1:
                raise self.wrong("header", name, "a name that stands there once")
        for name in needed:
            if name not in header:
                raise self.wrong("header", ",".join(header), f"names of columns, {', '.join(needed)} among them")
        self.columns = {own: name if azure else own for own, name in zip(OWN, AZURE, strict=True)}
        self.columns |= {name: name for name in header if not azure}

    def _arrival(self, cells: Mapping[str, str]) -> Arrival:
        values: dict[str, Any] = {"tenant": self.tenant}
        for name, column in self.columns.items():
            if cells[column].strip() or name in OWN:
                values[name] = self._value(name, cells[column].strip())
        try:
            return Arrival(**values)
        except InvalidArgument as error:
            name = str(error.fields["field"])
            raise self.wrong(self.columns[name], error.fields["value"], str(error.fields["expected"])) from error

    def _value(self, name: str, cell: str) -> float | str:
        column = self.columns[name]
        if column == AZURE[0]:
            return self._seconds(cell)
        try:
            if "_" not in cell and name in _WHOLES:
                return int(cell)
            if "_" not in cell and name in _FRACTIONS:
                return float(cell)
        except ValueError as error:
            raise self.wrong(column, cell, f"a {'whole ' if name in _WHOLES else ''}number") from error
        if name in (*_WHOLES, *_FRACTIONS):
            raise self.wrong(column, cell, "a number without underscores")
        return cell

    def _seconds(self, cell: str) -> float:
        """Return the seconds since the first row's time."""
        try:
            when = datetime.fromisoformat(cell)
            self.begin = self.begin or when
            return (when - self.begin).total_seconds()
        except (TypeError, ValueError) as error:  # a TypeError: only one of the two has a zone
            expected = "a date and time such as 2023-11-16 18:15:46.680590, with a zone in every row or in none"
            raise self.wrong(AZURE[0], cell, expected) from error
