"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os


def write_whole(path: str | os.PathLike[str], text: str, *, mode: int = 0o666) -> None:
    """Write *text* into the file *path*, of which a reader sees the old text or all of the new, however this ends.

    A new file gets *mode* less the umask, a file that was there keeps its own.  A link stays, and what it leads to is
    replaced.  What is no regular file (a terminal, a pipe) is written into.  Raises `OSError` naming *path*.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - pathlib is slow to import
            with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - the same
                file.write(text)
        else:
            _replace(os.path.realpath(path), text, mode)
    except OSError as error:  # it may name the other file
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _replace(path: str, text: str, mode: int) -> None:
    partial = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    kept = os.stat(path).st_mode & 0o777 if os.path.exists(path) else None  # noqa: PTH110, PTH116 - as above

    def opener(name: str, how: int) -> int:
        return os.open(name, how, mode if kept is None else kept)

    try:
        with open(partial, "x", encoding="utf-8", opener=opener) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if kept is not None:
            os.chmod(partial, kept)  # noqa: PTH101 - as above; the umask may have taken some
        os.replace(partial, path)  # noqa: PTH105 - as above
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)  # noqa: PTH108 - as above
        raise
