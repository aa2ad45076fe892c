"""The documents hold together: links, the two commands, the changelog."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from docs.generator.reference import pages
from tests.documents import commands, documents, links
from tests.workspace import ROOT, run

TYPES = {"breaking", "added", "changed", "fixed", "security"}


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path: Path) -> None:
    """A link inside the repository leads to a file that exists."""
    targets = [link.partition("#")[0] for link in links(path) if not re.match(r"[a-z]+:", link)]
    generated = {ROOT / "docs" / page for page in pages()}
    missing = [target for target in targets if target and not (path.parent / target).exists()]

    assert [target for target in missing if (path.parent / target).resolve() not in generated] == []


def test_two_commands() -> None:
    """The README has two commands of one line each; the first one generates, the second one tests."""
    first, second = commands()

    assert ("llmos generate" in first, "tox" in second) == (True, True)
    assert "\n" not in first + second


def test_ci_runs_the_second_command() -> None:
    """CI runs what the README tells people to run, and nothing else that could fail or pass."""
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    steps = [line for line in lines if line and not line.startswith("#")]

    assert ["set -eu", 'cd "$(dirname "$0")/.."', "exec </dev/null", commands()[1]] == steps


def test_changelog_fragments() -> None:
    """Fragments have names that the changelog's builder knows."""
    names = {path.name for path in (ROOT / "changelog.d").iterdir()} - {"README.md", ".gitkeep"}
    known = re.compile(rf"\+[\w-]+\.({'|'.join(TYPES)})\.md")

    assert [name for name in names if not known.fullmatch(name)] == []


def test_changelog_builds(tmp_path: Path) -> None:
    """The next release's notes can be built, and hold every fragment."""
    builder = Path(sys.executable).with_name("towncrier")
    command = [builder, "build", "--draft", "--version", "0.0.0", "--date", "2000-01-01", "--dir", ROOT]
    done = run(*command, "--config", ROOT / "pyproject.toml", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    for fragment in (ROOT / "changelog.d").glob("+*.md"):
        assert fragment.read_text("utf-8").split()[0] in done.stdout
