"""What holds for everything that people see: it fits, no word is cut, and colours are only where they are wanted."""

from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

from sdk.tests.on_terminal import on_terminal
from tests.terminals.sessions import SESSIONS, Session, environment, prepare

QUICK = [session for session in SESSIONS if session.quick]
HOWS = [
    (120, (), {}),
    (80, (), {"NO_COLOR": "1"}),
    (80, ("--no-color",), {}),
    (80, (), {"TERM": "dumb"}),
]


def columns_of(line: str) -> int:
    """Return how wide a line without codes is."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


def plain(text: str) -> str:
    """Return *text* without the codes of colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def piped(session: Session, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the session where nobody looks."""
    return subprocess.run(
        session.argv(), cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def widest(shown: str) -> int:
    """Return how wide the widest line is, but for those of one word, such as a path, that no line can hold."""
    return max(columns_of(line) for line in plain(shown).splitlines() if len(line.split()) > 1)


@pytest.mark.parametrize("session", QUICK, ids=lambda session: session.name)
def test_what_is_shown_fits(session: Session, tmp_path: Path) -> None:
    """The exit code is right, no line is wider than the terminal, no word is cut, and a pipe gets no codes."""
    prepare(tmp_path)
    variables = environment(tmp_path, os.environ)
    shown, code = on_terminal(session.argv(), 80, tmp_path, variables)
    done = piped(session, tmp_path, variables)

    assert [session.code, session.code] == [code, done.returncode]
    assert (False, False) == ("Traceback" in shown, "\x1b" in done.stdout + done.stderr)
    assert 80 >= widest(shown)
    if "json" not in session.name:  # it says how long it took
        assert sorted((done.stdout + done.stderr).split()) == sorted(plain(shown).split())


@pytest.mark.parametrize(("columns", "options", "how"), HOWS)
@pytest.mark.parametrize("name", ["help", "plugins-list", "no-model"])
def test_every_terminal(name: str, columns: int, options: tuple[str, ...], how: dict[str, str], tmp_path: Path) -> None:
    """Whatever the terminal is, what is shown fits, and there are no codes where none are wanted."""
    session = next(one for one in SESSIONS if one.name == name)
    prepare(tmp_path)
    shown, code = on_terminal(session.argv(*options), columns, tmp_path, environment(tmp_path, os.environ, **how))

    assert (session.code, False) == (code, "Traceback" in shown)
    assert columns >= widest(shown)
    assert not (options or how) or "\x1b" not in shown


def test_answers_are_wrapped_as_they_come(tmp_path: Path) -> None:
    """What a model says is longer than a line here, and each line ends between two of its words."""
    session = next(one for one in SESSIONS if one.name == "generate")
    prepare(tmp_path)
    shown, _ = on_terminal(session.argv(), 80, tmp_path, environment(tmp_path, os.environ))
    lines = shown.partition("note:")[0].splitlines()

    assert len(lines) > 2
    assert all(len(line) + 1 + len(after.split()[0]) > 80 for line, after in pairwise(lines))
