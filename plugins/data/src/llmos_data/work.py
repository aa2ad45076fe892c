"""What is done with a block: its records pass the pipeline, and those that are bad are named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from llmos_data.blocks import Block, too_long
from llmos_data.codecs import Decoder, Encoder, ReadCsv, ReadLines, Record, WriteCsv, WriteLines, missing, shortened
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


class Work:
    """Does what *plan* says with blocks.  *processor* is its pipeline."""

    def __init__(self, plan: Plan, processor: Processor) -> None:
        self._plan, self._process = plan, processor.process
        self._decoder, self._encoder = decoder(plan), encoder(plan)

    def __call__(self, block: Block) -> Done:
        """Return what becomes of *block*.  The first bad record ends it, unless the plan is to note them."""
        out: list[Any] = []
        rejects: list[bytes] = []
        if block.fault is not None:
            return self._done(out, rejects, self._bad(KernelError.from_wire(block.fault), block.number, b"", rejects))
        limit, read, change = self._plan.limit, self._decoder.read, self._change
        for number, raw in enumerate(self._decoder.split(block.data), block.number):
            try:
                if len(raw) > limit:
                    raise too_long(len(raw), limit)
                if raw and not (isinstance(raw, bytes) and raw.isspace()):
                    change(read(raw), out)
            except KernelError as error:
                fault = self._bad(error, number, raw, rejects)
                if fault is not None:
                    return self._done(out, rejects, fault)
        return self._done(out, rejects, None)

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
        keep = self._plan.keep
        if keep:
            for name in keep:
                if name not in record:
                    raise missing(name, record)
            record = {name: record[name] for name in keep}
        return self._encoder.write(record)

    def _bad(self, error: KernelError, number: int, raw: object, rejects: list[bytes]) -> Mapping[str, Any] | None:
        """Note the bad record, or return what ends the run."""
        unit = UNITS[self._plan.source]
        located = type(error)(f"{unit} {number}: {error.message}", **{**error.fields, unit: number})
        if not self._plan.rejecting:
            return located.to_wire()
        text = raw[:_KEPT].decode(errors="backslashreplace") if isinstance(raw, bytes) else shortened(raw)
        entry = {unit: number, **located.to_wire(), "raw": text}
        rejects.append(json.dumps(entry, ensure_ascii=True).encode() + b"\n")
        return None

    def _done(self, out: list[Any], rejects: list[bytes], fault: Mapping[str, Any] | None) -> Done:
        return Done(self._encoder.join(out), b"".join(rejects), len(out), len(rejects), fault)


def decoder(plan: Plan) -> Decoder:
    """Return what reads the blocks of the plan's source."""
    return ReadCsv(plan.columns, plan.limit) if plan.source == "csv" else ReadLines()


def encoder(plan: Plan) -> Encoder:
    """Return what writes the blocks of the plan's target."""
    return WriteCsv(plan.written) if plan.target == "csv" else WriteLines()
