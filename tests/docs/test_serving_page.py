"""What the pages on serving, keys and remote clients show is what a server of their settings does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.documents import Block, blocks
from tests.served import served
from tests.workspace import ROOT, llmos, python

OPEN, PAGE = ROOT / "docs" / "how-to" / "serve.md", ROOT / "docs" / "how-to" / "keys.md"
REMOTE = ROOT / "docs" / "how-to" / "remote.md"


def asked(folder: Path, address: str, block: Block, key: str = "") -> list[str]:
    """Run the client of a page with *key* and return the lines that it prints."""
    assert "http://127.0.0.1:11535" in block.text
    code = block.text.replace("http://127.0.0.1:11535", address)
    done = python(code, cwd=folder, settings={"LLMOS_KEY": key})

    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_keys(tmp_path: Path) -> None:
    """The clients of both APIs get an answer."""
    theirs, ollamas = blocks(OPEN, "python")
    with served(tmp_path) as address:
        assert [] != asked(tmp_path, address, theirs)
        assert [] != asked(tmp_path, address, ollamas)


def test_keys(tmp_path: Path) -> None:
    """Who has a key is answered, a tenant as often as its quota says, and a key that was taken back never again."""
    (client,) = blocks(PAGE, "python")
    (settings,) = (block for block in blocks(PAGE, "toml") if block.title == "llmos.toml")
    (tmp_path / "llmos.toml").write_text(settings.text, "utf-8")
    made = [llmos("keys", "create", *who, "--json", cwd=tmp_path) for who in (["ann"], ["bob", "--tenant", "trial"])]
    ann, bob = (json.loads(done.stdout) for done in made)

    with served(tmp_path) as address:
        assert ["length"] * 3 == [
            line.replace("stop", "length") for line in asked(tmp_path, address, client, ann["key"])
        ]
        *answered, refused = asked(tmp_path, address, client, bob["key"])
        assert 2 == len(answered)
        assert re.fullmatch(r"not now; again in \d+ s", refused)
        assert ["this key is worth nothing"] * 3 == asked(tmp_path, address, client, "none")
        assert 0 == llmos("keys", "revoke", ann["number"], cwd=tmp_path).returncode
        assert ["this key is worth nothing"] * 3 == asked(tmp_path, address, client, ann["key"])


def test_remote(tmp_path: Path) -> None:
    """A program uses the server's models as it would its own; keys of the page before are not needed here."""
    (client,) = (block for block in blocks(REMOTE, "python") if block.not_run)
    with served(tmp_path) as address:
        finish, *counts, nearest = asked(tmp_path, address, client)

    assert finish in ("stop", "length")
    assert 5 == sum(map(int, counts))
    assert "tiny" in nearest
