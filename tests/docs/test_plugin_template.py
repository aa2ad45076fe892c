"""The plugin template makes packages that install, are found and pass their own tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.workspace import AS_CALLER, ROOT, run

COPIER = [Path(sys.executable).with_name("copier"), "copy", "--defaults"]
TEMPLATE = ROOT / "plugin-template"


@pytest.mark.parametrize("kind", ["processor", "backend"])
def test_generated_plugin(kind: str, tmp_path: Path) -> None:
    """What copier writes installs beside the workspace, and its tests pass there."""
    plugin, site = tmp_path / "llmos-loud-voice", tmp_path / "site"
    made = run(*COPIER, "--data", "name=loud-voice", "--data", f"kind={kind}", TEMPLATE, plugin, cwd=tmp_path)

    assert made.returncode == 0, made.stderr
    assert [path for path in plugin.rglob("*") if "{" in path.name or path.suffix == ".jinja"] == []

    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    installed = run(*pip, plugin, cwd=tmp_path, settings=AS_CALLER)

    assert installed.returncode == 0, installed.stderr

    tests = run(
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        cwd=plugin,
        settings={"PYTHONPATH": str(site)},
    )

    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert " passed" in tests.stdout


def test_refuses_a_bad_name(tmp_path: Path) -> None:
    """A name that cannot be a package is refused before anything is written."""
    made = run(*COPIER, "--data", "name=Loud Voice", TEMPLATE, tmp_path / "plugin", cwd=tmp_path)

    assert made.returncode != 0
    assert not (tmp_path / "plugin").exists()
