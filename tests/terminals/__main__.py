"""Record every session in tmux: ``python -m tests.terminals FOLDER [NAME]...``, for whoever wants to look at them.

Each becomes ``NAME-COLUMNS-HOW.txt``, as it is seen, and ``.ansi`` beside it, with its colours.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.terminals.sessions import SESSIONS, Session, environment, prepare

HOWS = {"colour": {}, "no-color": {"NO_COLOR": "1"}, "dumb": {"TERM": "dumb"}}
"""How the terminal is, and the variables that say so; ``pipe`` is no terminal."""
PATIENCE = 120.0


def main(folder: str, *names: str) -> None:
    """Record the sessions with *names*, or all, into *folder*."""
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    for session in (one for one in SESSIONS if not names or one.name in names):
        for columns in (80, 120):
            for how, variables in HOWS.items():
                if how == "colour" or columns == 80:
                    _record(session, columns, variables, into / f"{session.name}-{columns}-{how}")
        if not session.typed:
            _piped(session, into / f"{session.name}-pipe.txt")


def _record(session: Session, columns: int, variables: dict[str, str], file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        variables = environment(Path(folder), os.environ, **variables)
        setting = [f"{name}={variables[name]}" for name in ("HOME", "TERM", "NO_COLOR") if name in variables]
        argv = ["env", "-u", "NO_COLOR", "-u", "LLMOS_HOME", *setting, *session.argv()]
        shell = f"trap : INT; {shlex.join(argv)}; echo [exit code $?]; exec sleep {PATIENCE:g}"
        tmux = ["tmux", "-u", "-S", f"{folder}/.tmux", "-f", os.devnull]
        size = ["-x", str(columns), "-y", "60"]
        begin = [*tmux, "new-session", "-d", *size, "-c", folder, shell]
        subprocess.run(begin, check=True)
        try:
            passed = 0
            for awaited, keys in session.typed:
                passed = _await(tmux, awaited, passed)
                key = [keys] if keys.startswith("C-") else ["-l", keys.replace("\n", "\r")]
                subprocess.run([*tmux, "send-keys", *key], check=True)
            _await(tmux, "[exit code", passed)
            file.with_name(f"{file.name}.txt").write_text(_seen(tmux), "utf-8")
            file.with_name(f"{file.name}.ansi").write_text(_seen(tmux, "-e"), "utf-8")
        finally:
            subprocess.run([*tmux, "kill-server"], check=True)


def _await(tmux: Sequence[str], text: str, passed: int) -> int:
    """Wait until *text* is seen behind the *passed* first characters, and return where it ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        at = _seen(tmux).find(text, passed)
        if at >= 0:
            return at + len(text)
        time.sleep(0.1)
    raise TimeoutError(f"waited in vain for {text!r} in\n{_seen(tmux)}")


def _seen(tmux: Sequence[str], *how: str) -> str:
    capture = [*tmux, "capture-pane", "-p", "-S", "-", *how]
    return subprocess.run(capture, check=True, capture_output=True, text=True).stdout.rstrip() + "\n"


def _piped(session: Session, file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        variables = environment(Path(folder), os.environ)
        done = subprocess.run(
            session.argv(), cwd=folder, env=variables, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        file.write_bytes(done.stdout + f"[exit code {done.returncode}]\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
