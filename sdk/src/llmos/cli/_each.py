"""A task on each record of a file: in order, many under way, in constant memory, and gone on with after a stop.

A line of the output is a record's answer, or its error, and has its number; so the output itself says how far a run is.
Until it is whole it is ``OUTPUT.part``, and ``OUTPUT.journal`` says by which task it was begun: a run that goes on
keeps the whole lines of the one, and refuses to go on by another.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import attrs
import click

from llmos._client import Model
from llmos._lock import locked
from llmos._task_file import TaskFile
from llmos._task_runs import Answer
from llmos.cli._common import note
from llmos.cli._records import SUFFIXES, Record, read_records
from llmos.cli._task_inputs import TEXT_FIELD, converted
from llmos.cli.export import show_progress
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.loader import nearest

FAILED = 1
"""The exit code where a record failed."""


@attrs.frozen(kw_only=True)
class Each:
    """What is run on which records, and where the answers go."""

    task: TaskFile
    source: str
    """A file, or ``-``."""
    field: str | None = None
    """The field with the input, if it is not the whole record."""
    fields: Mapping[str, object] = attrs.field(factory=dict)
    """The same for every record."""
    output: Path | None = None
    at_once: int

    @property
    def part(self) -> Path | None:
        """Where the output is until it is whole."""
        return self.output and self.output.with_name(self.output.name + ".part")

    @property
    def journal(self) -> Path | None:
        """Where it is kept by what the run was begun."""
        return self.output and self.output.with_name(self.output.name + ".journal")

    @property
    def digest(self) -> str:
        """What tells this run from another by its task."""
        facts = (attrs.evolve(self.task, source=""), self.field, dict(self.fields))
        return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()

    def form(self) -> str:
        """Return what the source is; raise `click.UsageError` for a name that does not say it."""
        form = "jsonl" if self.source == "-" else SUFFIXES.get(Path(self.source).suffix.lower())
        if form is None:
            raise click.UsageError(f"--each {self.source}: its name must end in {', '.join(SUFFIXES)}")
        return form

    def input(self, record: Record) -> object:
        """Return the input that *record* is, or the error that it is instead."""
        if record.error is not None:
            return record.error
        field, value = self.field, record.value
        if field is None and isinstance(value, dict) and not self.task.takes_fields:
            field = TEXT_FIELD
        if field is None:
            return {**self._typed(value), **self.fields} if isinstance(value, dict) else value
        if not isinstance(value, dict) or field not in value:
            has = nearest(field, value) if isinstance(value, dict) else ": it is no object"
            message = f"record {record.number} has no field {field!r}{has}"
            return InvalidArgument(message, field=field, value=None, expected="another --field", record=record.number)
        return self._filled(field, value[field])

    def _filled(self, field: str, value: object) -> object:
        """Return the input in which the one field that is not the same for every record is *value*."""
        if not self.fields:
            return value
        missing = [name for name in self.task.fields if name not in self.fields]
        return {**self.fields, missing[0] if len(missing) == 1 else field: value}

    def _typed(self, value: Mapping[str, Any]) -> dict[str, Any]:
        if self.form() != "csv":
            return dict(value)
        return {name: converted(self.task, name, cell) for name, cell in value.items()}


@attrs.define
class Tally:
    """How many lines were written."""

    records: int = 0
    failed: int = 0


def run_each_record(each: Each, served: Model, *, resume: bool, as_json: bool) -> int:
    """Run it, tell how it went, and return the exit code."""
    form, begun, tally = each.form(), time.monotonic(), Tally()
    with contextlib.ExitStack() as stack:
        source = _opened(each.source, stack)
        if each.output is not None:
            stack.enter_context(locked(each.output))
        last = _begun(each, tally, resume=resume)
        if last is None:
            note(f"{each.output} is whole already")
            return 0
        target = _target(each, last, stack)
        draw = stack.enter_context(show_progress(quiet=as_json or not sys.stderr.isatty()))
        records = _from(read_records(source, form), tally.records, last)
        try:
            _run(each, served, records, target, tally, lambda end: draw("", end, _size(source)))
        except KeyboardInterrupt:
            if each.output is not None:
                note(f"{tally.records:,} records are kept; go on with --resume")
            raise
    _finish(each)
    _tell(tally, time.monotonic() - begun, as_json=as_json)
    return FAILED if tally.failed else 0


@attrs.frozen
class _Kept:
    """What an earlier run has left: whole lines of so many bytes, and the input of the last."""

    nbytes: int = 0
    input: Any = None


def _run(
    each: Each,
    served: Model,
    records: Iterator[Record],
    target: IO[bytes],
    tally: Tally,
    progress: Any,  # noqa: ANN401
) -> None:
    under_way: deque[Record] = deque()

    def inputs() -> Iterator[object]:
        for record in records:
            under_way.append(record)
            yield each.input(record)

    answers = served.run_each(each.task, inputs(), at_once=each.at_once)
    with contextlib.closing(answers):
        for answer in answers:
            record = under_way.popleft()
            target.write(_line(record, answer))
            target.flush()
            tally.records += 1
            tally.failed += answer.error is not None
            progress(record.end)


def _line(record: Record, answer: Answer) -> bytes:
    line: dict[str, object] = {"record": record.number, "input": record.value}
    if answer.error is not None:
        line["error"] = answer.error.to_wire()
    else:
        line |= {"output": answer.value, "model": answer.model, "finish": answer.finish}
    try:
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair stays an escape
        return json.dumps(line).encode() + b"\n"


def _opened(source: str, stack: contextlib.ExitStack) -> IO[bytes]:
    return sys.stdin.buffer if source == "-" else stack.enter_context(Path(source).open("rb"))


def _size(file: IO[bytes]) -> int:
    """Return how many bytes there are; 0 where nobody knows."""
    try:
        status = os.fstat(file.fileno())
    except io.UnsupportedOperation:  # a program's own object
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _begun(each: Each, tally: Tally, *, resume: bool) -> _Kept | None:
    """Return what is kept of an earlier run, which *tally* then counts; None where the output is whole already."""
    if each.output is None or each.part is None or each.journal is None:
        return _Kept()
    if each.output.exists():
        if resume:
            return None
        raise _in_the_way(each.output, f"{each.output} exists already; remove it, or choose another")
    if each.part.exists() and not resume:
        raise _in_the_way(each.output, f"{each.output} was begun before; --resume goes on, or remove {each.part}")
    if each.part.exists() and each.journal.exists():
        if each.journal.read_text("utf-8") != each.digest:
            message = (
                f"{each.output} was begun by another task, or with other options; remove {each.part} to begin again"
            )
            raise _in_the_way(each.output, message)
        return _kept(each.part, tally)
    each.journal.write_text(each.digest, "utf-8")
    return _Kept()


def _kept(part: Path, tally: Tally) -> _Kept:
    """Count the whole lines of *part*, up to the first that is none."""
    kept = _Kept()
    with part.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
            except ValueError:
                break
            if not raw.endswith(b"\n") or not isinstance(line, dict) or line.get("record") != tally.records + 1:
                break
            tally.records += 1
            tally.failed += "error" in line
            kept = _Kept(kept.nbytes + len(raw), line.get("input"))
    return kept


def _target(each: Each, kept: _Kept, stack: contextlib.ExitStack) -> IO[bytes]:
    if each.part is None:
        return sys.stdout.buffer
    file = stack.enter_context(each.part.open("r+b" if kept.nbytes else "wb"))
    file.truncate(kept.nbytes)
    file.seek(kept.nbytes)
    return file


def _from(records: Iterator[Record], done: int, kept: _Kept) -> Iterator[Record]:
    """Yield the records behind those that are *done*; raise `InvalidArgument` where the last of them is another now."""
    before = deque(itertools.islice(records, done), maxlen=1)
    if done and (not before or before[0].number != done or before[0].value != kept.input):
        expected = "the records as they were"
        message = f"record {done} is another than when the run was begun, or is not there any more"
        raise InvalidArgument(message, field="each", value=done, expected=expected)
    yield from records


def _finish(each: Each) -> None:
    """Give the output its name, when it is on the disk."""
    if each.output is None or each.part is None or each.journal is None:
        return
    with each.part.open("rb") as file:
        os.fsync(file.fileno())
    each.part.replace(each.output)
    each.journal.unlink(missing_ok=True)


def _in_the_way(output: Path, message: str) -> InvalidArgument:
    return InvalidArgument(message, field="output", value=str(output), expected="a new file, or --resume")


def _tell(tally: Tally, seconds: float, *, as_json: bool) -> None:
    if as_json:
        facts = {"records": tally.records, "failed": tally.failed, "seconds": round(seconds, 3)}
        click.echo(json.dumps(facts), err=True)
    else:
        failed = f", {tally.failed:,} failed" if tally.failed else ""
        click.echo(f"{tally.records:,} records in {seconds:.1f} s{failed}", err=True)
