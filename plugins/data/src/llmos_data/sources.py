"""Where a run reads: lines of standard input or a file, from the beginning or from where it stopped."""

from __future__ import annotations

import abc
import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import attrs

from llmos_data.blocks import SIZE, Block, read_blocks
from llmos_data.codecs import cells_of, shortened
from llmos_data.journal import Journal, tail_before
from llmos_data.plan import Format, Plan
from llmos_kernel.errors import InvalidArgument

SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


class Source(abc.ABC):
    """Where a run reads."""

    size: int
    """What the ends of blocks count up to; 0 where nobody knows."""

    def columns(self, limit: int) -> tuple[str, ...]:
        """Return the columns that each record has; none where records may differ.

        Raises `InvalidArgument` for a head that names none, or one of more than *limit* bytes.
        """
        return ()

    @abc.abstractmethod
    def blocks(self, plan: Plan, begin: Journal) -> Iterator[Block]:
        """Yield blocks from where *begin* says."""

    @abc.abstractmethod
    def tail(self, end: int) -> str:
        """Return what tells the source before *end* from another; nothing where it cannot be read again."""

    def check(self, plan: Plan, begin: Journal) -> None:
        """Raise `InvalidArgument` unless this is what *begin* was read from, and *plan* is as it was."""
        begin.check(plan, self.tail(begin.end))

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of it."""


@attrs.define
class Lines(Source):
    """Lines of a file, or of standard input where *path* is None."""

    path: Path | None
    file: io.BufferedReader
    size: int
    """Bytes that there are; 0 where nobody knows."""
    _read: int = attrs.field(default=0, init=False)
    """Bytes of the head."""

    @classmethod
    def open(cls, path: Path | None) -> Lines:
        """Return the file at its beginning."""
        file: IO[bytes] = sys.stdin.buffer if path is None else path.open("rb")
        try:
            status = os.fstat(file.fileno())
        except io.UnsupportedOperation:  # standard input that is a program's own object
            return cls(path, file, 0)  # type: ignore[arg-type]
        return cls(path, file, status.st_size if stat.S_ISREG(status.st_mode) else 0)  # type: ignore[arg-type]

    def columns(self, limit: int) -> tuple[str, ...]:
        """Read the head of a CSV file and return its columns.  Raises `InvalidArgument` for one that names none."""
        head = b""
        while line := self.file.readline(limit + 1):
            head += line
            if head.count(b'"') % 2 == 0 or len(head) > limit:
                break
        names = tuple(cells_of(head.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n")))
        if not names or len(set(names)) < len(names) or "" in names:
            expected = "a head that gives each column a name of its own"
            message = f"the first line of a CSV source must be {expected}, not {shortened(head)!r}"
            raise InvalidArgument(message, field="input", value=shortened(head), expected=expected)
        self._read = len(head)
        return names

    def blocks(self, plan: Plan, begin: Journal) -> Iterator[Block]:
        """Yield blocks from where *begin* says."""
        at = self._skip_to(begin.end)
        yield from read_blocks(self.file, at, begin.number, plan.limit, quoted=plan.source == "csv")

    def check(self, plan: Plan, begin: Journal) -> None:
        """Raise `InvalidArgument` unless this is what *begin* was read from; a pipe is taken at its word."""
        begin.check(plan, self.tail(begin.end) if self.size else begin.tail)

    def tail(self, end: int) -> str:
        """Return what tells the source before *end* from another; nothing where it cannot be read again."""
        return tail_before(self.path or self.file.fileno(), end) if self.size else ""

    def _skip_to(self, end: int) -> int:
        if end > self._read and self.size:
            self.file.seek(end)
            return end
        for at in range(self._read, end, SIZE):
            if not self.file.read(min(SIZE, end - at)):
                expected = f"at least {end} bytes, which were read before"
                raise InvalidArgument(f"the source ends early: {expected}", field="input", value=at, expected=expected)
        return max(end, self._read)

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self.path is not None:
            self.file.close()
