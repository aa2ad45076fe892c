"""A folder of fake installed distributions, each broken in its own way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugin_failures.fakes import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An empty folder on the import path of the programs that the test runs."""
    return Installation.make(tmp_path)
