"""The page about exit codes says what commands give."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.cli import EPILOG, INTERRUPTED, READER_GONE, Common, run
from llmos.cli._failures import BUG, PLUGIN, REQUEST, RESOURCE, USAGE
from llmos_kernel import errors
from tests.workspace import ROOT

PAGE = (ROOT / "docs" / "how-to" / "exit-codes.md").read_text("utf-8")
TABLE = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE, re.MULTILINE)
EXAMPLES = [(int(code), found[1]) for code, rest in TABLE if (found := re.search(r"`llmos ([^`]+)`", rest))]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLMOS_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_all_codes_are_on_the_page() -> None:
    """They are those of the program, and those of its help."""
    found = {int(code) for code, _ in TABLE}
    helped = set(map(int, re.findall(r"(?:^|  )\s*(\d+)  ", EPILOG, re.MULTILINE)))

    assert found == {0, REQUEST, USAGE, PLUGIN, RESOURCE, BUG, INTERRUPTED, READER_GONE}
    assert found == helped
    assert {0, 1, 2, 3, 4} == {code for code, _ in EXAMPLES}


@pytest.mark.parametrize(("code", "example"), EXAMPLES)
def test_examples(code: int, example: str) -> None:
    """Each gives its code."""
    assert code == run(shlex.split(example), Common())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CallerError, REQUEST),
        (errors.ConfigError, USAGE),
        (errors.PluginError, PLUGIN),
        (errors.ResourceError, RESOURCE),
        (errors.KernelBug, BUG),
        (RuntimeError, BUG),
        (KeyboardInterrupt, INTERRUPTED),
        (BrokenPipeError, READER_GONE),
    ],
)
def test_errors(
    error: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each branch of errors has its code, whichever command meets it, and is said in one line."""

    def fail(self: Common) -> None:
        raise error("said")

    monkeypatch.setattr(Common, "settings", fail)

    assert code == run(["models", "list"], Common())
    assert "Traceback" not in capsys.readouterr().err


def test_verdicts(tmp_path: Path) -> None:
    """A record that is refused is told by the code, and the others are written."""
    records = tmp_path / "records.jsonl"
    records.write_text('{"text": "a"}\n{"word": "b"}\n')
    task = tmp_path / "task.toml"
    task.write_text('type = "generate"\n[params]\nmax_tokens = 1\n')

    assert 1 == run(["run", str(task), "--each", str(records), "--field", "text"], Common())
    assert 1 == run(["data", "run", "clean", str(records)], Common())


def test_a_signal_that_nobody_handles(tmp_path: Path) -> None:
    """SIGTERM ends a command that waits, as it ends any program."""
    command = [sys.executable, "-m", "llmos", "chat", "--max-tokens", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Hello\n")
        process.stdin.flush()
        heard = process.stdout.read(1)
        process.terminate()

    assert (1, -15) == (len(heard), process.returncode)
