"""Long commands that are interrupted: how they end, what they say, and what they leave behind.

Ctrl-C reaches everything that a terminal has in the foreground, so it is sent to a group of processes here as well.
The terminal is a real one where a bar says that the work has begun.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from plugins.onnx.tests.checkpoint_writer import Recipe, write_checkpoint
from tests.test_bad_input import DEAF, bare

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only there do terminals and groups of processes exist")
RECORDS = 400_000


@attrs.frozen
class Ended:
    """How a command ended."""

    code: int
    said: str
    left: list[str]
    """Files whose names begin with ``out``."""


@attrs.frozen
class Long:
    """A command that takes so long that it is interrupted before its end."""

    command: str
    begun: str
    """What its bar shows when its work is under way: a pattern."""
    left: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return "-".join(word for word in self.command.split() if word.isalpha() or word == "2")


PERCENT, BYTES = r"\d%", r"[\d.]+/[\d.]+ [kM]B"
KEPT = ("out.jsonl.journal", "out.jsonl.part")
RESUME = "go on with --resume"
COMMANDS = (
    Long("simulate mixed --scheduler fifo --requests 1000000 --out out.json", PERCENT),
    Long("simulate mixed --scheduler fifo --scheduler fair --jobs 2 --requests 1000000 --out out.json", PERCENT),
    Long("bench tiny --out out.json", r"\d/\d"),
    Long("profile tiny --out out.json", r"\d/\d"),
    Long("export checkpoint out --format q4 --search", BYTES),
    Long("data run clean records.jsonl -o out.jsonl", BYTES, KEPT, RESUME),
    Long("data run clean records.jsonl -o out.jsonl --workers 2", BYTES, KEPT, RESUME),
    Long("run task.toml --each few.jsonl --output out.jsonl", BYTES, KEPT, RESUME),
    Long("eval run tiny suite.jsonl --type generate --max-tokens 64", r"\d/20000", (), RESUME),
)
LARGE = Recipe(hidden=256, mlp=4096, layers=4, heads=4, kv_heads=4, head_dim=64)
"""A checkpoint whose export takes seconds."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the commands read."""
    (tmp_path / "records.jsonl").write_text('{"text": "some  text"}\n' * RECORDS, "utf-8")
    (tmp_path / "few.jsonl").write_text('{"text": "some text"}\n' * 5000, "utf-8")
    (tmp_path / "suite.jsonl").write_text('{"input": "some text", "expected": "x"}\n' * 20_000, "utf-8")
    (tmp_path / "task.toml").write_text('type = "generate"\nmodel = "tiny"\n[params]\nmax_tokens = 8\n', "utf-8")
    write_checkpoint(tmp_path / "checkpoint", LARGE)
    return tmp_path


def begun(long: Long, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start it in a group of its own, and return it with its terminal when its work has begun."""
    terminal, theirs = os.openpty()
    variables = {**bare(folder), "PYTHONUNBUFFERED": "1", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF, *long.command.split()],
        cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    for heard in _heard(terminal):
        said += heard
        if re.search(long.begun.encode(), re.sub(rb"\x1b\[[\d;?]*\w", b"", said)):
            return process, terminal
    raise AssertionError(f"{long} ended before it was interrupted: {said.decode()}")


def _heard(terminal: int) -> Iterator[bytes]:
    """Yield what is written to a terminal, until nobody has it any more."""
    while True:
        try:
            heard = os.read(terminal, 4096)
        except OSError:  # so Linux says that it has been closed at the other end
            return
        if not heard:
            return
        yield heard


def ended(process: subprocess.Popen[bytes], terminal: int, folder: Path) -> Ended:
    """Wait for the end."""
    said = b"".join(_heard(terminal)).decode()
    os.close(terminal)
    return Ended(process.wait(), said, sorted(file.name for file in folder.iterdir() if "out" in file.name))


@pytest.mark.parametrize("long", COMMANDS, ids=str)
def test_ctrl_c(long: Long, folder: Path) -> None:
    """The exit code is 130, nothing has the name of the output, and what can be gone on with says how."""
    process, terminal = begun(long, folder)
    os.killpg(process.pid, signal.SIGINT)
    end = ended(process, terminal, folder)

    assert (130, list(long.left)) == (end.code, end.left)
    assert "Traceback" not in end.said
    assert end.said.rstrip().endswith("interrupted")
    assert long.note in end.said


@pytest.mark.parametrize("long", COMMANDS, ids=str)
def test_sigterm(long: Long, folder: Path) -> None:
    """It ends the command as it ends any program; what worked for it ends too, and says nothing.

    The bar hid the cursor, which is to be seen again.
    """
    process, terminal = begun(long, folder)
    process.terminate()
    end = ended(process, terminal, folder)

    assert -signal.SIGTERM == end.code
    assert "Traceback" not in end.said
    assert not {"out", "out.json", "out.jsonl"} & set(end.left)
    assert end.said.endswith("\x1b[?25h")


def test_going_on_after_sigterm(folder: Path) -> None:
    """Each record is written once."""
    long = next(long for long in COMMANDS if long.command.startswith("data run"))
    process, terminal = begun(long, folder)
    process.terminate()
    ended(process, terminal, folder)
    command = [sys.executable, "-m", "llmos", *long.command.split(), "--resume"]
    done = subprocess.run(command, cwd=folder, env=bare(folder), capture_output=True, check=False)

    assert (0, ["out.jsonl"]) == (done.returncode, [file.name for file in folder.glob("out*")])
    assert b'{"text": "some text"}\n' * RECORDS == (folder / "out.jsonl").read_bytes()
