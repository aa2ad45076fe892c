"""API keys: what is shown once, what is kept, and what they are worth."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos import KeyRing
from llmos_kernel.errors import ConfigError, InvalidArgument, NotFound, PermissionDenied

NOW = 1_000_000.0


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """An empty one."""
    return KeyRing(tmp_path / "home")


def test_a_key_says_who_comes(ring: KeyRing) -> None:
    """Its holder, for whom, and what for."""
    shown, key = ring.create("ann", tenant="acme", scopes=("operator",), now=NOW)
    who = ring.holder(shown, NOW).credentials

    assert ("ann", "acme", ["operator"]) == (who.name, who.tenant, sorted(who.scopes))
    assert (key,) == ring.listed()


def test_the_key_itself_is_kept_nowhere(ring: KeyRing, tmp_path: Path) -> None:
    """Neither in a file nor in what is printed of it; and nobody else can read the files."""
    shown, key = ring.create("ann", tenant="acme", now=NOW)
    secret = shown.split("-", 2)[2]
    files = sorted((tmp_path / "home").iterdir())

    assert ["keys.json", "keys.secret"] == [file.name for file in files]
    assert not any(secret.encode() in file.read_bytes() for file in files)
    assert secret not in repr(key)
    assert key.hash not in repr(key)
    assert [0o600, 0o600] == [stat.S_IMODE(file.stat().st_mode) for file in files]
    assert len(secret) >= 43  # 256 bits in base64


def test_keys_of_another_folder_are_worth_nothing(tmp_path: Path) -> None:
    """Even if somebody copies the file: the hashes are keyed."""
    one, two = KeyRing(tmp_path / "one"), KeyRing(tmp_path / "two")
    shown, _ = one.create("ann", tenant="acme", now=NOW)
    two.create("bob", tenant="acme", now=NOW)
    (tmp_path / "two" / "keys.json").write_bytes((tmp_path / "one" / "keys.json").read_bytes())

    with pytest.raises(PermissionDenied):
        KeyRing(tmp_path / "two").holder(shown, NOW)


def test_time_runs_out(ring: KeyRing) -> None:
    """At the second that was said."""
    shown, _ = ring.create("ann", tenant="acme", now=NOW, lifetime=60)

    assert "ann" == ring.holder(shown, NOW + 59.9).name
    with pytest.raises(PermissionDenied):
        ring.holder(shown, NOW + 60)


def test_revoking_counts_at_once_everywhere(tmp_path: Path) -> None:
    """Also for who has read the keys before."""
    ours, theirs = KeyRing(tmp_path), KeyRing(tmp_path)
    shown, key = ours.create("ann", tenant="acme", now=NOW)
    assert "ann" == theirs.holder(shown, NOW).name
    ours.revoke(key.number)

    with pytest.raises(PermissionDenied):
        theirs.holder(shown, NOW)
    with pytest.raises(NotFound, match="there are none"):
        theirs.revoke(key.number)


def test_every_refusal_is_the_same(ring: KeyRing) -> None:
    """Nobody learns which part was wrong."""
    shown, key = ring.create("ann", tenant="acme", now=NOW, lifetime=60)
    secret = shown.split("-", 2)[2]
    wrong = ["", "x", "llmos", "llmos-", f"llmos-{key.number}", f"llmos-{key.number}-", shown[:-1], shown + "x"]
    wrong += [shown.upper(), f" {shown}", f"llmos-000000000000-{secret}", "\ud800", "é" * 50]
    said = set()
    for one in wrong:
        with pytest.raises(PermissionDenied) as caught:
            ring.holder(one, NOW)
        said.add((str(caught.value), str(caught.value.fields)))
    with pytest.raises(PermissionDenied) as caught:
        ring.holder(shown, NOW + 61)
    said.add((str(caught.value), str(caught.value.fields)))

    assert 1 == len(said)


@given(st.text(max_size=200))
def test_no_text_is_a_key(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever is sent."""
    ring = KeyRing(tmp_path_factory.getbasetemp() / "no-text")
    if not ring.listed():
        ring.create("ann", tenant="acme", now=NOW)
    with pytest.raises(PermissionDenied):
        ring.holder(text, NOW)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"), ({"name": 7}, "name"), ({"tenant": ""}, "tenant"),
        ({"tenant": "local"}, "tenant"), ({"scopes": "operator"}, "scopes"),
        ({"scopes": (1,)}, "scopes"), ({"lifetime": 0}, "lifetime"), ({"lifetime": float("nan")}, "lifetime"),
    ],
)  # fmt: skip
def test_wrong_arguments(ring: KeyRing, fields: dict[str, object], field: str) -> None:
    """Each is named, and no key is made."""
    with pytest.raises(InvalidArgument) as caught:
        ring.create(**{"name": "ann", "tenant": "acme", "now": NOW} | fields)  # type: ignore[arg-type]

    assert field == caught.value.fields["field"]
    assert () == ring.listed()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"number": "x"}]', '[{"nonsense": 1}]', "[" * 9999, "\x00"])
def test_broken_files(ring: KeyRing, tmp_path: Path, text: str) -> None:
    """Nobody comes in, and the error names the file."""
    shown, _ = ring.create("ann", tenant="acme", now=NOW)
    (tmp_path / "home" / "keys.json").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"keys\.json"):
        ring.holder(shown, NOW)


def test_two_processes_lose_no_key(tmp_path: Path) -> None:
    """Who writes waits for who writes."""
    code = (
        "import sys; from pathlib import Path; from llmos import KeyRing; ring = KeyRing(Path(sys.argv[1]))\n"
        "for count in range(20): ring.create(f'{sys.argv[2]}{count}', tenant='t', now=1.0)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]

    assert [0, 0] == [process.wait(60) for process in running]
    kept = KeyRing(tmp_path)
    assert {f"{name}{count}" for name in "ab" for count in range(20)} == {key.name for key in kept.listed()}
    assert 40 == len(json.loads((tmp_path / "keys.json").read_text("utf-8")))
