"""The modules of the dashboard that need no browser: formats, parsers, stores, and whether both languages are whole."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import playwright
import pytest

from tests.workspace import ROOT

FOLDER = Path(__file__).parent / "javascript"
BROUGHT = Path(playwright.__file__).parent / "driver" / "node"
"""Playwright brings a Node of its own."""


def node() -> str:
    """Return the program that runs the tests."""
    return str(BROUGHT) if BROUGHT.exists() else shutil.which("node") or pytest.skip("there is no Node")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.test.mjs")), ids=lambda path: path.name.partition(".")[0])
def test_modules(path: Path) -> None:
    """Each file of tests passes."""
    done = subprocess.run([node(), "--test", path], cwd=ROOT, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
