"""A newcomer: does what a page says, block by block, in a shell of their own, and looks at the clock.

Nothing but the page is known here: ``sh`` blocks are typed, files that have a title are written, ``diff`` blocks are
edits of the file in their title, and a ``text`` block is what the block before it must have printed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

import attrs

from tests.documents import Block, blocks
from tests.workspace import AS_CALLER, run

LANGUAGES = ("sh", "diff", "toml", "python", "json", "text")
_HUNK_SIDE = {"before": " -", "after": " +"}


@attrs.frozen
class Step:
    """Something that was done: its first line, and how many seconds it took."""

    what: str
    seconds: float


@attrs.define
class Newcomer:
    """Somebody in an empty folder, with an installer that finds the wheels."""

    home: Path
    settings: Mapping[str, str]
    steps: list[Step] = attrs.Factory(list)
    printed: str = ""

    def follow(self, page: Path, heading: str) -> None:
        """Do what the section of *page* under *heading* says."""
        for block in section(page, heading):
            begun = time.perf_counter()
            self._do(block)
            if block.language != "text":
                self.steps.append(Step(block.title or block.text.splitlines()[0], time.perf_counter() - begun))

    @property
    def seconds(self) -> float:
        """How long everything took."""
        return sum(step.seconds for step in self.steps)

    def _do(self, block: Block) -> None:
        match block.language:
            case "sh":
                self._type(block)
            case "diff":
                edit(self._here / block.title, block.text)
            case "text":
                assert block.text.strip() in self.printed, f"{block}: not in {self.printed!r}"
            case _ if block.title:
                (self._here / block.title).write_text(block.text, "utf-8")

    def _type(self, block: Block) -> None:
        """Type the lines of *block*; the shell keeps its folder and variables until the next."""
        state = self.home / ".shell"
        before = f'. "{state}"' if state.exists() else ""
        script = f'set -e\n{before}\n{block.text}\n{{ export -p; echo "cd \'$PWD\'"; }} > "{state}"\n'
        done = run("sh", "-c", script, cwd=self.home, settings={**AS_CALLER, **self.settings}, timeout=600)

        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        self.printed = done.stdout + done.stderr

    @property
    def _here(self) -> Path:
        state = self.home / ".shell"
        folders = re.findall(r"^cd '(.+)'$", state.read_text("utf-8"), re.MULTILINE) if state.exists() else []
        return Path(folders[-1]) if folders else self.home


def section(page: Path, heading: str) -> list[Block]:
    """Return the blocks of *page* between the heading and the next of its level."""
    lines = page.read_text("utf-8").splitlines()
    begin = lines.index(f"## {heading}")
    ends = (number for number, line in enumerate(lines) if number > begin and line.startswith("## "))
    end = next(ends, len(lines))
    return [block for block in blocks(page, *LANGUAGES) if begin < block.line <= end]


def edit(path: Path, diff: str) -> None:
    """Apply the one hunk *diff* to a file that has its lines exactly once."""
    lines = diff.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] in side) for side in _HUNK_SIDE.values())
    text = path.read_text("utf-8")

    assert 1 == text.count(before), f"{path}: {before}"
    path.write_text(text.replace(before, after), "utf-8")
