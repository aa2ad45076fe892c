"""Input without an end is one typed error, in bounded memory."""

from __future__ import annotations

import pytest

from llmos.testing import EchoBackend
from sdk.tests.cli import CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line of a user who has the echo model."""
    return CommandLine(echo, monkeypatch, capsys)


@pytest.mark.parametrize("args", [("generate",), ("embed",), ("classify",), ("generate", "--json")])
def test_too_much_input(llmos: CommandLine, args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a command reads at once is refused, with what would be right."""
    monkeypatch.setattr("llmos.cli._common.LARGEST", 2**20)
    done = llmos(*args, stdin=b"x" * (2**20 + 1))

    assert (1, True) == (done.code, "standard input must be at most 1 MiB" in done.err)
    assert "Traceback" not in done.err
