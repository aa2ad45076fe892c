"""Input without an end is one typed error, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.testing import EchoBackend
from sdk.tests.cli import CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line of a user who has the echo model."""
    return CommandLine(echo, monkeypatch, capsys)


@pytest.mark.parametrize(
    "args", [("generate",), ("embed",), ("classify",), ("generate", "--json"), ("chat",), ("run", "task.toml")]
)
def test_too_much_input(
    llmos: CommandLine, args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More than a command reads at once is refused, with what would be right."""
    monkeypatch.chdir(tmp_path)
    Path("task.toml").write_text('type = "generate"\n')
    monkeypatch.setattr("llmos.cli._common.LARGEST", 2**20)
    done = llmos(*args, stdin=b"x" * (2**20 + 1))

    assert (1, True) == (done.code, "standard input must be at most 1 MiB" in done.err)
    assert "Traceback" not in done.err
