"""What a person reads on a terminal is wrapped at words; what a program reads is not wrapped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdk.tests.on_terminal import on_terminal

NAME = "a-model-that-nobody-has-installed"


def shown_on(columns: int, *args: str, folder: Path) -> str:
    """Return what the command line shows on a terminal of so many columns."""
    return on_terminal([sys.executable, "-m", "llmos", "--config", "llmos.toml", *args], columns, folder)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with settings of no plugins, so that nothing else is said."""
    (tmp_path / "llmos.toml").write_text("plugins = []\n")
    return tmp_path


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_errors_are_wrapped_at_words(columns: int, folder: Path) -> None:
    """No line is wider than the terminal, and no word is cut; together they are what a pipe gets."""
    shown = shown_on(columns, "models", "show", NAME, folder=folder)
    command = [sys.executable, "-m", "llmos", "--config", str(folder / "llmos.toml"), "models", "show", NAME]
    piped = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "error: " in shown
    assert max(map(len, shown.splitlines())) <= columns
    assert (piped.stdout + piped.stderr).split() == shown.split()
    assert all(line.startswith(("error: ", "next:  ", "note:  ")) for line in piped.stderr.splitlines())


HIDING = "import os, signal; os.write(2, b'\\x1b[?25l'); signal.raise_signal(signal.SIGTERM)"
SHOWN = "\x1b[?25h"
"""What shows the cursor of a terminal."""


@pytest.mark.skipif(os.name != "posix", reason="only there is SIGTERM sent to programs")
@pytest.mark.parametrize(("terminal", "after"), [("xterm", SHOWN), ("dumb", "")])
def test_the_cursor_is_shown_when_the_program_is_terminated(terminal: str, after: str, folder: Path) -> None:
    """Whoever hid it; a terminal that knows no such words is told nothing."""
    (folder / "hides.py").write_text(HIDING)
    argv = [sys.executable, "-m", "llmos", "--config", "llmos.toml", "run", "hides.py"]

    assert (f"\x1b[?25l{after}", -15) == on_terminal(argv, 80, folder, {**os.environ, "TERM": terminal})


@pytest.mark.skipif(os.name != "posix", reason="only there is SIGTERM sent to programs")
def test_without_a_terminal_no_cursor_is_shown(folder: Path) -> None:
    """A file gets nothing that is for terminals."""
    (folder / "hides.py").write_text(HIDING)
    argv = [sys.executable, "-m", "llmos", "--config", "llmos.toml", "run", "hides.py"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, check=False)

    assert (b"", b"\x1b[?25l", -15) == (done.stdout, done.stderr, done.returncode)


def test_help_fits(folder: Path) -> None:
    """No line of the first help is wider than a terminal of 80 columns."""
    assert max(map(len, shown_on(80, "--help", folder=folder).splitlines())) <= 80
