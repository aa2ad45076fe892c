"""Completion in the shells that people use: the script is sourced, and words are completed as the shell would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH, FISH, ZSH = (shutil.which(shell) or "" for shell in ("bash", "fish", "zsh"))
SETTINGS = '[pipelines]\ntidy = ["clean", "normalize"]\n'


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a user with a pipeline, in whose path llmos is this one."""
    (tmp_path / "llmos").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmos "$@"\n')
    (tmp_path / "llmos").chmod(0o755)
    (tmp_path / "llmos.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}


CASES = [
    ("gen", ["generate"]),
    ("serv", ["serve"]),
    ("generate --temp", ["--temperature"]),
    ("generate -m ti", ["tiny"]),
    ("generate -m a", ["auto"]),
    ("chat --model gp", ["gpt-3", "gpt3"]),
    ("generate --pre nor", ["normalize"]),
    ("models show tin", ["tiny"]),
    ("bench tin", ["tiny"]),
    ("--scheduler fi", ["fifo"]),
    ("--router cheap", ["cheapest"]),
    ("plugins show fif", ["fifo"]),
    ("plugins disable llmos-da", ["llmos-data"]),
    ("data run ti", ["tidy"]),
    ("data run norm", ["normalize"]),
    ("simulate --scheduler ed", ["edf"]),
    ("completion fi", ["fish"]),
    ("plugins list --kind sto", ["store"]),
    ("--config nothing.toml generate -m ti", []),
]


@pytest.mark.skipif(not BASH, reason="there is no bash here")
@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_bash(typed: str, expected: list[str], variables: dict[str, str]) -> None:
    """What bash offers for the last word; nothing is said where the settings are wrong."""
    words = ["llmos", *typed.split()]
    script = (
        'source <(llmos completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _llmos_completion llmos; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = [BASH, "--norc", "-c", script, "bash", *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    assert (expected, "") == (done.stdout.split(), done.stderr)


@pytest.mark.skipif(not FISH, reason="there is no fish here")
@pytest.mark.parametrize(("typed", "expected"), CASES[:5])
def test_fish(typed: str, expected: list[str], variables: dict[str, str]) -> None:
    """What fish offers for the last word."""
    script = f"llmos completion fish | source; complete --do-complete 'llmos {typed}'"
    done = subprocess.run([FISH, "-N", "-c", script], env=variables, capture_output=True, text=True, check=False)

    assert expected == sorted(line.split("\t")[0] for line in done.stdout.splitlines())


@pytest.mark.parametrize(("typed", "expected"), CASES[:4])
def test_zsh_is_told(typed: str, expected: list[str], variables: dict[str, str]) -> None:
    """What the script for zsh asks for gives three lines for each word that zsh may offer: kind, word, help."""
    asked = {**variables, "COMP_WORDS": f"llmos {typed}", "COMP_CWORD": str(len(typed.split()))}
    command = [sys.executable, "-m", "llmos"]
    asked["_LLMOS_COMPLETE"] = "zsh_complete"
    done = subprocess.run(command, env=asked, capture_output=True, text=True, check=False)

    assert expected == done.stdout.splitlines()[1::3]


@pytest.mark.skipif(not ZSH, reason="there is no zsh here")
def test_zsh(variables: dict[str, str]) -> None:
    """The script is one that zsh can read."""
    script = "autoload -U compinit; compinit -D; source <(llmos completion zsh); whence -w _llmos_completion"
    done = subprocess.run([ZSH, "-f", "-c", script], env=variables, capture_output=True, text=True, check=False)

    assert "function" in done.stdout
