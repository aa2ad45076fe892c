"""Everything that is published, built once, and an empty environment to install it in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.environments import META, Environment, new_environment
from tests.workspace import DISTRIBUTIONS, clean_environment


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An empty virtual environment."""
    return new_environment(tmp_path)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder with source distribution and wheel, by name; each wheel is built from its source distribution."""
    folders: dict[str, Path] = {}
    for dist in [META, *DISTRIBUTIONS]:
        folders[dist.name] = out = tmp_path_factory.mktemp(dist.name)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(dist.folder)]
        done = subprocess.run(
            command, env=clean_environment(out), capture_output=True, text=True, check=False, timeout=300
        )

        assert done.returncode == 0, f"{dist.name}: {done.stdout}{done.stderr}"
    return folders
