"""No change of what others build on is an accident."""

from __future__ import annotations

import difflib

from tests.documents import blocks
from tests.surface import RECORD, surface
from tests.workspace import ROOT


def test_the_surface_is_the_recorded_one() -> None:
    """Every public name, signature, field, hook argument and error is as recorded, or the change is recorded too."""
    recorded, found = RECORD.read_text("utf-8").splitlines(), surface().splitlines()
    difference = list(difflib.unified_diff(recorded, found, "recorded", "found", lineterm="", n=1))
    advice = "read docs/stability.md, then record what you mean with: python -m tests.surface"

    assert difference == [], "\n".join([advice, *difference])


def test_the_page_names_the_command() -> None:
    """The page that says what is stable tells how a change is recorded."""
    commands = [block.text.strip() for block in blocks(ROOT / "docs" / "stability.md", "sh")]

    assert ["python -m tests.surface"] == commands
