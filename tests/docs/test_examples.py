"""What the documentation shows is what happens."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.documents import Block, blocks, documents
from tests.workspace import ROOT, llmos, python, run

SINGLE = [path for path in documents() if path.parent in {ROOT, ROOT / "docs"} or (ROOT / "docs") not in path.parents]
SCRIPTS = [block for path in SINGLE for block in blocks(path, "python")]
CONSOLES = [block for path in SINGLE for block in blocks(path, "console")]


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_script(block: Block, tmp_path: Path, folders: dict[str, Path]) -> None:
    """A Python example runs as it stands, to its end, and prints what it says it prints."""
    if block.not_run:
        pytest.skip(block.not_run)
    for name, folder in folders.items():
        (tmp_path / name).symlink_to(folder)
    done = python(block.text, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert bool(done.stdout) == ("print(" in block.text)


@pytest.mark.parametrize("block", CONSOLES, ids=str)
def test_console(block: Block, tmp_path: Path, folders: dict[str, Path]) -> None:
    """A command line example does what it is there for."""
    if block.not_run:
        pytest.skip(block.not_run)
    for name, folder in folders.items():
        (tmp_path / name).symlink_to(folder)
    for line in block.text.splitlines():
        program, _, arguments = line.removeprefix("$ ").partition(" ")
        if line.startswith("$ ") and program == "llmos":
            done = llmos(*shlex.split(arguments), cwd=tmp_path)

            assert done.returncode == 0, f"{line}: {done.stderr}"


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_not_run_can_be_read(path: Path, tmp_path: Path) -> None:
    """TOML and JSON that a document shows are TOML and JSON, and a shell understands its commands."""
    for block in blocks(path, "toml"):
        tomllib.loads(block.text)
    for block in blocks(path, "json"):
        for value in re.split(r"\n(?=\{)", block.text):  # one, or a line for each
            json.loads(value)
    shell = shutil.which("sh") or pytest.skip("no POSIX shell")
    commands = "\n".join(block.text for block in blocks(path, "sh"))

    assert "" == run(shell, "-n", "-c", commands, cwd=tmp_path).stderr


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_in_blocks_that_run(path: Path) -> None:
    """What llmos is told stands in a block that says by its language, or by a comment, whether it is run."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)

    assert [] == re.findall(r"^    (?:\$ )?llmos .*", text, re.MULTILINE)


def test_ten_lines() -> None:
    """The README's example is short enough to be read at a glance."""
    (block,) = blocks(ROOT / "README.md", "python")

    assert 5 <= len([line for line in block.text.splitlines() if line.strip()]) <= 11
