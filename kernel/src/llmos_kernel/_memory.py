"""Shared memory: a region that is mapped any number of times, and that a writer seals by unmapping it.

A region is charged until its last mapping ends, and a mapping ends when its pages are unmapped, not when somebody says
so: a numpy array made from a view keeps the pages (and the charge) for as long as it lives.

On Linux a region is a memfd, and the operating system enforces the seal.  Elsewhere an unnamed temporary file stands
in, and the seal binds those who map through the region.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from llmos_kernel._handles import Resource
from llmos_kernel.errors import HandleRevoked, OutOfMemory, PermissionDenied

if TYPE_CHECKING:
    from llmos_kernel._core import Seat

SEALS = sys.platform == "linux"
"""Whether the operating system enforces seals here."""
_SEAL_SIZE = 0x2 | 0x4  # F_SEAL_SHRINK | F_SEAL_GROW: pages that are gone would kill whoever reads them
_SEAL_FUTURE_WRITE = 0x10  # Python's fcntl does not have this one


class Mapping:
    """A region's pages in this process.  ``view`` is their buffer; close it, or use it in a ``with`` statement."""

    def __init__(self, pages: mmap.mmap, *, write: bool, ended: Callable[[], None]) -> None:
        self.view = memoryview(pages) if write else memoryview(pages).toreadonly()
        """The bytes; ``numpy.frombuffer(mapping.view, dtype)`` copies nothing."""
        self._pages: mmap.mmap | None = pages
        self._ended = weakref.finalize(pages, ended)
        self._ended.atexit = False

    def close(self) -> None:
        """Unmap the pages, or leave that to the last array that uses them.  Closing twice is no error."""
        pages, self._pages = self._pages, None
        try:
            self.view.release()
            if pages is not None:
                pages.close()
        except BufferError:  # arrays still use the pages, which go with the last of them
            self.view = memoryview(b"")
        else:
            self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Region:
    """Shared memory of *nbytes*.  Any thread.  Raises `OutOfMemory` when the operating system has none left to give."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._lock = threading.RLock()  # reentrant: the end of a mapping may be a finalizer that interrupts a method
        self._sealed = self._closed = False
        self._maps = self._writers = 0
        self._on_free: Callable[[], object] | None = None
        with _typed(nbytes):
            self._fd = _open()
            self._release = weakref.finalize(self, os.close, self._fd)
            os.ftruncate(self._fd, nbytes)
            _seal(self._fd, _SEAL_SIZE)

    def map(self, write: bool = False) -> Mapping:
        """Map the region into this process.

        Raises `HandleRevoked` after `close`, and `PermissionDenied` for a writer that comes after the seal.
        """
        with self._lock:
            if self._closed:
                raise HandleRevoked("this memory was closed")
            if write and self._sealed:
                raise PermissionDenied("this memory is sealed", action="map", right="WRITE")
            with _typed(self.nbytes):
                pages = mmap.mmap(self._fd, self.nbytes, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
            self._maps += 1
            self._writers += write
        return Mapping(pages, write=write, ended=functools.partial(self._unmapped, write))

    def descriptor(self) -> int:
        """Return a new descriptor for reading, which the caller closes.  Raises `HandleRevoked` after `close`."""
        with self._lock:
            if self._closed:
                raise HandleRevoked("this memory was closed")
            with _typed(self.nbytes):
                return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY) if SEALS else os.dup(self._fd)

    def close(self, on_free: Callable[[], object] | None = None) -> None:
        """Stop new maps.  *on_free* is called once, when no mapping is left: here, or wherever the last one ends.

        That may be a finalizer in any thread at any moment: *on_free* must not take a lock that is not reentrant.
        """
        with self._lock:
            self._closed = True
            self._on_free = on_free or self._on_free
        self._settle()

    def _unmapped(self, write: bool) -> None:
        with self._lock:
            self._maps -= 1
            self._writers -= write
            if write and not self._writers:
                self._sealed = True
                _seal(self._fd, _SEAL_FUTURE_WRITE)
        self._settle()

    def _settle(self) -> None:
        with self._lock:
            if self._maps or not self._closed:
                return
            free, self._on_free = self._on_free, None
            self._release()
        if free is not None:
            free()


class MemoryResource(Resource):
    """Shared memory; its charge is returned when the last mapping ends."""

    __slots__ = ("charge", "region")
    kind = "memory"

    def __init__(self, seat: Seat, region: Region) -> None:
        self.seat, self.region, self.charge = seat, region, ("nbytes", region.nbytes)

    def disposed(self) -> None:
        self.region.close(on_free=self._freed)
        self.seat.core.settle()

    def _freed(self) -> None:
        self.seat.core.later(lambda: self.seat.account.give(*self.charge))


def _open() -> int:
    if SEALS:
        return os.memfd_create("llmos", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import tempfile  # noqa: PLC0415 - brings archives and compression

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _seal(fd: int, seals: int) -> None:
    """Let nobody do to *fd* what *seals* forbid, for ever.  Maps that exist go on."""
    if SEALS:
        import fcntl  # noqa: PLC0415 - not everywhere

        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


@contextlib.contextmanager
def _typed(nbytes: int) -> Iterator[None]:
    """Turn what the operating system says into a typed error."""
    try:
        yield
    except OSError as error:
        message = f"no room for {nbytes} bytes of shared memory: {error.strerror}"
        raise OutOfMemory(message, device="cpu", asked=nbytes) from error
