"""Shared memory: a region that processes map, that a writer seals by unmapping it, and that travels by descriptor.

A region is charged until its last mapping ends, and a mapping ends when its pages are unmapped, not when somebody says
so: a numpy array made from a view keeps the pages (and the charge) for as long as it lives.

On Linux a region is a memfd: nobody can shrink it (a reader would be killed by SIGBUS), and after the writer nobody can
write to it, whatever they do.  Elsewhere an unnamed temporary file stands in, and sealing binds this process only.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from llmos_kernel.errors import HandleRevoked, InvalidArgument, OutOfMemory, PermissionDenied, PortBroken

if TYPE_CHECKING:
    import socket

SEALS = sys.platform == "linux"
"""Whether the operating system enforces seals here."""
_READ_ONLY = "this memory is sealed, or was received for reading only"
_SEAL_SIZE = 0x2 | 0x4  # F_SEAL_SHRINK | F_SEAL_GROW
_SEAL_WRITE = 0x8
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
    """Shared memory of *nbytes*, made here or received as the descriptor *fd*.  Any thread.

    Raises `OutOfMemory` when the operating system has none left to give.
    """

    def __init__(self, nbytes: int, fd: int | None = None) -> None:
        self.nbytes = nbytes
        self._lock = threading.RLock()  # reentrant: the end of a mapping may be a finalizer that interrupts a method
        self._sealed = self._closed = False
        self._maps = self._writers = 0
        self._on_free: Callable[[], object] | None = None
        with _typed(nbytes):
            self._fd = _open() if fd is None else fd
            self._release = weakref.finalize(self, os.close, self._fd)
            if fd is None:
                os.ftruncate(self._fd, nbytes)
                _seals(self._fd, _SEAL_SIZE)

    @property
    def fd(self) -> int:
        """The descriptor.  Raises `HandleRevoked` after `close`."""
        if self._closed:
            raise HandleRevoked("this memory was closed")
        return self._fd

    def map(self, write: bool = False) -> Mapping:
        """Map the region into this process.

        Raises `HandleRevoked` after `close`, and `PermissionDenied` for a writer that comes after the seal or that has
        a descriptor for reading only.
        """
        with self._lock:
            if write and self._sealed:
                raise PermissionDenied(_READ_ONLY, action="map", right="WRITE")
            fd = self.descriptor(write)
            try:
                with _typed(self.nbytes):
                    pages = mmap.mmap(fd, self.nbytes, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
            finally:
                os.close(fd)
            self._maps += 1
            self._writers += write
        return Mapping(pages, write=write, ended=functools.partial(self._unmapped, write))

    def descriptor(self, write: bool = False) -> int:
        """Return a new descriptor of the caller's own; one for reading cannot be mapped for writing.

        Raises `HandleRevoked` after `close`.
        """
        with self._lock, _typed(self.nbytes):
            # Opened anew for reading: a map of a duplicate counts as one that could be made writable, and before
            # Linux 6.7 seals and such maps exclude each other.
            return os.dup(self.fd) if write or not SEALS else os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY)

    def seal(self) -> None:
        """Let nobody write from now on, but through writable mappings that exist.

        Raises `HandleRevoked` after `close`, and `PermissionDenied` where the descriptor is for reading only.
        """
        with self._lock:
            self._seal(self.fd)

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
                self._seal(self._fd)
        self._settle()

    def _seal(self, fd: int) -> None:
        with _typed(self.nbytes):
            _seals(fd, _SEAL_FUTURE_WRITE)
            self._sealed = True
            try:
                _seals(fd, _SEAL_WRITE)
            except OSError as error:
                if error.errno != errno.EBUSY:  # somebody maps it for writing; the end of that brings this seal
                    raise

    def _settle(self) -> None:
        with self._lock:
            if self._maps or not self._closed:
                return
            free, self._on_free = self._on_free, None
            self._release()
        if free is not None:
            free()


def send_memory(sock: socket.socket, region: Region, write: bool = False) -> None:
    """Give *region* to the process at the other end of the Unix socket *sock*, to read unless told.

    Raises `HandleRevoked` when it is closed, and `PortBroken` when nobody is there.
    """
    import socket  # noqa: PLC0415 - only who passes memory on pays

    fd = region.descriptor(write)
    try:
        socket.send_fds(sock, [b"M"], [fd])
    except ConnectionError as error:
        raise PortBroken("the process that the memory was for is gone") from error
    finally:
        os.close(fd)


def recv_memory(sock: socket.socket) -> Region:
    """Take a region that `send_memory` sent.

    Raises `PortBroken` when the other side is gone, and `InvalidArgument` for a message without a descriptor or with
    one that its sender could shrink: to touch pages that are gone kills the process.
    """
    import socket  # noqa: PLC0415 - only who passes memory on pays

    data, fds, _, _ = socket.recv_fds(sock, 1, 1)
    if not data:
        raise PortBroken("the process that was to send memory is gone")
    for fd in fds:
        os.set_inheritable(fd, False)  # `recv_fds` takes flags, and up to 3.13 forgets to pass them on
        nbytes = os.fstat(fd).st_size
        if nbytes and (not SEALS or _seals(fd) & _SEAL_SIZE == _SEAL_SIZE):
            return Region(nbytes, fd)
        os.close(fd)
    raise InvalidArgument("the message carries no memory of fixed size", field="fds", expected="a sealed descriptor")


def _open() -> int:
    if SEALS:
        return os.memfd_create("llmos", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import tempfile  # noqa: PLC0415 - brings archives and compression

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _seals(fd: int, add: int = 0) -> int:
    """Add seals to *fd* and return those that it has; none where there are none, and for what is no memfd."""
    if not SEALS:
        return 0
    import fcntl  # noqa: PLC0415 - not everywhere

    if add:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, add)
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return 0


@contextlib.contextmanager
def _typed(nbytes: int) -> Iterator[None]:
    """Turn what the operating system says into a typed error."""
    try:
        yield
    except PermissionError as error:
        raise PermissionDenied(_READ_ONLY, action="map", right="WRITE") from error
    except OSError as error:
        message = f"no room for {nbytes} bytes of shared memory: {error.strerror}"
        raise OutOfMemory(message, device="cpu", asked=nbytes) from error
