"""What `llmos --help` says of the commands of plugins, without importing one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llmos.cli._announced import announced

METADATA = "Metadata-Version: 2.4\nName: llmos-whatever\nSummary: Counts words.\n\nSummary: no header\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with one distribution, which brings two commands and must not be imported."""
    info, package = tmp_path / "llmos_whatever-1.0.dist-info", tmp_path / "whatever_package"
    for folder in (info, package):
        folder.mkdir()
    (info / "METADATA").write_text(METADATA, "utf-8")
    (info / "entry_points.txt").write_text(
        "[llmos.command]\ncount = whatever_package.command\nshout = whatever_package.command:shout\n", "utf-8"
    )
    for name in ("__init__", "command"):
        (package / f"{name}.py").write_text("raise RuntimeError('imported')\n", "utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_the_summary_describes_a_command(site: Path) -> None:
    """Where no file says more, a command does what its distribution does."""
    assert {"count": "Counts words.", "shout": "Counts words."} == {
        name: one.told() for name, one in announced().items()
    }


def test_a_file_beside_the_module_describes_commands(site: Path) -> None:
    """commands.json says it by name, in one line; the summary serves for what it leaves out."""
    (site / "whatever_package" / "commands.json").write_text('{"shout": "Say it\\n louder."}', "utf-8")

    assert {"count": "Counts words.", "shout": "Say it louder."} == {
        name: one.told() for name, one in announced().items()
    }


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[]", b"null", b'{"count": 1}', b'{"count": ""}', b"[" * 10**5, b" " * 2**17]
)
def test_a_broken_file_describes_nothing(site: Path, data: bytes) -> None:
    """The list of commands is there whatever a plugin's file holds."""
    (site / "whatever_package" / "commands.json").write_bytes(data)

    assert "Counts words." == announced()["count"].told()


@pytest.mark.parametrize("metadata", [None, b"", b"\xff\n", b"Name: x\n\nSummary: no header\n"])
@pytest.mark.parametrize("value", ["missing_package.command", "json", "", "..", "whatever_package.nothing.here"])
def test_what_nothing_describes_is_named_by_its_distribution(site: Path, metadata: bytes | None, value: str) -> None:
    """Then the list says at least whose it is."""
    info = site / "llmos_whatever-1.0.dist-info"
    (info / "entry_points.txt").write_text(f"[llmos.command]\ncount = {value}\n", "utf-8")
    (info / "METADATA").unlink() if metadata is None else (info / "METADATA").write_bytes(metadata)

    assert "From llmos-whatever." == announced()["count"].told()
