"""Where a run writes: standard output, or a file that appears whole, and until then can be gone on with."""

from __future__ import annotations

import abc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from llmos_data.journal import sync_folder
from llmos_kernel.errors import InvalidArgument


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name *path* in an `OSError` that names no file: a full disk is met when a file is long open."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


class Output(abc.ABC):
    """Takes the bytes of records."""

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Take the records of one block."""

    def sync(self) -> int:
        """Put everything on stable storage and return how many bytes that is."""
        return 0

    def finish(self) -> None:  # noqa: B027 - standard output ends with the program
        """Make it whole: nothing comes any more."""

    def close(self) -> None:  # noqa: B027 - the same
        """Let go of it, whole or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ToStdout(Output):
    """Standard output.  Each block is passed on at once."""

    def write(self, data: bytes) -> None:
        """Write and flush."""
        with naming(Path("standard output")):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


class ToFile(Output):
    """A file of which the first *keep* bytes count; the rest is cut off."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("r+b" if keep else "wb", buffering=2**20)
        size = os.fstat(self._file.fileno()).st_size
        if size < keep:
            self._file.close()
            expected = f"at least {keep} bytes, which the journal counts on"
            message = f"{path} has {size} bytes, and the journal counts on {keep}; remove the journal to begin again"
            raise InvalidArgument(message, field="resume", value=size, expected=expected)
        self._file.truncate(keep)
        self._file.seek(keep)

    def write(self, data: bytes) -> None:
        """Write."""
        with naming(self.path):
            self._file.write(data)

    def sync(self) -> int:
        """Flush and synchronise."""
        with naming(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def finish(self) -> None:
        """Synchronise."""
        self.sync()

    def close(self) -> None:
        """Close the file."""
        with naming(self.path):
            self._file.close()


class ToPart(ToFile):
    """A file under another name, *path* with ``.part``, until it is whole."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        self.whole = path
        super().__init__(part_of(path), keep)

    def finish(self) -> None:
        """Synchronise, and give it its name."""
        self.sync()
        self.path.replace(self.whole)
        sync_folder(self.whole.parent)


def part_of(path: Path) -> Path:
    """Return where the output is until it is whole."""
    return path.with_name(path.name + ".part")


def journal_of(path: Path) -> Path:
    """Return where the journal of an output is."""
    return path.with_name(path.name + ".journal")
