"""Parquet: rows in blocks, and a table that is put together at the end; what needs pyarrow, an extra.

A row crosses to workers as a stream of Arrow's IPC format, so that columns which no processor touches are never
anything else than Arrow's: their values, types and metadata stay.  ``OUTPUT.part`` is such streams one behind the
other, because unlike a Parquet file they can be cut off and gone on with; they become one file when the run ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from llmos_data.blocks import SIZE, Block
from llmos_data.codecs import Decoder, Encoder, Record, shortened
from llmos_data.journal import Journal, sync_folder, tail_before
from llmos_data.outputs import ToPart, naming
from llmos_data.plan import Plan
from llmos_data.sources import Source
from llmos_kernel.errors import InvalidArgument

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError as error:
    _HOW = "pip install 'llmos-data[parquet]'"
    message = f"Parquet needs the package pyarrow: {_HOW}"
    raise InvalidArgument(message, field="format", value="parquet", expected=_HOW) from error

_ROW = "\0row"
"""Where a record says which row of its block it was."""
_MOST_ROWS = 4096
"""Rows of a block, at most."""
_GROUP_ROWS, _GROUP_BYTES = 2**17, 2**24
"""A row group of the output is that large, or somewhat larger."""
_WRONG = (pa.ArrowException, OSError)
"""What pyarrow raises for a file that is damaged."""
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What pyarrow raises for values that are no column."""
_PLAIN = ("bool", "int", "uint", "float", "double", "halffloat", "string", "large_string", "list", "large_list",
          "struct", "null", "binary", "large_binary", "fixed_size")  # fmt: skip
"""Types, by how their names begin, whose values JSON has, or cannot have at all."""


