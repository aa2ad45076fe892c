"""Virtual environments for tests, and the wheels to put in them."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import attrs

from tests.workspace import AS_CALLER, ROOT, Distribution, run

META = Distribution(ROOT)


@attrs.frozen
class Environment:
    """A virtual environment and its user's home."""

    home: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, away from the sources."""
        return run(self.home / "env" / "bin" / program, *arguments, cwd=self.home, timeout=600)

    def install(self, *requirements: str) -> None:
        """Install with the ordinary client and the caller's settings for it."""
        pip = [self.home / "env" / "bin" / "python", "-m", "pip", "install", "--quiet"]
        done = run(*pip, *requirements, cwd=self.home, settings=AS_CALLER, timeout=900)

        assert done.returncode == 0, done.stderr

    def installed(self) -> set[str]:
        """Return the names of what is installed, but for the installer itself."""
        listing = self.run("python", "-m", "pip", "list", "--format=freeze").stdout.splitlines()
        return {line.partition("==")[0].lower() for line in listing} - {"pip", "setuptools"}


def new_environment(home: Path) -> Environment:
    """Make an empty virtual environment."""
    venv.create(home / "env", with_pip=True)
    return Environment(home)


def wheel(built: dict[str, Path], name: str) -> Path:
    """Return the wheel of the distribution called *name*."""
    (path,) = built[name].glob("*.whl")
    return path
