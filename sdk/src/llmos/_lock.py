"""One run at a time writes an output: a file beside it that the system locks, so the lock ends with its process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from llmos_kernel.errors import InvalidArgument

_LONGEST = 20
"""Digits of a process id, and more."""
_FAR = 2**30
"""Windows locks bytes, and others must still be able to read those that are there."""


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold *output* for this process.

    Raises `InvalidArgument` with the id of the process that holds it, or where there is no such folder.  The file of a
    process that was killed does not count: the system let go of its lock.
    """
    path = lock_of(output)
    if not path.parent.is_dir():
        raise InvalidArgument.of("output", str(output), f"in a folder that exists, which {path.parent} does not")
    descriptor = _take(path, output)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def lock_of(path: Path) -> Path:
    """Return where the lock of an output is."""
    return path.with_name(path.name + ".lock")


def _take(path: Path, output: Path) -> int:
    """Return the descriptor of the locked file at *path*."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(descriptor)
            if _is_at(path, descriptor):
                return descriptor
        except BlockingIOError as error:
            raise _held(descriptor, path, output) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it between the two steps: it locks nothing any more


def _held(descriptor: int, path: Path, output: Path) -> InvalidArgument:
    other = os.pread(descriptor, _LONGEST, 0).decode(errors="replace") or "unknown"
    os.close(descriptor)
    message = f"{output} is being written by process {other}, which holds {path}; wait for it, or choose another output"
    expected = "an output that no other run writes"
    return InvalidArgument(message, field="output", value=str(output), expected=expected, pid=other)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether *path* is still the name of the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> None:
    """Lock the file; raise `BlockingIOError` while another process has it."""
    if sys.platform == "win32":  # pragma: no cover - the tests run where fcntl is
        import msvcrt  # noqa: PLC0415 - only there

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
        return
    import fcntl  # noqa: PLC0415 - not everywhere

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
