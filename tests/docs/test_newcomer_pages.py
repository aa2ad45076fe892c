"""What the page of each kind tells a newcomer to do fits the package that llmos begins for them.

That every step works from an empty environment is what tests/packaging/test_newcomer.py looks at, every night.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from llmos_kernel import API
from tests.documents import Block
from tests.packaging.newcomer import edit, section
from tests.workspace import ROOT, llmos, run

TUTORIALS = ROOT / "docs" / "tutorials"
KINDS = sorted(API)


def typed(shown: list[Block]) -> list[str]:
    """Return the lines that the newcomer types."""
    return [line for block in shown if block.language == "sh" for line in block.text.splitlines()]


def begin(shown: list[Block], folder: Path) -> Path:
    """Begin the package as the first block says, and return the folder that the newcomer goes to."""
    new, change, *_ = typed(shown[:1])
    done = llmos(*new.removeprefix("llmos ").split(), cwd=folder)

    assert done.returncode == 0, done.stderr
    return folder / change.removeprefix("cd ")


@pytest.mark.parametrize("kind", KINDS)
def test_steps_fit_the_package(kind: str, tmp_path: Path) -> None:
    """The package is of that kind, each edit finds its lines, and all that is there then can be read."""
    shown = section(TUTORIALS / "plugins" / f"{kind}.md", "As a package")
    package = begin(shown, tmp_path)

    assert typed(shown)[0].startswith(f"llmos plugins new {kind} ")
    for block in shown:
        if block.language == "diff":
            edit(package / block.title, block.text)
        elif block.title:
            (package / block.title).write_text(block.text, "utf-8")
    for path in package.rglob("*.*"):
        match path.suffix:
            case ".py":
                compile(path.read_text("utf-8"), str(path), "exec")
            case ".toml":
                tomllib.loads(path.read_text("utf-8"))
            case ".json":
                json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("kind", KINDS)
def test_steps_go_from_a_package_to_its_use(kind: str, tmp_path: Path) -> None:
    """The shell understands each line; the package is installed, tested, and used by the command line."""
    lines = typed(section(TUTORIALS / "plugins" / f"{kind}.md", "As a package"))
    shell = shutil.which("sh") or pytest.skip("no POSIX shell")
    done = run(shell, "-n", "-c", "\n".join(lines), cwd=tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
    tested = lines.index("pytest -q")
    assert lines.index('pip install -e ".[test]"') < tested
    assert any(line.startswith("llmos ") for line in lines[tested:])


def test_the_environment_has_what_the_pages_use() -> None:
    """The environment of a plugin author has the extras that begin packages and test them."""
    lines = typed(section(TUTORIALS / "first-plugin.md", "Ten minutes"))

    assert ["python3 -m venv .venv", ". .venv/bin/activate"] == lines[:2]
    assert ['pip install "llmos[all]" "llmos-sdk[new,testing]"'] == lines[2:]
