"""How far a run has come, on stable storage, beside its output.

The discipline: what is written to ``OUTPUT.part`` and to the rejects is flushed and synchronised (fsync) first; then
the journal, written anew beside the old one and synchronised, takes its place (rename), and the folder is synchronised.
So whatever the journal says is on the disk, is on the disk.  A run that goes on cuts both files back to what the
journal says and reads on from there: what was written after the last entry is written again, once.  At the end
``OUTPUT.part`` is synchronised and renamed to ``OUTPUT``, and the journal is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import attrs

from llmos_data.plan import UNITS, Plan
from llmos_kernel.api import number, string
from llmos_kernel.errors import InvalidArgument

_TAIL = 4096
"""Bytes before the place to go on at that must be what they were."""
_whole = number(0, 2**62)
_FREE = ("rejecting", "limit")
"""Parts of a plan that may differ when a run goes on: a bad record that ended it may be noted now."""


@attrs.frozen(kw_only=True)
class Journal:
    """The last durable state of a run."""

    plan: Plan
    end: int = attrs.field(default=0, validator=_whole)
    """Where the source is read on."""
    number: int = attrs.field(default=1, validator=_whole)
    """Of the next record."""
    output: int = attrs.field(default=0, validator=_whole)
    """Bytes of the output that count."""
    rejects: int = attrs.field(default=0, validator=_whole)
    """Bytes of the rejects that count."""
    written: int = attrs.field(default=0, validator=_whole)
    rejected: int = attrs.field(default=0, validator=_whole)
    tail: str = attrs.field(default="", validator=string)
    """Of the source before `end`, as `tail_of` has it."""

    def save(self, path: Path) -> None:
        """Put the journal at *path*, whole or not at all; it is on stable storage when this returns."""
        new = path.with_name(path.name + ".new")
        facts = {**attrs.asdict(self, recurse=False), "plan": attrs.asdict(self.plan)}
        with new.open("w", encoding="utf-8") as file:
            json.dump(facts, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_folder(path.parent)

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Return the journal at *path*.  Raises `InvalidArgument` for what is none."""
        try:
            facts: dict[str, Any] = json.loads(path.read_bytes())
            return cls(**{**facts, "plan": Plan(**facts["plan"])})
        except (ValueError, TypeError, KeyError) as error:
            expected = "a journal of this version of llmos"
            message = f"{path} cannot be gone on from; remove it to begin again"
            raise InvalidArgument(message, field="resume", value=str(path), expected=expected) from error

    def check(self, plan: Plan, tail: str) -> None:
        """Raise `InvalidArgument` unless a run by *plan* over the same source can go on from here."""
        for field, before in attrs.asdict(self.plan).items():
            now = getattr(plan, field)
            if field not in _FREE and now != before:
                expected = f"{field} as it was, {before!r}; or the journal removed, to begin again"
                message = f"the run was begun with {field} {before!r}, not {now!r}"
                raise InvalidArgument(message, field=field, value=now, expected=expected)
        if tail != self.tail:
            expected = "the source as it was"
            message = f"the source is another one: what stands before {UNITS[plan.source]} {self.number} has changed"
            raise InvalidArgument(message, field="input", value=self.end, expected=expected)


def tail_of(data: bytes) -> str:
    """Return what tells the end of *data*, the part of a source that was read, from another."""
    return hashlib.sha256(data[-_TAIL:]).hexdigest()


def tail_before(path: Path | int, end: int) -> str:
    """Return `tail_of` what stands before *end* in the regular file *path*."""
    with open(path, "rb", closefd=not isinstance(path, int)) as file:
        return tail_of(os.pread(file.fileno(), min(end, _TAIL), max(0, end - _TAIL)))


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
