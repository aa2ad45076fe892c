"""A plugin of each kind by somebody who has read its page and nothing else, in less than ten minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.newcomer import Newcomer
from tests.workspace import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
KINDS = sorted(page.stem for page in TUTORIALS.glob("plugins/*.md"))
MINUTES = 10


@pytest.fixture(scope="module")
def settings(built: dict[str, Path]) -> dict[str, str]:
    """Where the installer finds the wheels, besides where it looks anyway."""
    folders = [os.environ.get("PIP_FIND_LINKS", ""), *map(str, built.values())]
    return {"PIP_FIND_LINKS": " ".join(filter(None, folders)), "PIP_QUIET": "1", "PYTHONPATH": ""}


@pytest.fixture(scope="module")
def times() -> Iterator[dict[str, Newcomer]]:
    """What each has done; printed when all have."""
    done: dict[str, Newcomer] = {}
    yield done
    rows = [f"| {kind} | {one.seconds:.0f} | {len(one.steps)} |" for kind, one in sorted(done.items())]
    print("\n| kind | seconds | steps |", "|---|---|---|", *rows, sep="\n")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_first_plugin(kind: str, settings: dict[str, str], times: dict[str, Newcomer], tmp_path: Path) -> None:
    """An empty environment, a package, a change, its tests, its name in the settings, and it works."""
    times[kind] = newcomer = Newcomer(tmp_path, settings)
    newcomer.follow(TUTORIALS / "first-plugin.md", "Ten minutes")
    newcomer.follow(TUTORIALS / "plugins" / f"{kind}.md", "As a package")
    print(*(f"{step.seconds:6.1f} s  {step.what}" for step in newcomer.steps), sep="\n")

    assert newcomer.seconds < 60 * MINUTES
