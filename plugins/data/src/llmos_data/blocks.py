"""From a file to blocks of whole records, in constant memory, whatever the file holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import attrs

from llmos_kernel.errors import InvalidArgument, KernelError

SIZE = 2**18
"""Bytes of a block: some thousand short records, so that handing one over costs nothing beside the work."""
_MARK = b"\xef\xbb\xbf"


class Readable(Protocol):
    """What blocks are read from: standard input, a file."""

    def read1(self, size: int, /) -> bytes:
        """Return some bytes, as soon as there are any; nothing at the end."""


@attrs.frozen
class Block:
    """Whole records that are worked on together."""

    data: bytes
    number: int
    """Of its first record, from 1."""
    count: int
    """Records that it holds."""
    end: int
    """Where the next block begins: bytes, rows or files of the source."""
    fault: Mapping[str, Any] | None = None
    """What is wrong with a record that is too bad to be handed over, as `KernelError.to_wire` has it."""

    @classmethod
    def bad(cls, number: int, end: int, error: KernelError) -> Block:
        """Return a block that holds only what is wrong with its one record."""
        return cls(b"", number, 1, end, error.to_wire())


def read_blocks(file: Readable, at: int, number: int, limit: int, *, quoted: bool = False) -> Iterator[Block]:
    """Yield blocks of lines from *file*, which stands at the byte *at*, before the record *number*.

    *quoted* lines are CSV: one that ends within quotes goes on.  A record longer than *limit* bytes is a bad block, and
    is read over without being kept.
    """
    held = bytearray()
    while chunk := file.read1(SIZE):
        held += chunk
        if at == 0 and held.startswith(_MARK):
            del held[: len(_MARK)]
            at = len(_MARK)
        cut = _border(held, quoted=quoted)
        if cut:
            data = bytes(held[:cut])
            del held[:cut]
            count = _count(data, quoted=quoted)
            at += cut
            yield Block(data, number, count, at)
            number += count
        elif len(held) > limit:
            skipped, held = _to_line_end(file, held)
            at += skipped
            yield Block.bad(number, at, too_long(skipped, limit))
            number += 1
    if held:
        yield Block(bytes(held), number, 1, at + len(held))


def too_long(size: int, limit: int) -> InvalidArgument:
    """Return the error for a record of *size* bytes."""
    expected = f"at most {limit:,} bytes"
    return InvalidArgument(
        f"it has {size:,} bytes, and {expected} are read", field="limit", value=size, expected=expected
    )


def _border(held: bytearray, *, quoted: bool) -> int:
    """Return where the last whole record ends: after a line's end that is not within quotes; 0 if there is none."""
    cut = held.rfind(b"\n") + 1
    if not quoted:
        return cut
    quotes = held.count(b'"', 0, cut)
    while quotes % 2:
        before = held.rfind(b"\n", 0, cut - 1) + 1
        quotes -= held.count(b'"', before, cut)
        cut = before
    return cut


_PAIRED = re.compile(rb'"[^"]*"')


def _count(data: bytes, *, quoted: bool) -> int:
    return (_PAIRED.sub(b"", data) if quoted else data).count(b"\n")


def _to_line_end(file: Readable, held: bytearray) -> tuple[int, bytearray]:
    """Read over the rest of a line; return the bytes of the line, and what was read behind it."""
    skipped = len(held)
    while chunk := file.read1(SIZE):
        cut = chunk.find(b"\n") + 1
        if cut:
            return skipped + cut, bytearray(chunk[cut:])
        skipped += len(chunk)
    return skipped, bytearray()
