"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from llmos.cli import write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="only there do such files and modes exist")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    found = tmp_path / "folder"
    found.mkdir()
    return found


def test_a_new_file(folder: Path) -> None:
    """It holds the text, and nothing lies beside it."""
    write_whole(folder / "out.json", "grün\n")

    assert "grün\n".encode() == (folder / "out.json").read_bytes()
    assert ["out.json"] == [one.name for one in folder.iterdir()]


@pytest.mark.parametrize("before", [None, "old"])
def test_interrupted(before: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there is there still, and nothing lies beside it."""
    out = folder / "out.json"
    if before is not None:
        out.write_text(before)

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(out, "new")

    assert ([] if before is None else [("out.json", before)]) == [
        (one.name, one.read_text()) for one in folder.iterdir()
    ]


def test_what_is_there_changes_in_one_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until all of the text is on the disk, a reader sees the old one."""
    out, seen = folder / "out.json", []
    out.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(out.read_text()))
    write_whole(out, "new")

    assert (["old"], "new") == (seen, out.read_text())


@posix
def test_modes(folder: Path) -> None:
    """A new file has what the umask leaves, one that was there what it had; who asks for privacy gets it."""
    before = os.umask(0o022)
    try:
        for name, mode in (("new", 0o666), ("private", 0o600), ("kept", 0o666)):
            if name == "kept":
                (folder / name).touch(0o600)
                (folder / name).chmod(0o664)
            write_whole(folder / name, "text", mode=mode)
    finally:
        os.umask(before)

    assert {"new": 0o644, "private": 0o600, "kept": 0o664} == {
        one.name: one.stat().st_mode & 0o777 for one in folder.iterdir()
    }


@posix
def test_a_link_stays(folder: Path) -> None:
    """What it leads to is replaced."""
    (folder / "there").mkdir()
    (folder / "there" / "real.json").write_text("old")
    (folder / "link.json").symlink_to("there/real.json")
    write_whole(folder / "link.json", "new")

    assert (folder / "link.json").is_symlink()
    assert "new" == (folder / "there" / "real.json").read_text()


@posix
def test_what_is_no_file_is_written_into(folder: Path) -> None:
    """A pipe has a reader, who would wait for ever beside a file in its place."""
    pipe, heard = folder / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "text")
    reader.join()

    assert (["text"], True) == (heard, pipe.is_fifo())


def test_the_error_names_what_was_asked_for(folder: Path) -> None:
    """Not the file that lies beside it for a moment."""
    out = folder / "nowhere" / "out.json"
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(out, "text")

    assert str(out) == raised.value.filename