@attrs.define
class Rows(Source):
    """The rows of a Parquet file, a row group after the other."""

    path: Path
    file: Any
    size: int

    @classmethod
    def open(cls, path: Path) -> Rows:
        """Return the file at its beginning.  Raises `InvalidArgument` for one that is damaged or something else."""
        os.close(os.open(path, os.O_RDONLY))
        try:
            file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=SIZE, page_checksum_verification=True)
        except _WRONG as error:
            expected = "a whole Parquet file"
            raise InvalidArgument(
                f"{path} is not {expected}: {error}", field="input", value=str(path), expected=expected
            ) from error
        return cls(path, file, file.metadata.num_rows)

    def columns(self, limit: int) -> tuple[str, ...]:
        """Return the names of the columns.  Raises `InvalidArgument` where two are the same."""
        names = tuple(self.file.schema_arrow.names)
        if len(set(names)) < len(names):
            raise InvalidArgument.of("input", names, "a table whose columns have names of their own")
        return names

    def blocks(self, plan: Plan, begin: Journal) -> Iterator[Block]:
        """Yield blocks; the first is empty, so that a table without rows has its columns."""
        end = begin.end
        if not end:
            yield Block(stream_of(self._empty()), 1, 0, 0)
        for batch in self._batches(end):
            yield Block(stream_of(batch), end + 1, batch.num_rows, end + batch.num_rows)
            end += batch.num_rows

    def _batches(self, skip: int) -> Iterator[Any]:
        """Yield batches of rows, none of those before *skip*."""
        at = 0
        for group in range(self.file.num_row_groups):
            about = self.file.metadata.row_group(group)
            first, at = at, at + about.num_rows
            if at <= skip:
                continue
            rows = min(_MOST_ROWS, max(1, SIZE * about.num_rows // max(1, about.total_byte_size)))
            try:
                for batch in self.file.iter_batches(rows, row_groups=[group], use_threads=False):
                    last = first + batch.num_rows
                    if last > skip:
                        yield batch.slice(max(0, skip - first))
                    first = last
            except _WRONG as error:
                expected = "a whole Parquet file"
                message = f"{self.path} is damaged behind row {first}: {error}"
                raise InvalidArgument(message, field="input", value=str(self.path), expected=expected) from error

    def _empty(self) -> Any:  # noqa: ANN401 - pyarrow is untyped
        schema = self.file.schema_arrow
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)

    def tail(self, end: int) -> str:
        """Return a hash of the end of the file, which says where all its columns are."""
        return tail_before(self.path, self.path.stat().st_size)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class ReadRows(Decoder):
    """Rows of a block.  Where they become rows again, only the fields that are processed are read out of them."""

    def __init__(self, plan: Plan) -> None:
        self._fields = plan.fields if plan.target == "parquet" else ()
        self.batch: Any = None

    def split(self, data: bytes) -> list[Record]:
        """Return the rows."""
        with pa.ipc.open_stream(data) as stream:
            self.batch = stream.read_next_batch()
        if not self._fields:
            return [*_plain(self.batch).to_pylist()]
        values = [self.batch.column(name).to_pylist() for name in self._fields]
        return [
            {_ROW: row, **dict(zip(self._fields, cells, strict=True))}
            for row, cells in enumerate(zip(*values, strict=True))
        ]

    def read(self, raw: Record) -> Record:
        """Return the row, which is read already."""
        return raw


def _plain(batch: Any) -> Any:  # noqa: ANN401 - pyarrow is untyped
    """Return *batch* with times, decimals and the like as text, which they are in JSON and CSV."""
    for at, field in enumerate(batch.schema):
        if not str(field.type).startswith(_PLAIN):
            batch = batch.set_column(at, field.name, batch.column(at).cast(pa.string()))
    return batch


class WriteRows(Encoder):
    """Rows as a stream of Arrow's.  With *rows*, the columns that were not processed are taken over from there."""

    def __init__(self, plan: Plan, rows: ReadRows | None) -> None:
        self._rows, self._keep = rows, plan.keep
        self._new = (plan.result,) if plan.into or plan.explode else plan.fields

    def write(self, record: Record) -> Record:
        """Return the record, whose texts can be written."""
        for name, value in record.items():
            if isinstance(value, str) and not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError as error:
                    expected = "text without halves of surrogate pairs, because UTF-8 has none"
                    message = f"{name} must be {expected}"
                    raise InvalidArgument(message, field=name, value=ascii(value)[:80], expected=expected) from error
        return record

    def join(self, written: list[Record]) -> bytes:
        """Return the rows of a block.  Raises as `Encoder` says where a column has more than one type."""
        if self._rows is not None:
            return stream_of(self._changed(self._rows.batch, written))
        names = list(dict.fromkeys(name for record in written for name in record))
        if not names:
            return b""
        columns = [_array(name, [record.get(name) for record in written]) for name in names]
        return stream_of(pa.RecordBatch.from_arrays(columns, names))

    def _changed(self, batch: Any, written: list[Record]) -> Any:  # noqa: ANN401 - pyarrow is untyped
        known, metadata = batch.schema.names, batch.schema.metadata
        batch = batch.take(pa.array([record[_ROW] for record in written], pa.int32()))
        for name in self._new:
            at = known.index(name) if name in known else -1
            column = _array(
                name, [record[name] for record in written], batch.schema.field(at).type if at >= 0 else None
            )
            batch = batch.set_column(at, name, column) if at >= 0 else batch.append_column(name, column)
        return (batch.select(list(self._keep)) if self._keep else batch).replace_schema_metadata(metadata)


def _array(name: str, values: list[Any], before: Any = None) -> Any:  # noqa: ANN401 - pyarrow is untyped
    """Return a column of *values*, of the type that it had *before* where they fit it."""
    if before is not None and values:
        with contextlib.suppress(*_UNFIT):
            return pa.array(values, before)
    try:
        return pa.array(values)
    except _UNFIT as error:
        at = _first_unfit(values)
        expected = "values of one type, because Parquet has one for a column"
        message = f"{name} must be {expected}: {error}"
        raise InvalidArgument(message, field=name, value=shortened(values[at]), expected=expected, at=at) from error


def _first_unfit(values: list[Any]) -> int:
    """Return where the value is that does not go with those before it, by halving: *values* are no column."""
    fit, unfit = 0, len(values)
    while unfit - fit > 1:
        half = (fit + unfit) // 2
        try:
            pa.array(values[:half])
            fit = half
        except _UNFIT:
            unfit = half
    return unfit - 1


def stream_of(batch: Any) -> bytes:  # noqa: ANN401 - pyarrow is untyped
    """Return *batch* as a whole stream of Arrow's IPC format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


class ToParquet(ToPart):
    """A Parquet file, which is made of the streams in its part when the run ends."""

    def __init__(self, path: Path, keep: int = 0, columns: tuple[str, ...] = ()) -> None:
        self._columns = columns
        super().__init__(path, keep)

    def finish(self) -> None:
        """Make the file, synchronise it and give it its name.  Raises `InvalidArgument` for columns of two types."""
        self.sync()
        new = self.whole.with_name(self.whole.name + ".new")
        with naming(new):
            self._make(new)
            with new.open("rb") as file:
                os.fsync(file.fileno())
        new.replace(self.whole)
        sync_folder(self.whole.parent)
        self.path.unlink()

    def _make(self, new: Path) -> None:
        schema = self._schema()
        with parquet.ParquetWriter(new, schema) as writer:
            waiting: list[Any] = []
            for batch in self._batches():
                waiting.append(batch)
                rows = sum(one.num_rows for one in waiting)
                if rows >= _GROUP_ROWS or sum(one.nbytes for one in waiting) >= _GROUP_BYTES:
                    writer.write_table(_table(schema, waiting))
                    waiting.clear()
            if waiting:
                writer.write_table(_table(schema, waiting))

    def _schema(self) -> Any:  # noqa: ANN401 - pyarrow is untyped
        """Return what the schemas of all streams have in common, the columns in the order in which they come."""
        common, rows = None, 0
        for batch in self._batches():
            if common is None or not batch.schema.equals(common):
                common = batch.schema if common is None else _common(common, batch, rows)
            rows += batch.num_rows
        return pa.schema([(name, pa.string()) for name in self._columns]) if common is None else common

    def _batches(self) -> Iterator[Any]:
        size = self.path.stat().st_size
        with pa.OSFile(str(self.path), "rb") as file:
            while file.tell() < size:
                with pa.ipc.open_stream(file) as stream:
                    yield from stream


def _common(schema: Any, batch: Any, before: int) -> Any:  # noqa: ANN401 - pyarrow is untyped
    """Return the columns of *schema* and of *batch*, *before* which there are so many rows."""
    for field in batch.schema:
        try:
            schema = pa.unify_schemas([schema, pa.schema([field])], promote_options="permissive")
        except pa.ArrowException as error:
            column = batch.column(field.name)
            at = max(0, column.is_valid().index(True).as_py())
            expected = "values of one type, because Parquet has one for a column"
            message = f"row {before + at + 1} of the output: {field.name} must be {expected}: {error}"
            value = shortened(column[at].as_py())
            raise InvalidArgument(
                message, field=field.name, value=value, expected=expected, row=before + at + 1
            ) from error
    return schema


def _table(schema: Any, batches: list[Any]) -> Any:  # noqa: ANN401 - pyarrow is untyped
    tables = [schema.empty_table(), *(pa.Table.from_batches([batch]) for batch in batches)]
    return pa.concat_tables(tables, promote_options="permissive").cast(schema)
