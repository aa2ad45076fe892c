"""Folders: each file a record when they are read, each record a file when they are written.

Links are never followed, neither to files nor to folders, and only regular files are opened: a pipe or a device would
hold the run up, a link could lead out of the folder.  The order is that of the names' bytes, so that a run that goes
on finds the files that it had.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from llmos_data.blocks import SIZE, Block, too_long
from llmos_data.codecs import Encoder, Record, WriteLines, missing
from llmos_data.journal import Journal, sync_folder
from llmos_data.outputs import Output, part_of
from llmos_data.plan import TEXTS, Plan
from llmos_data.sources import Source
from llmos_kernel.errors import InvalidArgument, KernelError

_ONLY_FILES = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_UNSAFE = frozenset(("", ".", ".."))
_KEPT = 512
"""Files that are written before they are synchronised, at most."""


@attrs.define
class Folder(Source):
    """The text files in *path* and the folders in it, by `Plan.suffixes`: records of ``path``, ``name``, ``text``."""

    path: Path
    size: int = attrs.field(default=0, init=False)
    _suffixes: tuple[str, ...] = attrs.field(default=TEXTS, init=False)
    _tails: deque[tuple[int, str]] = attrs.field(factory=deque, init=False)
    """What the journal can ask for: the names up to the end of each block that is under way."""

    @classmethod
    def open(cls, path: Path, suffixes: tuple[str, ...]) -> Folder:
        """Return the folder.  Raises `InvalidArgument` for what is none."""
        if not path.is_dir():
            expected = "a folder, or another format with --from"
            message = f"{path} is no folder; {expected}"
            raise InvalidArgument(message, field="input", value=str(path), expected=expected)
        folder = cls(path)
        folder._suffixes = tuple(suffix.lower() for suffix in suffixes) or TEXTS
        return folder

    def blocks(self, plan: Plan, begin: Journal) -> Iterator[Block]:
        """Yield blocks of lines of JSON, one for each file; a file that cannot be read is a bad block."""
        names, held, number, count = hashlib.sha256(), bytearray(), begin.number, 0
        for count, path in enumerate(self._walk(), 1):
            names.update(os.fsencode(path) + b"\0")
            if count <= begin.end:
                continue
            try:
                held += _line(self.path, path, plan.limit)
            except KernelError as error:
                if held:
                    yield self._block(held, number, count - 1, names)
                self._tails.append((count, names.hexdigest()))
                yield Block.bad(count, count, error)
                held, number = bytearray(), count + 1
            if len(held) >= SIZE:
                yield self._block(held, number, count, names)
                held, number = bytearray(), count + 1
        if held:
            yield self._block(held, number, count, names)

    def _block(self, held: bytearray, number: int, end: int, names: Any) -> Block:  # noqa: ANN401 - hashlib's own
        self._tails.append((end, names.hexdigest()))
        return Block(bytes(held), number, end - number + 1, end)

    def tail(self, end: int) -> str:
        """Return a hash of the names of the files before *end*, which is the end of a block."""
        while self._tails and self._tails[0][0] < end:
            self._tails.popleft()
        return self._tails[0][1] if end and self._tails else ""

    def check(self, plan: Plan, begin: Journal) -> None:
        """Raise `InvalidArgument` unless the files up to the end of *begin* have the names that they had."""
        names = hashlib.sha256()
        for _, path in zip(range(begin.end), self._walk(), strict=False):
            names.update(os.fsencode(path) + b"\0")
        begin.check(plan, names.hexdigest() if begin.end else "")

    def close(self) -> None:
        """Nothing is held open."""

    def _walk(self) -> Iterator[str]:
        """Yield the paths of the files, from the folder on, a folder's own in the place of its name."""
        todo = [self._inside("")]
        while todo:
            entry = next(todo[-1], None)
            if entry is None:
                todo.pop()
            elif entry.is_dir(follow_symlinks=False):
                todo.append(self._inside(os.path.relpath(entry.path, self.path)))
            elif entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(self._suffixes):
                yield os.path.relpath(entry.path, self.path)

    def _inside(self, path: str) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self.path / path) as entries:
            return iter(sorted(entries, key=lambda entry: os.fsencode(entry.name)))


