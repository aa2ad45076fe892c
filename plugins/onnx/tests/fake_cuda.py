"""A GPU that is none: CUDA's runtime library over host memory, and sessions that bind as ONNX Runtime does on a GPU.

Two habits of the real ones matter and are kept: memory comes full of garbage, and binding an input that lies in host
memory copies what it holds at that moment, so that what is written into it afterwards is not seen.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

TO_DEVICE, TO_HOST, WITHIN = 1, 2, 3
NO_MEMORY = 2


class FakeCuda:
    """The functions of the runtime library that llmos calls."""

    def __init__(self, room: int = 1 << 30) -> None:
        self._room = room
        self._blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.unfinished = 0
        """Copies that nobody has waited for."""

    def holds(self, address: int, size: int) -> bool:
        """Return whether *size* bytes from *address* on lie in this device's memory."""
        return any(first <= address and address + size <= first + len(block) for first, block in self._blocks.items())

    @property
    def used(self) -> int:
        """Bytes taken."""
        return sum(map(len, self._blocks.values()))

    def cudaMalloc(self, place: Any, size: ctypes.c_size_t) -> int:  # noqa: N802 - CUDA's name
        """Take memory, full of garbage."""
        if self.used + size.value > self._room:
            return NO_MEMORY
        block = (ctypes.c_char * size.value)()
        ctypes.memset(block, 0xFF, size.value)
        self._blocks[ctypes.addressof(block)] = block
        place._obj.value = ctypes.addressof(block)
        return 0

    def cudaFree(self, place: ctypes.c_void_p) -> int:  # noqa: N802 - CUDA's name
        """Give memory back."""
        return 0 if self._blocks.pop(place.value or 0, None) is not None else 1

    def cudaMemset(self, place: ctypes.c_void_p, value: int, size: ctypes.c_size_t) -> int:  # noqa: N802 - CUDA's name
        """Fill memory."""
        if not self.holds(place.value or 0, size.value):
            return 1
        ctypes.memset(place, value, size.value)
        self.unfinished += 1
        return 0

    def cudaMemcpy2D(  # noqa: N802 - CUDA's name
        self, to: ctypes.c_void_p, to_pitch: ctypes.c_size_t, start: ctypes.c_void_p, start_pitch: ctypes.c_size_t,
        width: ctypes.c_size_t, height: ctypes.c_size_t, kind: int,
    ) -> int:  # fmt: skip
        """Copy rows; refuse places that are not where *kind* says."""
        rows = range(height.value)
        targets = [(to.value or 0) + row * to_pitch.value for row in rows]
        starts = [(start.value or 0) + row * start_pitch.value for row in rows]
        for target, begin in zip(targets, starts, strict=True):
            here = (self.holds(target, width.value), self.holds(begin, width.value))
            if here != {TO_DEVICE: (True, False), TO_HOST: (False, True), WITHIN: (True, True)}[kind]:
                return 1
            ctypes.memmove(target, begin, width.value)
        self.unfinished += kind != TO_HOST
        return 0

    def cudaDeviceSynchronize(self) -> int:  # noqa: N802 - CUDA's name
        """Wait."""
        self.unfinished = 0
        return 0


class FakeSession:
    """A session on the CPU that says it is on a GPU, and binds like one."""

    def __init__(self, session: Any, cuda: FakeCuda) -> None:
        self._session, self._cuda = session, cuda
        self.outputs: list[str] = []
        """Names of the outputs in host memory, once per binding."""

    def get_providers(self) -> list[str]:
        """Return what a session on a GPU returns."""
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_inputs(self) -> Any:
        """Return the graph's inputs."""
        return self._session.get_inputs()

    def io_binding(self) -> FakeBinding:
        """Return a new binding."""
        return FakeBinding(self._session.io_binding(), self._cuda, self.outputs)

    def run_with_iobinding(self, binding: FakeBinding, options: Any) -> None:
        """Run, where everything is where it should be."""
        assert not self._cuda.unfinished, "a run began before a copy was done"
        self._session.run_with_iobinding(binding.real, options)


class FakeBinding:
    """Binds the fake device's memory as it is, and copies of what lies in host memory."""

    def __init__(self, real: Any, cuda: FakeCuda, outputs: list[str]) -> None:
        self.real, self._cuda, self._outputs = real, cuda, outputs
        self._copies: dict[str, Any] = {}

    def bind_input(self, name: str, device: str, number: int, dtype: Any, shape: Any, pointer: int) -> None:
        """Bind device memory, or a copy of host memory as it is now."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        assert (device == "cuda") == self._cuda.holds(pointer, size), f"{name} is not on {device}"
        if device == "cpu":
            copy = (ctypes.c_char * max(size, 1)).from_buffer_copy(ctypes.string_at(pointer, max(size, 1)))
            self._copies[name], pointer = copy, ctypes.addressof(copy)
        self.real.bind_input(name, "cpu", number, dtype, shape, pointer)

    def bind_output(self, name: str, device: str, number: int, dtype: Any, shape: Any, pointer: int) -> None:
        """Bind device memory, or host memory, to which the runtime copies after the run."""
        if device == "cpu":
            self._outputs.append(name)
        self.real.bind_output(name, "cpu", number, dtype, shape, pointer)
