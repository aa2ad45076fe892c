"""The model folder: written whole or not at all, and believed only as far as it was read and hashed.

    llmos.json         `Manifest`: shapes, formats, special tokens, chat template, and each file's size and SHA-256
    model.onnx         the decoder graph (`llmos_onnx.graph` states its inputs and outputs)
    model.onnx.data    the weights, one after another
    tokenizer.json     the model's own tokenizer
    README.md          optional: the model card

`open_folder` and `read_tokenizer` read each file once, hash what they read and return those same bytes, so nothing that
changes on disk afterwards matters, and the runtime is given bytes instead of paths:

    folder = open_folder(path)
    options = onnxruntime.SessionOptions()
    options.add_external_initializers_from_files_in_memory(*folder.external_files())
    session = onnxruntime.InferenceSession(folder.graph, options, providers=...)

The runtime copies the weights while it loads; drop the folder afterwards to give their bytes back.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, Self, TypeVar

import attrs

from llmos_kernel.errors import InvalidArgument, OutOfMemory
from llmos_onnx.fields import MAX_JSON_BYTES, refusal
from llmos_onnx.graph_check import check_graph
from llmos_onnx.manifest import DATA, GRAPH, MANIFEST, TOKENIZER, FileEntry, Manifest

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECE: Final = 1 << 27  # large, because each one waits for the interpreter's lock, which the tokenizer holds meanwhile


class AnyManifest(Protocol):
    """What is known of a folder of any layout."""

    @property
    def name(self) -> str:
        """The model's name."""

    def to_json(self) -> bytes:
        """Return the bytes of ``llmos.json``."""

    @classmethod
    def from_json(cls, data: bytes, *, model: str) -> Self:
        """Read what `to_json` wrote; raise `ModelUnavailable` naming the field that is wrong."""


_M = TypeVar("_M", bound=AnyManifest)
# O_NOFOLLOW refuses links and O_NONBLOCK does not wait for a pipe's writer; O_BINARY is Windows' own.
_OPEN_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@attrs.frozen(eq=False, repr=False)
class ModelFolder:
    """A verified model folder, held in memory."""

    manifest: Manifest
    graph: bytes
    """The serialised decoder graph; its large tensors lie in `data`."""
    data: memoryview
    """The weights, read-only."""

    def external_files(self) -> tuple[list[str], list[memoryview], list[int]]:
        """Return the arguments of ``SessionOptions.add_external_initializers_from_files_in_memory``."""
        return [DATA], [self.data], [len(self.data)]


def read_manifest(path: Path) -> Manifest:
    """Read only ``llmos.json`` of the folder at *path*: enough to list a model, not to trust it.

    Raises `ModelUnavailable` where it is missing, a link, larger than 1 MiB or malformed.
    """
    model = path.absolute().name
    return Manifest.from_json(bytes(read_file(path, MANIFEST, None, model)), model=model)


def open_folder(path: Path, manifest: Manifest | None = None) -> ModelFolder:
    """Read and verify the graph and the weights of the model folder at *path*; *manifest* if it has been read before.

    Each file is read once into memory of its own; size, SHA-256 and the graph's structure are checked before anything
    is returned.  Raises `ModelUnavailable` naming the file or field, its value and what would be right, and
    `OutOfMemory` where the weights do not fit.
    """
    manifest, model = manifest or read_manifest(path), path.absolute().name
    graph, data = (read_file(path, name, manifest.files[name], model) for name in (GRAPH, DATA))
    check_graph(bytes(graph), manifest, model=model)
    return ModelFolder(manifest=manifest, graph=bytes(graph), data=memoryview(data).toreadonly())


def read_tokenizer(path: Path, manifest: Manifest) -> bytes:
    """Return ``tokenizer.json`` of the folder at *path*; raise `ModelUnavailable` where it is not what was exported."""
    return bytes(read_file(path, TOKENIZER, manifest.files[TOKENIZER], path.absolute().name))


