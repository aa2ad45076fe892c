"""Where keys and values lie: host memory, or a GPU's.  Both keep ``[2 * layers, slots, kv_heads, context, head_dim]``.

Buffer 0 has the keys of layer 0, buffer 1 its values, and so on.  A position is written before it is ever read, except
that attention may read what lies beyond a row's length and give it the weight zero: so memory begins as zeros, of which
none is NaN.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from llmos_kernel.errors import KernelBug, OutOfMemory
from llmos_onnx.fields import refusal
from llmos_onnx.providers import CUDA

if TYPE_CHECKING:
    import numpy.typing as npt

DEVICE: Final = "cuda:0"
"""What the ledger calls the GPU."""


def device_of(provider: str) -> str:
    """Return what the ledger calls the device of a session on *provider*."""
    return DEVICE if provider == CUDA else "cpu"


def memory_of(provider: str, *, model: str) -> Callable[..., Cache]:
    """Return what makes the cache of a session on *provider*; raise `ModelUnavailable` where it cannot be had."""
    if provider != CUDA:
        return HostCache
    try:
        return functools.partial(DeviceCache, cuda_library())
    except OSError as error:
        raise refusal(model, "CUDA runtime library", str(error), "the one that onnxruntime-gpu runs with") from error


class Cache(Protocol):
    """The memory of a KV pool."""

    @property
    def device(self) -> str:
        """What the runtime calls the kind of memory: ``cpu`` or ``cuda``."""

    def pointers(self, slot: int) -> list[int]:
        """Return the addresses of *slot* in each buffer."""

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        """Copy the positions from *begin* to *end* between slots."""

    def read(self, slot: int, begin: int, end: int) -> npt.NDArray[Any]:
        """Return a copy of positions in host memory: ``[buffers, kv_heads, end - begin, head_dim]``."""

    def write(self, slot: int, begin: int, parts: Iterable[npt.NDArray[Any]]) -> None:
        """Put *parts*, ``[kv_heads, tokens, head_dim]`` for each buffer, at *begin*."""

    def close(self) -> None:
        """Give the memory back."""


class HostCache:
    """Host memory, taken from the system as it is first written."""

    device = "cpu"

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.values = untouched(shape, dtype)

    def pointers(self, slot: int) -> list[int]:
        """See `Cache.pointers`."""
        strides = self.values.strides
        first = self.values.ctypes.data + slot * strides[1]
        return [first + index * strides[0] for index in range(len(self.values))]

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        """See `Cache.copy`."""
        self.values[:, target, :, begin:end] = self.values[:, source, :, begin:end]

    def read(self, slot: int, begin: int, end: int) -> npt.NDArray[Any]:
        """See `Cache.read`."""
        return self.values[:, slot, :, begin:end].copy()

    def write(self, slot: int, begin: int, parts: Iterable[npt.NDArray[Any]]) -> None:
        """See `Cache.write`."""
        for buffer, part in zip(self.values, parts, strict=True):
            buffer[slot, :, begin : begin + part.shape[1]] = part

    def close(self) -> None:
        """Do nothing: the memory goes with the last who sees it."""


def untouched(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros that take memory page by page as they are written.

    `numpy.zeros` asks the system for pages of 2 MiB.  A head's place for one sequence is about as large, so the first
    token of a sequence would take, and clear, memory for all the tokens that may follow it: 0.6 s instead of 0.04 s for
    the first prompt in a slot of 4,096 tokens of a model of 30 layers.  Attention is not slower with small pages.
    """
    kind = np.dtype(dtype)
    memory = mmap.mmap(-1, max(math.prod(shape) * kind.itemsize, 1))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, kind, math.prod(shape)).reshape(shape)


_TO_DEVICE, _TO_HOST, _WITHIN = 1, 2, 3  # cudaMemcpyKind
_NO_MEMORY: Final = 2  # cudaErrorMemoryAllocation
_LIBRARIES: Final = ("cudart64_13.dll", "cudart64_12.dll") if sys.platform == "win32" else (
    "libcudart.so.13", "libcudart.so.12",
)  # fmt: skip


def cuda_library() -> ctypes.CDLL:
    """Return CUDA's runtime library, which ONNX Runtime has loaded with its own; raise `OSError` where it is not."""
    for name in _LIBRARIES[:-1]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return ctypes.CDLL(_LIBRARIES[-1])


