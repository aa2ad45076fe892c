"""Records of a file, one after the other, in constant memory: lines of JSON, or CSV whose first line names columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import IO, Any

import attrs

from llmos.cli._common import read_text
from llmos_kernel.errors import InvalidArgument

LIMIT = 2**24
"""Bytes of the longest record."""
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
"""What the names of such files end in, and what is in them."""
_KEPT = 200
_BOM = b"\xef\xbb\xbf"


@attrs.frozen
class Record:
    """One record, or what is wrong with it."""

    number: int
    """Counted from 1; empty lines are none."""
    end: int
    """Bytes that were read when it was."""
    value: Any
    """Of CSV a mapping of texts; the beginning of the text where it cannot be read."""
    error: InvalidArgument | None = None


def read_records(file: IO[bytes], form: str) -> Iterator[Record]:
    """Yield the records of *file*, which is ``jsonl`` or ``csv``.

    One that cannot be read is an error of its own, and a longer one than `LIMIT` is never read whole.  Raises
    `InvalidArgument` for CSV whose first line does not name the columns.
    """
    columns: tuple[str, ...] | None = None
    number = end = 0
    while found := _raw(file, quoted=form == "csv"):
        raw, size = found
        raw, end = raw.removeprefix(_BOM) if end == 0 else raw, end + size
        if not raw.strip():
            continue
        if form == "csv" and columns is None:
            columns = _columns(raw)
            continue
        number += 1
        yield _record(number, end, raw, columns)


def _record(number: int, end: int, raw: bytes, columns: tuple[str, ...] | None) -> Record:
    try:
        if len(raw) > LIMIT:
            raise InvalidArgument("it is too long", field="record", value=len(raw), expected=f"at most {LIMIT} bytes")
        text = read_text(raw, "it")
        return Record(number, end, _json(text) if columns is None else _cells(text, columns))
    except InvalidArgument as error:
        located = InvalidArgument(f"record {number}: {error.message}", **{**error.fields, "record": number})
        return Record(number, end, raw[:_KEPT].decode(errors="backslashreplace").rstrip("\r\n"), located)


def _raw(file: IO[bytes], *, quoted: bool) -> tuple[bytes, int] | None:
    """Return the bytes of a record, more than `LIMIT` where it is too long, and how many were read; None at the end.

    Within quotes, of CSV, a line's end does not end it.
    """
    raw = line = file.readline(LIMIT + 1)
    while line.endswith(b"\n") and quoted and raw.count(b'"') % 2 and len(raw) <= LIMIT:
        line = file.readline(LIMIT + 1)
        raw += line
    size = len(raw)
    while line and not line.endswith(b"\n") and len(raw) > LIMIT:
        line = file.readline(LIMIT + 1)
        size += len(line)
    return (raw, size) if raw else None


def _json(text: str) -> object:
    try:
        found: object = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        message = f"it is no JSON: {error}"
        raise InvalidArgument(message, field="record", value=text[:_KEPT], expected="JSON on each line") from error
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _columns(raw: bytes) -> tuple[str, ...]:
    columns = _split(read_text(raw, "the first line"))
    if not all(columns) or len(set(columns)) < len(columns):
        expected = "a name of its own for each column"
        raise InvalidArgument.of("the first line of CSV", ",".join(columns), expected)
    return columns


def _cells(text: str, columns: tuple[str, ...]) -> dict[str, str]:
    cells = _split(text)
    if len(cells) != len(columns):
        expected = f"{len(columns)} cells, as many as there are columns"
        message = f"it has {len(cells)} cells, and not {expected}"
        raise InvalidArgument(message, field="record", value=text[:_KEPT], expected=expected)
    return dict(zip(columns, cells, strict=True))


def _split(text: str) -> tuple[str, ...]:
    csv.field_size_limit(LIMIT)
    try:
        return tuple(next(csv.reader([text.rstrip("\r\n")], strict=True), []))
    except csv.Error as error:
        message = f"it is no CSV: {error}"
        raise InvalidArgument(message, field="record", value=text[:_KEPT], expected="CSV as of RFC 4180") from error
