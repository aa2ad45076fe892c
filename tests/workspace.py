"""What the tests of the whole workspace share: which distributions there are, and Python in a process of its own."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = "gpu" if (sys.platform, platform.machine()) == ("linux", "x86_64") or sys.platform == "win32" else "cpu"
"""The extra of llmos-onnx that has wheels for this machine, as in requirements.txt."""
AS_CALLER = {name: os.environ[name] for name in ("HOME", "USERPROFILE") if name in os.environ}
"""Settings for programs that need the caller's own configuration: pip's index."""


@attrs.frozen
class Distribution:
    """One folder that is published by itself."""

    folder: Path

    @property
    def pyproject(self) -> dict[str, Any]:
        """The whole of its pyproject.toml."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text("utf-8"))

    @property
    def name(self) -> str:
        """The name it is published under."""
        return str(self.pyproject["project"]["name"])

    @property
    def package(self) -> str:
        """The name it is imported under."""
        return "llmos" if self.name == "llmos-sdk" else self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        """The folder of its package."""
        return self.folder / "src" / self.package

    @property
    def modules(self) -> list[Path]:
        """Its Python files, sorted."""
        return sorted(self.source.rglob("*.py"))

    def __str__(self) -> str:
        return self.folder.name


KERNEL, SDK = Distribution(ROOT / "kernel"), Distribution(ROOT / "sdk")
PLUGINS = [Distribution(path.parent) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))]
DISTRIBUTIONS = [KERNEL, SDK, *PLUGINS]


def tracked() -> list[str]:
    """Return the files under version control that are there."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listing.splitlines() if (ROOT / name).is_file()]


def clean_environment(home: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a user whose home is *home* and who has set nothing of ours but *settings*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMOS_", "XDG_", "PYTEST_"))}
    return {**kept, "HOME": str(home), "USERPROFILE": str(home), **(settings or {})}


def run(
    *command: object, cwd: Path, settings: Mapping[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run *command* in *cwd* as a user who lives there; the caller looks at the exit status."""
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean_environment(cwd, settings), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False,
    )  # fmt: skip


def python(
    code: str, *arguments: str, cwd: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run *code* in a fresh interpreter."""
    return run(sys.executable, "-c", code, *arguments, cwd=cwd, settings=settings)


def llmos(*arguments: str, cwd: Path, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as it is installed."""
    return run(Path(sys.executable).with_name("llmos"), *arguments, cwd=cwd, settings=settings)