class DeviceCache:
    """Memory of the first GPU, by CUDA's runtime library.

    Each call waits until it is done: ONNX Runtime computes in a stream of its own, which does not wait for others.
    """

    def __init__(
        self, library: Any, shape: tuple[int, ...], dtype: npt.DTypeLike, device: str = "cuda"  # noqa: ANN401 - ctypes
    ) -> None:  # fmt: skip
        """Take and clear the memory; raise `OutOfMemory` where the device has not enough."""
        self.device = device
        self._library = library
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._bytes = math.prod(shape) * self._dtype.itemsize
        self._pitch = math.prod(shape[3:]) * self._dtype.itemsize
        self._address = self._allocate()
        self._call("cudaMemset", ctypes.c_void_p(self._address), 0, ctypes.c_size_t(self._bytes))
        self._call("cudaDeviceSynchronize")

    def pointers(self, slot: int) -> list[int]:
        """See `Cache.pointers`."""
        buffers, slots, heads, *_ = self._shape
        if not 0 <= slot < slots:
            raise KernelBug("no such slot", slot=slot, slots=slots)
        return [self._address + (index * slots + slot) * heads * self._pitch for index in range(buffers)]

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        """See `Cache.copy`."""
        places = zip(self._places(target, begin), self._places(source, begin), strict=True)
        for to, start in places:
            self._move(to, self._pitch, start, self._pitch, end - begin, _WITHIN)
        self._call("cudaDeviceSynchronize")

    def read(self, slot: int, begin: int, end: int) -> npt.NDArray[Any]:
        """See `Cache.read`."""
        found = np.zeros((self._shape[0], self._shape[2], end - begin, self._shape[4]), self._dtype)
        for part, start in zip(found, self._places(slot, begin), strict=True):
            self._move(part.ctypes.data, part.strides[0], start, self._pitch, end - begin, _TO_HOST)
        return found

    def write(self, slot: int, begin: int, parts: Iterable[npt.NDArray[Any]]) -> None:
        """See `Cache.write`."""
        for to, part in zip(self._places(slot, begin), parts, strict=True):
            whole = np.ascontiguousarray(part, self._dtype)
            self._move(to, self._pitch, whole.ctypes.data, whole.strides[0], whole.shape[1], _TO_DEVICE)
        self._call("cudaDeviceSynchronize")

    def close(self) -> None:
        """See `Cache.close`."""
        address, self._address = self._address, 0
        if address:
            self._call("cudaFree", ctypes.c_void_p(address))

    def __del__(self) -> None:
        if getattr(self, "_address", 0):
            self.close()

    def _allocate(self) -> int:
        place = ctypes.c_void_p()
        code = self._library.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(self._bytes))
        if code == _NO_MEMORY:
            message = f"no room for {self._bytes} bytes of key and value cache on the GPU"
            raise OutOfMemory(message, device=DEVICE, asked=self._bytes)
        self._check("cudaMalloc", code)
        return int(place.value or 0)

    def _places(self, slot: int, begin: int) -> Iterator[int]:
        """Yield the address of position *begin* of the first head in each buffer."""
        offset = begin * self._shape[4] * self._dtype.itemsize
        return (pointer + offset for pointer in self.pointers(slot))

    def _move(self, to: int, to_pitch: int, start: int, start_pitch: int, tokens: int, kind: int) -> None:
        """Copy *tokens* of every head of one buffer."""
        width = tokens * self._shape[4] * self._dtype.itemsize
        if not 0 <= width <= self._pitch:
            raise KernelBug("more positions than a slot has", tokens=tokens, context=self._shape[3])
        if width:
            sizes = [ctypes.c_size_t(size) for size in (to_pitch, start_pitch, width, self._shape[2])]
            places = ctypes.c_void_p(to), ctypes.c_void_p(start)
            self._call("cudaMemcpy2D", places[0], sizes[0], places[1], sizes[1], sizes[2], sizes[3], kind)

    def _call(self, name: str, *arguments: object) -> None:
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, code: int) -> None:
        if code:
            raise KernelBug("CUDA refuses a call", call=name, code=code)
