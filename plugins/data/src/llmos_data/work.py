"""What is done with a block: its records pass the pipeline, and those that are bad are named."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import attrs

from llmos_data.blocks import Block, too_long
from llmos_data.codecs import Decoder, Encoder, ReadCsv, ReadLines, Record, WriteCsv, WriteLines, missing, shortened
from llmos_data.folder import WriteFiles
from llmos_data.plan import UNITS, Plan
from llmos_kernel.errors import KernelError
from llmos_kernel.services import Processor

_NOTHING: Mapping[str, Any] = {}
_KEPT = 10_000
"""Characters of a bad record that are kept."""


@attrs.frozen
class Done:
    """What became of a block."""

    out: bytes
    rejects: bytes
    """A line of JSON for each bad record."""
    written: int
    rejected: int
    fault: Mapping[str, Any] | None = None
    """The error that ends the run, as `KernelError.to_wire` has it."""


@attrs.frozen
class Passed:
    """What is written of a block, and how much of it there was behind each of its records."""

    out: list[Any]
    ends: list[int]

    def record(self, at: Any) -> int:  # noqa: ANN401 - a field of an error
        """Return which record, from 0, the place *at* of what is written is from."""
        return bisect_right(self.ends, at)


class Work:
    """Does what *plan* says with blocks.  *processor* is its pipeline."""

    def __init__(self, plan: Plan, processor: Processor) -> None:
        self._plan, self._process = plan, processor.process
        self._decoder = decoder(plan)
        self._encoder = encoder(plan, self._decoder)
        # The encoder of a table keeps columns, which are not in the record.
        self._keep = () if plan.source == plan.target == "parquet" else plan.keep

    def __call__(self, block: Block) -> Done:
        """Return what becomes of *block*.  The first bad record ends it, unless the plan is to note them."""
        out: list[Any] = []
        ends: list[int] = []
        rejects: list[bytes] = []
        if block.fault is not None:
            fault = self._bad(KernelError.from_wire(block.fault), block.number, b"", rejects)
            return self._done(block, Passed(out, ends), rejects, fault)
        limit, read, change = self._plan.limit, self._decoder.read, self._change
        for number, raw in enumerate(self._decoder.split(block.data), block.number):
            try:
                if isinstance(raw, bytes) and len(raw) > limit:
                    raise too_long(len(raw), limit)
                if raw and not (isinstance(raw, bytes) and raw.isspace()):
                    change(read(raw), out)
            except KernelError as error:
                fault = self._bad(error, number, raw, rejects)
                if fault is not None:
                    return self._done(block, Passed(out, ends), rejects, fault)
            ends.append(len(out))
        return self._done(block, Passed(out, ends), rejects, None)

    def _change(self, record: Record, out: list[Any]) -> None:
        """Write what becomes of *record* to *out*: all of it, or nothing."""
        plan = self._plan
        for field in plan.fields:
            if field not in record:
                raise missing(field, record)
            record[plan.into or field] = self._process(record[field], _NOTHING)
        result = record[plan.result]
        if plan.explode and isinstance(result, list | tuple):
            out += [self._written({**record, plan.result: item}) for item in result]
        else:
            out.append(self._written(record))

    def _written(self, record: Record) -> Any:  # noqa: ANN401 - what the encoder makes
        if self._keep:
            for name in self._keep:
                if name not in record:
                    raise missing(name, record)
            record = {name: record[name] for name in self._keep}
        return self._encoder.write(record)

    def _bad(self, error: KernelError, number: int, raw: object, rejects: list[bytes]) -> Mapping[str, Any] | None:
        """Note the bad record, or return what ends the run."""
        unit = UNITS[self._plan.source]
        path = f" ({_path(raw)!r})" if unit == "file" and raw else ""
        located = type(error)(f"{unit} {number}{path}: {error.message}", **{**error.fields, unit: number})
        if not self._plan.rejecting:
            return located.to_wire()
        text = raw[:_KEPT].decode(errors="backslashreplace") if isinstance(raw, bytes) else shortened(raw)
        entry = {unit: number, **located.to_wire(), "raw": text}
        rejects.append(json.dumps(entry, ensure_ascii=True).encode() + b"\n")
        return None

    def _done(
        self, block: Block, passed: Passed, rejects: list[bytes], fault: Mapping[str, Any] | None
    ) -> Done:  # fmt: skip
        out = passed.out
        try:
            return Done(self._encoder.join(out), b"".join(rejects), len(out), len(rejects), fault)
        except KernelError as error:
            facts = dict(error.fields)
            unit, number = UNITS[self._plan.source], block.number + passed.record(facts.pop("at"))
            located = type(error)(f"{unit} {number}: {error.message}", **{**facts, unit: number})
            return Done(b"", b"".join(rejects), 0, len(rejects), located.to_wire())


def _path(raw: object) -> str:
    """Return which file of a folder a record was."""
    return str(json.loads(raw)["path"]) if isinstance(raw, bytes) else ""


def decoder(plan: Plan) -> Decoder:
    """Return what reads the blocks of the plan's source."""
    if plan.source == "parquet":
        from llmos_data.arrow import ReadRows  # noqa: PLC0415 - an extra

        return ReadRows(plan)
    return ReadCsv(plan.columns, plan.limit) if plan.source == "csv" else ReadLines()


def encoder(plan: Plan, read: Decoder) -> Encoder:
    """Return what writes the blocks of the plan's target, of records that *read* has read."""
    if plan.target == "parquet":
        from llmos_data.arrow import ReadRows, WriteRows  # noqa: PLC0415 - an extra

        return WriteRows(plan, read if isinstance(read, ReadRows) else None)
    if plan.target == "folder":
        return WriteFiles(plan)
    return WriteCsv(plan.written) if plan.target == "csv" else WriteLines()
