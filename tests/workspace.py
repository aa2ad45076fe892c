"""What the tests of the whole workspace share: which distributions there are, and Python in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[1]
RUNTIME = "gpu" if (sys.platform, platform.machine()) == ("linux", "x86_64") or sys.platform == "win32" else "cpu"
"""The extra of llmos-onnx that has wheels for this machine, as in requirements.txt."""


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


def clean_environment(home: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a user whose home is *home* and who has set nothing of ours but *settings*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMOS_", "XDG_", "PYTEST_"))}
    return {**kept, "HOME": str(home), "USERPROFILE": str(home), **settings}


def run(*command: str | Path, cwd: Path, timeout: float = 240, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run *command* in *cwd* as a user who lives there; the caller looks at the exit status."""
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean_environment(cwd, **settings), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False,
    )  # fmt: skip


def python(code: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run *code* in a fresh interpreter."""
    return run(sys.executable, "-c", code, *arguments, cwd=cwd, **settings)


def llmos(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as it is installed."""
    return run(Path(sys.executable).with_name("llmos"), *arguments, cwd=cwd, **settings)