def read_file(path: Path, name: str, entry: FileEntry | None, model: str, *, most: int = MAX_JSON_BYTES) -> bytearray:
    """Return the bytes of the file *name*, which must be what *entry* says (no entry: at most *most* bytes)."""
    try:
        with open(path / name, "rb", buffering=0, opener=_open_no_link) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise refusal(model, name, "not a regular file", "a regular file")
            if entry is None and status.st_size > most:
                raise refusal(model, f"{name}: size", status.st_size, f"at most {most} bytes")
            if entry is not None and status.st_size != entry.size:
                raise refusal(model, f"{name}: size", status.st_size, f"{entry.size} bytes, as {MANIFEST} says")
            content, digest = _read_hashed(file, status.st_size)
    except OSError as error:
        expected = "a regular file in the model folder, not a link"
        raise refusal(model, name, error.strerror, expected) from error
    if len(content) != status.st_size or (entry is not None and digest != entry.sha256):
        expected = f"{entry.sha256 if entry else 'an unchanging file'}: the file is not what was exported"
        raise refusal(model, f"{name}: sha256", digest, expected)
    return content


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | _OPEN_FLAGS)


def _read_hashed(file: FileIO, size: int) -> tuple[bytearray, str]:
    """Read up to *size* bytes and hash them."""
    try:
        content = bytearray(size)
    except MemoryError as error:
        raise OutOfMemory(f"no room for {size} bytes of weights", device="cpu", asked=size) from error
    view, digest, done = memoryview(content), hashlib.sha256(), 0
    while done < size and (count := file.readinto(view[done : done + _PIECE])):
        digest.update(view[done : done + count])
        done += count
    return (content if done == size else bytearray(view[:done])), digest.hexdigest()


class FolderWriter:
    """Collects a model folder in a hidden sibling of *target*, which `write_folder` renames when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, FileEntry] = {}

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[HashedFile]:
        """Open the new file *name* for writing; it is hashed as it is written."""
        with (self._path / name).open("xb") as raw:
            hashed = HashedFile(raw)
            yield hashed
        self._files[name] = FileEntry(size=hashed.size, sha256=hashed.hexdigest())

    def add(self, name: str, content: bytes) -> None:
        """Write the new file *name*."""
        with self.file(name) as file:
            file.write(content)

    def finish(self, manifest: _M) -> _M:
        """Write ``llmos.json`` with the files written so far, and return it.

        Raises `ModelUnavailable` where ``from_json`` would not read it back: nobody could open that folder.
        """
        whole: _M = attrs.evolve(manifest, files=self._files)  # type: ignore[misc]  # attrs classes, all of them
        content = whole.to_json()
        written = type(manifest).from_json(content, model=manifest.name)
        with (self._path / MANIFEST).open("xb") as file:
            file.write(content)
        return written


class HashedFile:
    """A file being written: counts and hashes what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes written so far."""

    def write(self, content: Buffer) -> None:
        """Append *content*."""
        view = memoryview(content).cast("B")
        self._file.write(view)
        self._digest.update(view)
        self.size += len(view)

    @contextlib.contextmanager
    def mapped(self) -> Iterator[mmap.mmap]:
        """Map what was written so far into memory, read-only."""
        self._file.flush()
        with (
            Path(self._file.name).open("rb") as written,
            mmap.mmap(written.fileno(), 0, access=mmap.ACCESS_READ) as found,
        ):
            yield found

    def hexdigest(self) -> str:
        """Return the SHA-256 of what was written."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def write_folder(target: Path) -> Iterator[FolderWriter]:
    """Write the model folder *target*: it appears when the block ends, and not at all when the block raises.

    Raises `InvalidArgument` where *target* exists or its parent does not.
    """
    check_target(target)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield FolderWriter(partial)
        partial.chmod(0o755)  # mkdtemp's folders are private; a model folder is not
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_target(target: Path) -> None:
    """Raise `InvalidArgument` where *target* exists or its parent does not."""
    if os.path.lexists(target):
        raise _bad_target(target, "a folder that does not exist yet")
    if not target.parent.is_dir():
        raise _bad_target(target, "a folder inside an existing one")


def _bad_target(target: Path, expected: str) -> InvalidArgument:
    message = f"target is {target.name!r}, expected {expected}"
    return InvalidArgument(message, field="target", value=target.name, expected=expected)
