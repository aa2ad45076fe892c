"""What a person reads on a terminal is wrapped at words; what a program reads is not wrapped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="only systems with pseudo terminals have them to look at")

NAME = "a-model-that-nobody-has-installed"


def on_terminal(columns: int, *args: str, folder: Path) -> str:
    """Return what the command line shows on a terminal of so many columns."""
    import fcntl  # noqa: PLC0415 - where there is pty there is this
    import struct  # noqa: PLC0415 - the same
    import termios  # noqa: PLC0415 - the same

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "llmos", "--config", str(folder / "llmos.toml"), *args]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = bytearray()
        try:
            while data := os.read(master, 65536):
                shown += data
        except OSError:
            pass  # so the end of a terminal is told
        process.wait()
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with settings of no plugins, so that nothing else is said."""
    (tmp_path / "llmos.toml").write_text("plugins = []\n")
    return tmp_path


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_errors_are_wrapped_at_words(columns: int, folder: Path) -> None:
    """No line is wider than the terminal, and no word is cut; together they are what a pipe gets."""
    shown = on_terminal(columns, "models", "show", NAME, folder=folder)
    command = [sys.executable, "-m", "llmos", "--config", str(folder / "llmos.toml"), "models", "show", NAME]
    piped = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "error: " in shown
    assert max(map(len, shown.splitlines())) <= columns
    assert (piped.stdout + piped.stderr).split() == shown.split()
    assert all(line.startswith(("error: ", "next:  ", "note:  ")) for line in piped.stderr.splitlines())


def test_help_fits(folder: Path) -> None:
    """No line of the first help is wider than a terminal of 80 columns."""
    assert max(map(len, on_terminal(80, "--help", folder=folder).splitlines())) <= 80
