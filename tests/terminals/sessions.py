"""Sessions at a terminal: what is typed, and how the terminal is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

FILES = {
    "pipeline.toml": '[pipelines]\ntidy = ["clean", "normalize"]\n',
    "records.jsonl": '{"text": "one  text"}\n{"text": "another\\u00a0text"}\n{"text": "\\u4e00\\u4e8c\\u4e09"}\n',
    "hello.toml": 'type = "chat"\nprompt = "{{ input }}"\nmodel = "tiny"\n[params]\nmax_tokens = 24\n',
}
"""What lies in the folder of a session."""


@attrs.frozen
class Session:
    """A command line, and what is typed into it."""

    name: str
    command: str
    """Behind ``llmos``."""
    typed: tuple[tuple[str, str], ...] = ()
    """What is typed, each after the text that it waits for; ``C-c`` and ``C-d`` are keys."""
    code: int = 0
    quick: bool = False
    """Whether it is looked at in every run of the tests."""

    def argv(self, *before: str) -> list[str]:
        """Return the program and its arguments; *before* are options of ``llmos`` itself."""
        return [sys.executable, "-m", "llmos", *before, *shlex.split(self.command)]


_LONG = "Tell me a long story about a fox and its friends in the forest."
_TALK = (("\n>", "Hello! Who are you?\n"), ("\n>", "/help\n"), ("\n>", "/modle\n"), ("\n>", "/quit\n"))
SESSIONS = (
    Session("help", "--help", quick=True),
    Session("version", "version", quick=True),
    Session("generate", f"generate --seed 1 --max-tokens 120 {_LONG!r}", quick=True),
    Session("generate-json", "generate --seed 1 --max-tokens 8 --json Hello", quick=True),
    Session("generate-many", "generate --seed 1 --max-tokens 40 -n 2 'The fox'"),
    Session("chat", "chat --seed 1 --max-tokens 80 --no-history", _TALK),
    Session("chat-ctrl-c", "chat --no-history", (("\n>", "C-c"), ("to leave)", "C-d"))),
    Session("doctor", "doctor"),
    Session("plugins", "plugins --help", quick=True),
    Session("plugins-list", "plugins list", quick=True),
    Session("plugins-show", "plugins show llmos-routers", quick=True),
    Session("plugins-check", "plugins check llmos-data"),
    Session("models-list", "models list", quick=True),
    Session("models-show", "models show tiny", quick=True),
    Session("config", "config show", quick=True),
    Session("data", "data --help", quick=True),
    Session("data-run", "--config pipeline.toml data run tidy records.jsonl"),
    Session("data-run-file", "--config pipeline.toml data run tidy records.jsonl --output out.jsonl"),
    Session("run", "run hello.toml 'Who are you?'"),
    Session("run-help", "run --help", quick=True),
    Session("run-each", "run hello.toml --each records.jsonl --output said.jsonl"),
    Session("embed", "embed one two", code=1),
    Session("serve", "serve --port 0", (("Ctrl-C", "C-c"),), code=130),
    Session("serve-help", "serve --help", quick=True),
    Session("simulate", "simulate chat --requests 200 --scheduler fifo --scheduler fair"),
    Session("capacity", "capacity --help", quick=True),
    Session("bench", "bench --quick --streams 1,2 --work single"),
    Session("profile", "profile --help", quick=True),
    Session("ps", "ps --server unix:none", code=1, quick=True),
    Session("top", "top --help", quick=True),
    Session("keys", "keys list", quick=True),
    Session("completion", "completion --help", quick=True),
    Session("no-command", "generat x", code=2, quick=True),
    Session("no-option", "generate --temperatur 1 x", code=2, quick=True),
    Session("no-model", "generate -m tinny x", code=1, quick=True),
    Session("no-scheduler", "--scheduler fiffo generate x", code=3, quick=True),
    Session("no-plugin", "plugins show llmos-rooters", code=1, quick=True),
)


def prepare(folder: Path) -> None:
    """Put `FILES` into *folder*."""
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")


def environment(folder: Path, base: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return *base* with nothing of the user's settings: homes are in *folder*, and colours are not decided."""
    kept = {name: value for name, value in base.items() if not name.startswith(("LLMOS_", "XDG_")) and name not in MUTE}
    return {**kept, "HOME": str(folder), "TERM": "xterm-256color", **more}


MUTE = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "PYTHONIOENCODING")
"""Variables that decide how programs print."""
