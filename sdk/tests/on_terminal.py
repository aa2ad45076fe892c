"""A program on a pseudo terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="only systems with pseudo terminals have them to look at")


def on_terminal(
    argv: Sequence[str], columns: int, folder: Path, variables: Mapping[str, str] | None = None
) -> tuple[str, int]:
    """Return what the program shows on a terminal that is so wide, and its exit code."""
    import fcntl  # noqa: PLC0415 - where there is pty there is this
    import struct  # noqa: PLC0415 - the same
    import termios  # noqa: PLC0415 - the same

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(argv, cwd=folder, env=variables, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = bytearray()
        with contextlib.suppress(OSError):  # so the end of a terminal is told
            while data := os.read(master, 65536):
                shown += data
    os.close(master)
    return shown.decode().replace("\r\n", "\n"), process.returncode
