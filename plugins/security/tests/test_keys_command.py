"""``llmos keys``, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmos import KeyRing
from llmos.cli import run


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user's folder without anything in it."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_key_is_shown_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It opens, it is listed without itself, and it can be taken back."""
    assert 0 == run(["keys", "create", "ann", "--tenant", "acme", "--scope", "chat"])
    shown, hint = capsys.readouterr()
    key = KeyRing(home).holder(shown.strip(), now=0.0)
    assert ("ann", "acme", ("chat",), None) == (key.name, key.tenant, key.scopes, key.expires)
    assert f"llmos keys revoke {key.number}" in hint
    assert 0 == run(["keys", "list"])
    listed = capsys.readouterr().out
    assert shown.strip() not in listed
    assert [key.number, "ann", "acme", "chat", "never"] == listed.splitlines()[1].split()
    assert 0 == run(["keys", "revoke", key.number])
    assert "worth nothing" in capsys.readouterr().out

    assert () == KeyRing(home).listed()


def test_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs."""
    run(["keys", "create", "ann", "--days", "1", "--json"])
    made = json.loads(capsys.readouterr().out)
    run(["keys", "list", "--json"])
    (listed,) = json.loads(capsys.readouterr().out)

    assert made.pop("key").startswith(f"llmos-{listed['number']}-")
    assert made == listed
    assert not listed["expired"]


def test_no_key(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list says how to make one; nothing is written by looking."""
    assert 0 == run(["keys", "list"])
    assert "llmos keys create NAME" in capsys.readouterr().out
    assert not home.exists()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["create", "ann", "--days", "0"], 1, "lifetime"), (["create", "ann", "--days", "nan"], 1, "lifetime"),
        (["create", "local"], 1, "tenant must not be 'local'"), (["create", ""], 1, "non-empty"),
        (["revoke", "x"], 1, "there is no key 'x'"), (["create"], 2, "NAME"),
    ],
)  # fmt: skip
def test_mistakes(home: Path, capsys: pytest.CaptureFixture[str], args: list[str], code: int, said: str) -> None:
    """Each is one line that names it."""
    assert code == run(["keys", *args])
    assert said in capsys.readouterr().err
