"""Run the command line in this process, over a kernel with an echo model."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from llmos.cli import run
from llmos.cli._common import Common
from llmos.testing import EchoBackend, FirstComePlugin
from llmos_kernel import Exporter, Progress

SETTINGS = """
plugins = []
model = "echo"
[[models]]
name = "echo"
backend = "echo"
aliases = ["parrot"]
kinds = ["generate", "chat", "embed", "classify"]
description = "repeats the prompt"
[[models]]
name = "toy"
backend = "echo"
aliases = ["gpt-3"]
capabilities = ["demonstration"]
"""


class Writer(Exporter):
    """Writes a folder with one file and tells its progress."""

    name = "writer"

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write *target*."""
        for done in range(11):
            progress(f"part {done}", done, 10)
        target.mkdir()
        return {"weights": options.get("weights", "fp32"), "options": dict(options)}


@attrs.frozen
class Done:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@attrs.define
class CommandLine:
    """The command line of a user who has the echo model."""

    echo: EchoBackend
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    settings: str = SETTINGS

    def __call__(self, *args: str, stdin: bytes = b"") -> Done:
        """Run ``llmos`` with *args*."""
        Path("llmos.toml").write_text(self.settings, "utf-8")
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        code = run(args, Common(plugins=(self.echo, FirstComePlugin(), Writer())))
        out, err = self.capsys.readouterr()
        return Done(code, out, err)

    def talk(self, *lines: str | Callable[[], str]) -> Done:
        """Run ``llmos chat`` with somebody who types *lines*; a callable is called in place of a line."""
        typed = iter(lines)

        def type_next(prompt: str) -> str:
            line = next(typed, None)
            if line is None:
                raise EOFError
            return line() if callable(line) else line

        self.monkeypatch.setattr("builtins.input", type_next)
        self.monkeypatch.setattr("llmos.cli.chat.on_terminal", lambda: True)
        return self("chat")
