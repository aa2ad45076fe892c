"""Reads the Markdown files of the workspace: their code blocks and their links."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from tests.workspace import ROOT

_FENCE = re.compile(
    r"""(?:^<!-- not run: (.+?) -->\n+)?^```(\w*)(?: title="([^"\n]+)")?\n(.*?)^```$""", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@attrs.frozen
class Block:
    """One fenced code block."""

    path: Path
    line: int
    language: str
    text: str
    not_run: str
    """Why it cannot run, from a comment `not run: ...` before it."""
    title: str = ""
    """The file that it is, if it is one: ``python title="name.py"``."""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """Return the Markdown files that people read."""
    places = ["*.md", "docs/**/*.md", "changelog.d/README.md", "kernel/*.md", "sdk/*.md", "plugins/*/*.md"]
    return sorted({path for place in places for path in ROOT.glob(place)} | {ROOT / "plugin-template/README.md"})


def blocks(path: Path, *languages: str) -> list[Block]:
    """Return the code blocks of *path* in one of *languages*."""
    text = path.read_text("utf-8")
    found = [
        Block(path, text.count("\n", 0, match.start(2)) + 1, match[2], match[4], match[1] or "", match[3] or "")
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def pages() -> list[Path]:
    """Return the pages of the site's folders: the examples of each are one program, run in order in one folder."""
    return sorted(path for path in ROOT.glob("docs/*/**/*.md") if "zh" not in path.relative_to(ROOT).parts)


def links(path: Path) -> list[str]:
    """Return the targets of the links of *path*, those in code blocks not counted."""
    return _LINK.findall(_FENCE.sub("", path.read_text("utf-8")))


def commands() -> list[str]:
    """Return the README's two commands: the one that runs the main job, and the one that runs all tests."""
    return [block.text.strip() for block in blocks(ROOT / "README.md", "sh")]
