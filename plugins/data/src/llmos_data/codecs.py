"""From bytes to records and back: JSON Lines and CSV.  One record at a time, so that a bad one is bad alone."""

from __future__ import annotations

import abc
import csv
import io
import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from llmos_kernel.errors import InvalidArgument

Record = dict[str, Any]
_SHOWN = 80


class Decoder(abc.ABC):
    """Reads records."""

    @abc.abstractmethod
    def split(self, data: bytes) -> Iterable[Any]:
        """Return the records of a block, not yet read.  What is empty counts as a record, and is skipped later."""

    @abc.abstractmethod
    def read(self, raw: Any) -> Record:  # noqa: ANN401 - bytes of most formats, values of some
        """Return one record.  Raises `InvalidArgument`."""


class Encoder(abc.ABC):
    """Writes records."""

    @abc.abstractmethod
    def write(self, record: Record) -> Any:  # noqa: ANN401 - bytes of most formats, values of some
        """Return one record as it is written.  Raises `InvalidArgument`."""

    def join(self, written: list[Any]) -> bytes:
        """Return the bytes of the records of a block.

        Raises `InvalidArgument` for records that do not go together; its field ``at`` is the place in *written* of the
        first that does not go with those before it.
        """
        return b"".join(written)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


class ReadLines(Decoder):
    """JSON Lines (RFC 8259, one object per line): UTF-8, numbers as Python has them; empty lines are nothing."""

    def __init__(self) -> None:
        self._parse = json.JSONDecoder(parse_constant=_no_constant).decode

    def split(self, data: bytes) -> list[bytes]:
        """Return the lines."""
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return lines

    def read(self, raw: bytes) -> Record:
        """Return the object in a line."""
        try:
            record = self._parse(raw.decode())
        except (ValueError, RecursionError) as error:
            raise _unreadable(raw, error, "a JSON object") from error
        if not isinstance(record, dict):
            raise InvalidArgument.of("record", record, "a JSON object")
        return record


class WriteLines(Encoder):
    """JSON Lines with letters of every language as they are."""

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

    def write(self, record: Record) -> bytes:
        """Return a line; half of a surrogate pair, which UTF-8 has not, stays the escape that it was."""
        try:
            return self._encode(record).encode() + b"\n"
        except UnicodeEncodeError:
            return json.dumps(record, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise _unwritable(record, error, "JSON") from error


class ReadCsv(Decoder):
    """CSV (RFC 4180) whose *columns* the head has named: as many cells in each record, all of them text."""

    def __init__(self, columns: tuple[str, ...], limit: int) -> None:
        self._columns = columns
        csv.field_size_limit(limit)

    def split(self, data: bytes) -> list[bytes]:
        """Return the records: a line's end within quotes is part of a cell."""
        records: list[bytes] = []
        lines: list[bytes] = []
        within = False
        for line in data.removesuffix(b"\n").split(b"\n"):
            lines.append(line)
            within ^= line.count(b'"') % 2 == 1
            if not within:
                records.append(b"\n".join(lines))
                lines.clear()
        return [*records, b"\n".join(lines)] if lines else records

    def read(self, raw: bytes) -> Record:
        """Return the cells by column."""
        cells = cells_of(raw)
        if len(cells) != len(self._columns):
            expected = f"{len(self._columns)} cells, as many as the head has columns"
            message = f"it has {len(cells)} cells, and {expected}"
            raise InvalidArgument(message, field="record", value=shortened(raw), expected=expected)
        return dict(zip(self._columns, cells, strict=True))


def cells_of(raw: bytes) -> list[str]:
    """Return the cells of one CSV record.  Raises `InvalidArgument`."""
    try:
        return next(csv.reader([raw.decode().removesuffix("\r")], strict=True), [])
    except (ValueError, csv.Error) as error:
        raise _unreadable(raw, error, "a CSV record") from error


class WriteCsv(Encoder):
    """CSV (RFC 4180) with these *columns*; a cell that is neither text nor a number is JSON."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns

    def write(self, record: Record) -> bytes:
        """Return a record; a field that is not among the columns is refused rather than lost."""
        if unknown := [name for name in record if name not in self._columns]:
            raise missing(unknown[0], self._columns, "column")
        stream = io.StringIO()
        try:
            # Only what is in its line end is quoted for it, and a carriage return has to be.
            csv.writer(stream, lineterminator="\r\n").writerow([_cell(record.get(name)) for name in self._columns])
            return stream.getvalue().removesuffix("\r\n").encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise _unwritable(record, error, "CSV") from error

    def head(self) -> bytes:
        """Return the first line."""
        return self.write({name: name for name in self._columns})


def _cell(value: object) -> object:
    if value is None or isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def missing(name: str, known: Iterable[str], what: str = "field") -> InvalidArgument:
    """Return the error for a field that a record has not, or a column that there is not."""
    near = get_close_matches(name, list(known), n=1, cutoff=0)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    message = f"there is no {what} {name!r}{hint}"
    return InvalidArgument(message, field=name, value=None, expected=sorted(known)[:20], nearest=near)


def shortened(raw: object) -> str:
    """Return the beginning of a record as text."""
    text = raw[: _SHOWN + 1].decode(errors="backslashreplace") if isinstance(raw, bytes) else repr(raw)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _unreadable(raw: bytes, error: Exception, expected: str) -> InvalidArgument:
    if isinstance(error, UnicodeDecodeError):
        message, expected = f"it is not UTF-8 (byte {error.start + 1})", "UTF-8"
    elif isinstance(error, RecursionError):
        message, expected = "it is nested too deeply", "at most some hundred levels"
    else:
        message = f"it is not {expected}: {error}"
    return InvalidArgument(message, field="record", value=shortened(raw), expected=expected)


def _unwritable(record: Mapping[str, Any], error: Exception, kind: str) -> InvalidArgument:
    expected = f"values that {kind} can hold"
    message = f"it cannot be written as {kind}: {error}"
    return InvalidArgument(message, field="record", value=sorted(record), expected=expected)
