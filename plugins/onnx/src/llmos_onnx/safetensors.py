"""Reading safetensors files: the header is believed only where it describes the file exactly.

A file is eight bytes (the header's length, little-endian), the header (a JSON object that gives each tensor a
``dtype``, a ``shape`` and ``data_offsets``), and the tensors.  Tensors must cover the rest of the file without gap or
overlap, as the format's own reader demands.  Values are read piece by piece: a file is never in memory as a whole.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import attrs
import numpy as np

from llmos_onnx.fields import Fields, read_json, refusal

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_HEADER: Final = 8 << 20
"""Most bytes of a header: forty times what a shard of the largest published models needs."""
METADATA: Final = "__metadata__"
FLOATS: Final = ("F32", "F16", "BF16")
"""Element types of weights."""
_STORED: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),  # tables of positions, which nobody reads
}
_MAX_DIMENSIONS: Final = 8
_MAX_SIZE: Final = 1 << 48


@attrs.frozen(kw_only=True)
class TensorInfo:
    """Where a tensor lies in its file, and as what."""

    dtype: str
    """``F32``, ``F16``, ``BF16``, or ``I64``, which cannot be read."""
    shape: tuple[int, ...]
    start: int
    """Offset of the first byte from the beginning of the file."""
    size: int
    """Length in bytes."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first dimension."""
        return math.prod(self.shape[1:]) * _STORED[self.dtype].itemsize


def parse_header(header: bytes, data_size: int, *, model: str, where: str) -> dict[str, TensorInfo]:
    """Read a *header* that must describe exactly *data_size* bytes of tensors.

    *where* is the file's name.  Raises `ModelUnavailable` naming the tensor and what is wrong with it.
    """
    fields = read_json(header, model=model, where=where, limit=MAX_HEADER)
    base = 8 + len(header)
    found = {name: _read_info(fields.inner(name), base) for name in fields.values if name != METADATA}
    end = base
    for name, info in sorted(found.items(), key=lambda item: (item[1].start, item[1].size)):
        if info.start != end:
            raise refusal(model, f"{where}: {name}: data_offsets", info.start - base, f"a start at {end - base}")
        end += info.size
    if end != base + data_size:
        raise refusal(model, f"{where}: size", base + data_size, f"{end} bytes, the end of its last tensor")
    return found


def _read_info(fields: Fields, base: int) -> TensorInfo:
    fields.only(("dtype", "shape", "data_offsets"))
    dtype = fields.choice("dtype", _STORED)
    shape = fields.integers("shape", 0, _MAX_SIZE, most=_MAX_DIMENSIONS)
    offsets = fields.integers("data_offsets", 0, _MAX_SIZE, most=2)
    size = math.prod(shape) * _STORED[dtype].itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise fields.refuse("data_offsets", f"two offsets {size} bytes apart, the size of {dtype} {list(shape)}")
    return TensorInfo(dtype=dtype, shape=shape, start=base + offsets[0], size=size)


def open_regular(path: Path, *, model: str) -> FileIO:
    """Open the file *path* for reading; raise `ModelUnavailable` where it is a pipe or a device, without waiting.

    Links are followed: caches of published checkpoints consist of them.
    """
    file = FileIO(path, opener=_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise refusal(model, path.name, "not a regular file", "a regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class TensorFile:
    """An open safetensors file; a context manager."""

    def __init__(self, path: Path, *, model: str) -> None:
        """Open *path* and read its header; raise `ModelUnavailable` where that is malformed or missing."""
        self._model, self._name = model, path.name
        try:
            self._file = open_regular(path, model=model)
        except OSError as error:
            raise refusal(model, path.name, error.strerror, "a readable safetensors file") from error
        try:
            self.tensors: Mapping[str, TensorInfo] = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def _read_header(self) -> dict[str, TensorInfo]:
        size = os.fstat(self._file.fileno()).st_size
        prefix = self._file.read(8) or b""
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            expected = f"2 … {min(MAX_HEADER, max(size - 8, 2))} bytes within the file"
            raise refusal(self._model, f"{self._name}: header length", length, expected)
        return parse_header(self._file.read(length) or b"", size - 8 - length, model=self._model, where=self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(self, name: str, most_bytes: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the tensor *name* as float32, some entries of its first dimension at a time.

        A block has at most *most_bytes* bytes, or one entry.  Raises `ModelUnavailable` where the file ends early or a
        value is not finite.
        """
        info = self.tensors[name]
        entries = info.shape[0] if info.shape else 1
        step = max(1, most_bytes // max(1, 4 * math.prod(info.shape[1:])))
        for first in range(0, entries, step):
            count = min(step, entries - first)
            raw = self._read_at(name, info.start + first * info.row_bytes, count * info.row_bytes)
            block = _widen(raw, info.dtype).reshape(count, *info.shape[1:])
            if block.size and not (math.isfinite(block.min()) and math.isfinite(block.max())):
                raise refusal(self._model, f"{self._name}: {name}", "NaN or infinity", "finite weights")
            yield block

    def _read_at(self, name: str, start: int, size: int) -> bytearray:
        self._file.seek(start)
        content = bytearray(size)
        view, done = memoryview(content), 0
        while done < size and (count := self._file.readinto(view[done:])):
            done += count
        if done != size:
            raise refusal(self._model, f"{self._name}: {name}", f"{done} bytes", f"{size} bytes")
        return content


def _widen(raw: bytearray, dtype: str) -> npt.NDArray[np.float32]:
    """Return the stored values as float32, which holds each of them exactly."""
    stored = np.frombuffer(raw, _STORED[dtype])
    if dtype == "BF16":  # the upper half of a float32
        widened: npt.NDArray[np.uint32] = np.left_shift(stored, 16, dtype=np.uint32)
        return widened.view(np.float32)
    return stored.astype(np.float32, copy=False)
