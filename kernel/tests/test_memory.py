"""Shared memory: mapped without copies, sealed by its writer, passed to other processes, freed by the last mapping."""

from __future__ import annotations

import gc
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llmos_kernel import _memory
from llmos_kernel._memory import Region, recv_memory, send_memory
from llmos_kernel.errors import HandleRevoked, InvalidArgument, OutOfMemory, PermissionDenied, PortBroken

linux = pytest.mark.skipif(not _memory.SEALS, reason="seals are Linux's")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a Unix socket."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        yield here, there


def descriptors() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


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


def test_seal_at_once() -> None:
    """After an explicit seal a writer that exists goes on, and none joins it."""
    region = Region(16)
    with region.map(write=True) as writer:
        region.seal()
        writer.view[0] = 7
        with pytest.raises(PermissionDenied):
            region.map(write=True)


@linux
def test_kernel_enforces_the_seal() -> None:
    """The operating system refuses to write to a sealed region and to change the size of any, whoever asks."""
    region = Region(16)
    with pytest.raises(PermissionError):
        os.ftruncate(region.fd, 8)
    with pytest.raises(PermissionError):
        os.ftruncate(region.fd, 32)
    region.seal()
    with pytest.raises(PermissionError):
        os.pwrite(region.fd, b"x", 0)


# --- the end ---------------------------------------------------------------------------------------------------


def test_closed_region_gives_no_maps() -> None:
    """After `close` there are no new maps, descriptors or seals; mappings that exist go on."""
    region = Region(16)
    with region.map() as reader:
        region.close()
        for use in (region.map, region.descriptor, region.seal, lambda: region.fd):
            with pytest.raises(HandleRevoked, match="this memory was closed"):
                use()

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
    before = descriptors()
    for _ in range(10):
        Region(16).map(write=True)
    gc.collect()

    assert before == descriptors()


# --- what the system refuses -----------------------------------------------------------------------------------


def test_no_memory() -> None:
    """A region larger than the address space is `OutOfMemory`, with what was asked for."""
    with pytest.raises(OutOfMemory, match="no room for") as caught:
        Region(2**62).map()

    assert 2**62 == caught.value.fields["asked"]


def test_no_descriptors() -> None:
    """A process with too many open files gets the same typed error, and loses nothing by it."""
    region, limits = Region(16), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (region.fd + 1, limits[1]))
    try:
        with pytest.raises(OutOfMemory, match="Too many open files"):
            Region(16)
        with pytest.raises(OutOfMemory, match="Too many open files"):
            region.map()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    region.map().close()


# --- other processes -------------------------------------------------------------------------------------------


def test_travels_over_a_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    """The receiver maps the same pages; a descriptor sent for reading cannot write, seal or be given to a writer."""
    here, there = pair
    region = Region(16)
    send_memory(here, region)
    received = recv_memory(there)
    with region.map(write=True) as writer, received.map() as reader:
        writer.view[0] = 7

        assert (16, 7) == (received.nbytes, reader.view[0])
    if _memory.SEALS:
        with pytest.raises(PermissionDenied):
            received.map(write=True)
        with pytest.raises(PermissionDenied):
            received.seal()


def test_travels_for_writing(pair: tuple[socket.socket, socket.socket]) -> None:
    """Sent for writing, the receiver writes and its unmapping seals for everybody."""
    here, there = pair
    region = Region(16)
    send_memory(here, region, write=True)
    with recv_memory(there).map(write=True) as writer:
        writer.view[0] = 7
    with region.map() as reader:
        assert 7 == reader.view[0]
    if _memory.SEALS:
        with pytest.raises(PermissionDenied):
            region.map(write=True)


@linux
def test_writer_elsewhere_delays_the_full_seal(pair: tuple[socket.socket, socket.socket]) -> None:
    """While somebody else still maps it for writing, nobody new can; the end of that mapping brings the full seal."""
    here, there = pair
    region = Region(16)
    send_memory(here, region, write=True)
    other = recv_memory(there).map(write=True)
    region.map(write=True).close()

    assert 0 == _memory._seals(region.fd) & _memory._SEAL_WRITE
    with pytest.raises(PermissionDenied):
        region.map(write=True)

    other.close()

    assert _memory._seals(region.fd) & _memory._SEAL_WRITE


def test_another_process_reads_it(pair: tuple[socket.socket, socket.socket]) -> None:
    """A process that shares nothing but the socket reads what this one wrote."""
    here, there = pair
    script = (
        "import socket, sys\n"
        "from llmos_kernel._memory import recv_memory\n"
        "with recv_memory(socket.socket(fileno=int(sys.argv[1]))).map() as reader:\n"
        "    print(bytes(reader.view[:5]).decode())\n"
    )
    region = Region(4096)
    with region.map(write=True) as writer:
        writer.view[:5] = b"hello"
    send_memory(here, region)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", script, str(there.fileno())],
        pass_fds=[there.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "hello\n" == done.stdout


@linux
def test_received_descriptors_do_not_reach_children(pair: tuple[socket.socket, socket.socket]) -> None:
    """No descriptor of a region is inherited by programs that the process starts."""
    here, there = pair
    region = Region(16)
    send_memory(here, region)

    assert [False, False] == [os.get_inheritable(each.fd) for each in (region, recv_memory(there))]


def test_partner_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    """Sending to and receiving from a closed socket is `PortBroken`, and no descriptor leaks."""
    here, there = pair
    there.close()
    region = Region(16)
    before = descriptors()
    with pytest.raises(PortBroken):
        send_memory(here, region)
    with pytest.raises(PortBroken):
        recv_memory(here)

    assert before == descriptors()


def test_message_without_memory(pair: tuple[socket.socket, socket.socket]) -> None:
    """A byte that carries no descriptor is refused."""
    here, there = pair
    here.send(b"M")

    with pytest.raises(InvalidArgument, match="carries no memory"):
        recv_memory(there)


@linux
def test_memory_that_could_shrink(pair: tuple[socket.socket, socket.socket]) -> None:
    """A descriptor that its sender could truncate under the reader is refused and closed; so is an empty one."""
    here, there = pair
    before = descriptors()
    unsealed, empty = os.memfd_create("x"), os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 16)
    null = os.open("/etc/hostname", os.O_RDONLY)
    for fd in (unsealed, empty, null):
        socket.send_fds(here, [b"M"], [fd])
        os.close(fd)
        with pytest.raises(InvalidArgument, match="carries no memory"):
            recv_memory(there)

    assert before == descriptors()


def test_without_seals(monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]) -> None:
    """Where the system has no seals an unnamed file stands in, and the seal holds within the process."""
    here, there = pair
    monkeypatch.setattr(_memory, "SEALS", False)
    region = Region(16)
    with region.map(write=True) as writer:
        writer.view[0] = 7
    send_memory(here, region)
    with recv_memory(there).map() as reader:
        assert 7 == reader.view[0]
    with pytest.raises(PermissionDenied):
        region.map(write=True)


def test_a_seal_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the second seal other than a writer elsewhere is not taken for success."""
    region, real = Region(16), _memory._seals

    def refuse(fd: int, add: int = 0) -> int:
        if add == _memory._SEAL_WRITE:
            raise OSError(5, "Input/output error")
        return real(fd, add)

    monkeypatch.setattr(_memory, "_seals", refuse)

    with pytest.raises(OutOfMemory, match="Input/output error"):
        region.seal()
