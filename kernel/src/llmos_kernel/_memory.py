"""Shared memory: a region that processes map, that a writer seals by unmapping it, and that travels by descriptor.

A region is charged until its last mapping ends, and a mapping ends when its pages are unmapped, not when somebody says
so: a numpy array made from a view keeps the pages (and the charge) for as long as it lives.

On Linux a region is a memfd: nobody can shrink it (a reader would be killed by SIGBUS), and after the writer nobody can
write to it, whatever they do.  Elsewhere an unnamed temporary file stands in, and sealing binds this process only.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import socket
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Self

from llmos_kernel.errors import (
    HandleRevoked,
    InvalidArgument,
    KernelError,
    OutOfMemory,
    Overloaded,
    PermissionDenied,
    PortBroken,
)

SEALS = sys.platform == "linux"
"""Whether the operating system enforces seals here."""
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
        if pages is None:
            return
        try:
            self.view.release()
            pages.close()
        except BufferError:  # arrays still use the pages, which go with the last of them
            self.view = memoryview(b"")
        else:
            self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Region:
    """Shared memory of *nbytes*, made here or received as the descriptor *fd*.  All methods: any thread.

    Raises `OutOfMemory` or `Overloaded` when the operating system has none left to give.
    """

    def __init__(self, nbytes: int, fd: int | None = None) -> None:
        self.nbytes = nbytes
        self._fd = _create(nbytes) if fd is None else fd
        self._release = weakref.finalize(self, os.close, self._fd)
        self._lock = threading.RLock()  # reentrant: the end of a mapping may be a finalizer that interrupts a method
        self._sealed = self._closed = False
        self._maps = self._writers = 0
        self._on_free: Callable[[], object] | None = None

    @property
    def fd(self) -> int:
        """The descriptor.  Raises `HandleRevoked` after `close`."""
        if self._closed:
            raise HandleRevoked("this memory was closed")
        return self._fd

    @property
    def sealed(self) -> bool:
        """Whether it is read-only from now on, whoever sealed it."""
        return self._sealed or bool(_seals(self.fd) & (_SEAL_WRITE | _SEAL_FUTURE_WRITE))

    def map(self, write: bool = False) -> Mapping:
        """Map the region into this process.

        Raises `HandleRevoked` after `close`, and `PermissionDenied` for a writer that comes after the seal or has only
        a descriptor to read.
        """
        with self._lock:
            how = {"access": mmap.ACCESS_WRITE if write else mmap.ACCESS_READ}
            if self.sealed and write:
                raise PermissionDenied("this memory is sealed: it can only be read", action="map", right="WRITE")
            if self.sealed and SEALS:  # Linux before 6.7 takes a shared mapping for one that could be made writable
                how = {"flags": mmap.MAP_PRIVATE, "prot": mmap.PROT_READ}
            try:
                pages = mmap.mmap(self._fd, self.nbytes, **how)
            except OSError as error:
                raise _refusal(error, self.nbytes) from error
            self._maps += 1
            self._writers += write
        return Mapping(pages, write=write, ended=functools.partial(self._unmapped, write))

    def seal(self) -> None:
        """Let nobody write from now on, but through writable mappings that exist.

        Raises `HandleRevoked` after `close`, and `PermissionDenied` where the descriptor is only for reading.
        """
        with self._lock:
            self._seal(self.fd)

    def close(self, on_free: Callable[[], object] | None = None) -> None:
        """Stop new maps.  *on_free* is called when no mapping is left: here, or wherever the last one ends.

        That may be a finalizer in any thread at any moment: *on_free* must not take a lock that is not reentrant.
        """
        with self._lock:
            self._closed = True
            self._on_free = on_free or self._on_free
        self._settle()

    def descriptor(self, write: bool = False) -> int:
        """Return a new descriptor to give away; what is opened for reading cannot be mapped for writing.

        Raises `HandleRevoked` after `close`, and `PermissionDenied` for *write* after the seal.
        """
        with self._lock:
            if write and self.sealed:
                raise PermissionDenied("this memory is sealed: it can only be read", action="send", right="WRITE")
            try:
                if write or not SEALS:
                    return os.dup(self.fd)
                return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise _refusal(error, self.nbytes) from error

    def _unmapped(self, write: bool) -> None:
        with self._lock:
            self._maps -= 1
            self._writers -= write
            if write and not self._writers:
                self._seal(self._fd)
        self._settle()

    def _seal(self, fd: int) -> None:
        self._sealed = True
        for seal in (_SEAL_FUTURE_WRITE, _SEAL_WRITE):
            try:
                _add_seals(fd, seal)
            except OSError as error:
                if error.errno != errno.EBUSY:  # a writable mapping is left somewhere; its end brings the second seal
                    raise _refusal(error, self.nbytes) from error

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

    Raises what `Region.descriptor` raises, and `PortBroken` when nobody is there.
    """
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
    data, fds, _, _ = socket.recv_fds(sock, 1, 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    if not data:
        raise PortBroken("the process that was to send memory is gone")
    if not fds:
        raise InvalidArgument("the message carries no memory", field="fds", value=0, expected="a descriptor")
    nbytes = os.fstat(fds[0]).st_size
    if not nbytes or (SEALS and _seals(fds[0]) & _SEAL_SIZE != _SEAL_SIZE):
        os.close(fds[0])
        raise InvalidArgument("the descriptor is no sealed memory", field="fds", expected="memory of fixed size")
    return Region(nbytes, fds[0])


def _create(nbytes: int) -> int:
    try:
        if SEALS:
            fd = os.memfd_create("llmos", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        try:
            os.ftruncate(fd, nbytes)
            _add_seals(fd, _SEAL_SIZE)
        except OSError:
            os.close(fd)
            raise
    except OSError as error:
        raise _refusal(error, nbytes) from error
    return fd


def _add_seals(fd: int, seals: int) -> None:
    if SEALS:
        import fcntl  # noqa: PLC0415 - not everywhere

        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def _seals(fd: int) -> int:
    """Return the seals of *fd*; none for what is no memfd."""
    if not SEALS:
        return 0
    import fcntl  # noqa: PLC0415 - not everywhere

    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return 0


def _refusal(error: OSError, nbytes: int) -> KernelError:
    """Return the typed error for what the operating system said."""
    if isinstance(error, PermissionError):
        return PermissionDenied("this descriptor is only for reading", action="map", right="WRITE")
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return Overloaded("too many open files for one more region of memory")
    return OutOfMemory(f"no room for {nbytes} bytes of shared memory: {error.strerror}", device="cpu", asked=nbytes)
