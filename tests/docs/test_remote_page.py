"""What the page on models elsewhere shows is what happens with another llmos for the far end."""

from __future__ import annotations

from pathlib import Path

from tests.documents import blocks
from tests.served import served
from tests.workspace import ROOT, python

PAGE = ROOT / "docs" / "how-to" / "remote-models.md"
ADDRESS = "http://127.0.0.1:11535"


def test_far_end(tmp_path: Path) -> None:
    """The page's program streams from the far end, and knows what it cost."""
    (shown,) = (block for block in blocks(PAGE, "toml") if block.title == "llmos.toml")
    (program,) = (block for block in blocks(PAGE, "python") if block.not_run)
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    assert ADDRESS in shown.text
    with served(far) as address:
        (near / "llmos.toml").write_text(shown.text.replace(ADDRESS, address), "utf-8")
        done = python(program.text, cwd=near)

    assert done.returncode == 0, done.stderr
    story, facts = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert len(story) > 1
    assert facts == "True True"