def _line(folder: Path, path: str, limit: int) -> bytes:
    """Return the record of a file as a line of JSON.  Raises `InvalidArgument` naming the file."""
    shown = os.fsencode(path).decode(errors="backslashreplace")
    try:
        name = os.fsencode(path).decode()
        text = _read(folder / path, limit).removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        which = "its name" if error.object == os.fsencode(path) else "it"
        message = f"{shown!r}: {which} is not UTF-8 (byte {error.start + 1})"
        raise InvalidArgument(message, field="record", value=shown, expected="UTF-8") from error
    except OSError as error:
        message = f"{shown!r}: it cannot be read: {error.strerror}"
        raise InvalidArgument(message, field="record", value=shown, expected="a file that can be read") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{shown!r}: {error.message}", **error.fields) from error
    record = {"path": PurePosixPath(*Path(name).parts).as_posix(), "name": Path(name).name, "text": text}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _read(path: Path, limit: int) -> bytes:
    """Return what is in the regular file at *path*, whatever took its place since the folder was listed."""
    with os.fdopen(os.open(path, os.O_RDONLY | _ONLY_FILES), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument.of("record", str(path), "a regular file")
        if status.st_size > limit:
            raise too_long(status.st_size, limit)
        return file.read()


class WriteFiles(Encoder):
    """What `ToFolder` makes files of: their paths and texts, a line of JSON each."""

    def __init__(self, plan: Plan) -> None:
        self._field = plan.result
        self._lines = WriteLines()

    def write(self, record: Record) -> bytes:
        """Return the line.  Raises `InvalidArgument` for a path that leads elsewhere, and for a result without text."""
        if "path" not in record:
            raise missing("path", record)
        text = record[self._field]
        if not isinstance(text, str):
            expected = "a text, because it becomes a file"
            message = f"{self._field} must be {expected}, not {type(text).__name__}"
            raise InvalidArgument(message, field=self._field, value=repr(text)[:80], expected=expected)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            expected = "text without halves of surrogate pairs, because UTF-8 has none"
            message = f"{self._field} must be {expected}"
            raise InvalidArgument(message, field=self._field, value=ascii(text)[:80], expected=expected) from error
        return self._lines.write({"path": safe(record["path"]), "text": text})


def safe(path: object) -> str:
    """Return *path* if it is one below the folder that is written.  Raises `InvalidArgument`."""
    expected = "a path below the folder, with / between names and without .., a drive or control characters"
    if not isinstance(path, str) or not path.isprintable() or "\\" in path or ":" in path.partition("/")[0]:
        raise InvalidArgument.of("path", path, expected)
    if _UNSAFE.intersection(path.split("/")):
        raise InvalidArgument.of("path", path, expected)
    return path


class ToFolder(Output):
    """A folder of files, under another name until it is whole.

    Each file appears whole.  A run that goes on writes files again that came after the journal's last entry.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self.whole, self.path, self._files = path, part_of(path), keep
        if keep and not self.path.is_dir():
            expected = f"the folder with {keep} files that the journal counts on"
            message = f"{self.path} is not there; it must be {expected}, or remove the journal to begin again"
            raise InvalidArgument(message, field="resume", value=str(self.path), expected=expected)
        self.path.mkdir(exist_ok=True)
        self._new: list[Path] = []

    def write(self, data: bytes) -> None:
        """Write the files of one block."""
        for line in data.splitlines():
            record = json.loads(line)
            self._write(self.path / record["path"], record["text"].encode())
            if len(self._new) >= _KEPT:
                self.sync()

    def _write(self, path: Path, text: bytes) -> None:
        """Put *text* at *path*.  Raises `InvalidArgument` where another record put another text."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(".llmos-new")
        new.write_bytes(text)
        try:
            os.link(new, path)
        except FileExistsError:
            if path.is_symlink() or not path.is_file() or path.read_bytes() != text:
                raise _twice(path.relative_to(self.path)) from None
        finally:
            new.unlink()
        self._files += 1
        self._new.append(path)

    def sync(self) -> int:
        """Synchronise the files and the folders that they are in."""
        for path in self._new:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        folders = {folder for path in self._new for folder in path.parents if folder.is_relative_to(self.path)}
        for folder in sorted(folders):
            sync_folder(folder)
        self._new.clear()
        return self._files

    def finish(self) -> None:
        """Synchronise, and give it its name."""
        self.sync()
        self.path.replace(self.whole)
        sync_folder(self.whole.parent)


def _twice(path: Path) -> InvalidArgument:
    expected = "a path that no record before it had"
    message = f"two records have the path {path.as_posix()!r}, and their texts differ"
    return InvalidArgument(message, field="path", value=path.as_posix(), expected=expected)
