"""Shared memory: mapped without copies, sealed by its writer, freed by the last mapping."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from typing import cast

import numpy as np
import pytest

from kernel.tests.rig import nothing_left
from llmos_kernel import Kernel, Memory, MemoryHandle, _memory
from llmos_kernel._memory import Region
from llmos_kernel.errors import HandleRevoked, OutOfMemory, PermissionDenied

linux = pytest.mark.skipif(not _memory.SEALS, reason="seals are Linux's")


# --- mapping ---------------------------------------------------------------------------------------------------


def test_two_mappings_see_the_same_bytes() -> None:
    """What one mapping writes another reads, at once."""
    region = Region(16)
    with region.map(write=True) as writer, region.map() as reader:
        writer.view[:5] = b"hello"

        assert b"hello" == bytes(reader.view[:5])
        assert 16 == len(reader.view)


def test_reader_cannot_write() -> None:
    """A mapping for reading has a read-only buffer."""
    with Region(16).map() as reader:
        assert reader.view.readonly
        with pytest.raises(TypeError):
            reader.view[0] = 1


def test_numpy_array_without_copy() -> None:
    """An array over the view is the memory itself."""
    region = Region(64)
    with region.map(write=True) as writer, region.map() as reader:
        array = np.frombuffer(writer.view, np.float32)
        array[3] = 1.5
        seen = np.frombuffer(reader.view, np.float32)[3]
        del array

        assert 1.5 == seen


def test_closing_twice_is_no_error() -> None:
    """A mapping and a region can be closed again."""
    region = Region(1)
    mapping = region.map()
    for _ in range(2):
        mapping.close()
        region.close()

    assert not region._release.alive


# --- the seal --------------------------------------------------------------------------------------------------


def test_sealed_when_the_writer_unmaps() -> None:
    """After the writer is gone the memory can be read, and not written by anybody."""
    region = Region(16)
    with region.map(write=True) as writer:
        writer.view[0] = 7
    with region.map() as reader:
        assert 7 == reader.view[0]
    with pytest.raises(PermissionDenied, match="this memory is sealed"):
        region.map(write=True)


def test_the_last_writer_seals() -> None:
    """While one writer is left, another may come."""
    region = Region(16)
    first, second = region.map(write=True), region.map(write=True)
    first.close()
    region.map(write=True).close()
    second.close()

    with pytest.raises(PermissionDenied):
        region.map(write=True)


@linux
def test_kernel_enforces_the_seal() -> None:
    """The operating system refuses to write to a sealed region, whoever asks."""
    region = Region(16)
    region.map(write=True).close()
    with pytest.raises(PermissionError):
        os.pwrite(region._fd, b"x", 0)


# --- the end ---------------------------------------------------------------------------------------------------


def test_closed_region_gives_no_maps() -> None:
    """After `close` there are no new maps; mappings that exist go on."""
    region = Region(16)
    with region.map() as reader:
        region.close()
        with pytest.raises(HandleRevoked, match="this memory was closed"):
            region.map()

        assert 0 == reader.view[0]


def test_charge_returns_with_the_last_mapping() -> None:
    """The callback of `close` waits for every mapping, and is called once."""
    freed: list[str] = []
    region = Region(16)
    first, second = region.map(), region.map(write=True)
    region.close(lambda: freed.append("free"))
    first.close()

    assert freed == []

    second.close()
    region.close()

    assert freed == ["free"]


def test_charge_returns_at_once_without_mappings() -> None:
    """A region that nobody maps is free when it is closed."""
    freed: list[str] = []
    Region(16).close(lambda: freed.append("free"))

    assert freed == ["free"]


@pytest.mark.parametrize("part", [slice(None), slice(2, 4)])
def test_array_keeps_its_pages(part: slice) -> None:
    """Closing a mapping under an array neither raises nor unmaps: the array stays valid and keeps the charge."""
    freed: list[str] = []
    region = Region(16)
    mapping = region.map(write=True)
    mapping.view[:] = bytes(range(16))
    array = np.frombuffer(mapping.view[part], np.uint8)
    mapping.close()
    region.close(lambda: freed.append("free"))

    assert (list(range(16))[part], []) == (array.tolist(), freed)

    del array
    gc.collect()

    assert freed == ["free"]


def test_forgotten_regions_leave_nothing() -> None:
    """A region and a mapping that are dropped without `close` close their files."""
    with nothing_left():
        for _ in range(10):
            Region(16).map(write=True)


# --- what the system refuses -----------------------------------------------------------------------------------


def test_no_memory() -> None:
    """A region larger than the address space is `OutOfMemory`, with what was asked for."""
    with pytest.raises(OutOfMemory, match="no room for") as caught:
        Region(2**62).map()

    assert 2**62 == caught.value.fields["asked"]


def test_no_descriptors() -> None:
    """A process with too many open files gets the same typed error, and loses nothing by it."""
    region, limits = Region(16), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (region._fd + 1, limits[1]))
    try:
        with pytest.raises(OutOfMemory, match="Too many open files"):
            Region(16)
        with pytest.raises(OutOfMemory, match="Too many open files"):
            region.map()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    region.map().close()


# --- without seals ---------------------------------------------------------------------------------------------


def test_without_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no seals an unnamed file stands in, and the seal holds within the process."""
    monkeypatch.setattr(_memory, "SEALS", False)
    region = Region(16)
    with region.map(write=True) as writer:
        writer.view[0] = 7
    with region.map() as reader:
        assert 7 == reader.view[0]
    with pytest.raises(PermissionDenied):
        region.map(write=True)


# --- other processes of the operating system ---------------------------------------------------------------------

READER = """
import mmap, os, sys
fd, size = int(sys.argv[1]), os.fstat(int(sys.argv[1])).st_size
with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as pages:
    print(pages[:5].decode())
for attempt in (lambda: mmap.mmap(fd, size), lambda: os.ftruncate(fd, 1), lambda: os.write(fd, b"x")):
    try:
        attempt()
        print("done")
    except OSError:
        print("refused")
"""


@linux
def test_another_process_reads(kernel: Kernel) -> None:
    """A descriptor from a handle lets another process map the bytes, and neither write nor shrink them."""
    with kernel.attach() as process:
        memory = cast("MemoryHandle", process.alloc(Memory(64)))
        with memory.map(write=True) as writer:
            writer.view[:5] = b"hello"
        fd = memory.descriptor()
        try:
            command = [sys.executable, "-c", READER, str(fd)]
            found = subprocess.run(command, pass_fds=[fd], capture_output=True, text=True, check=True, timeout=60)
        finally:
            os.close(fd)

    assert ["hello", "refused", "refused", "refused"] == found.stdout.split()


def test_closed_memory_gives_no_descriptor() -> None:
    """Nothing new comes of a region after it was closed."""
    region = Region(16)
    region.close()

    with pytest.raises(HandleRevoked):
        region.descriptor()
