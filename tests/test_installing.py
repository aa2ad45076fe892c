"""tox installs by uv what pip would, from where pip would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.installing import hindrance, install, settings, variables

LISTING = """\
:env:.index-url='https://variable.example/simple'
:env:.user='0'
global.cert='ca.pem'
global.find-links='wheels more'
global.index-url='https://file.example/simple'
global.timeout='10'
install.extra-index-url='\\nfile:///one\\nfile:///two'
install.timeout='20'
install.trusted-host=''
wheel.no-binary=':all:'
"""
PROGRAM = """\
#!{python}
import json, os, sys
if sys.argv[-2:] == ["config", "list"]:
    print({listing!r})
    sys.exit(0)
with open({calls!r}, "a") as calls:
    print(json.dumps([{name!r}, sys.argv[1:], os.environ.get("UV_DEFAULT_INDEX")]), file=calls)
sys.exit({code})
"""


@attrs.frozen
class Programs:
    """A Python with a pip, and a uv, that install nothing and write down how they were called."""

    folder: Path

    def make(self, name: str, *, code: int = 0, listing: str = "") -> str:
        """Return a program that ends with *code*, and that says *listing* when it is asked what pip is told."""
        path = self.folder / name
        calls = str(self.folder / "calls")
        text = PROGRAM.format(python=sys.executable, listing=listing, calls=calls, name=name, code=code)
        path.write_text(text, "utf-8")
        path.chmod(0o755)
        return str(path)

    def calls(self) -> list[tuple[str, list[str], str | None]]:
        """Return who was called, with which arguments, and which index it was told of."""
        return [tuple(json.loads(line)) for line in (self.folder / "calls").read_text("utf-8").splitlines()]


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """The makers of fake programs."""
    return Programs(tmp_path)


def test_what_pip_is_told() -> None:
    """Variables win over files, the section of the command over the global one; empty values count for nothing."""
    told = settings(LISTING)

    assert "https://variable.example/simple" == told["index-url"]
    assert "20" == told["timeout"]
    assert {"index-url", "user", "cert", "find-links", "timeout", "extra-index-url"} == told.keys()


def test_pips_own_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip prints of a file and of a variable is read as pip understands it."""
    file = tmp_path / "pip.conf"
    file.write_text("[install]\nindex-url = https://file.example\nfind-links =\n  one\n  two\n", "utf-8")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "here")
    done = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    told = settings(done.stdout)

    assert ["one", "two"] == told["find-links"].split()
    assert ("https://file.example", "here") == (told["index-url"], told["trusted-host"])


def test_uvs_words() -> None:
    """uv gets pip's indexes, links, certificates and patience, lists parted as it reads them."""
    said = variables(settings(LISTING), {"PATH": "kept"})

    assert {
        "PATH": "kept",
        "SSL_CERT_FILE": "ca.pem",
        "UV_DEFAULT_INDEX": "https://variable.example/simple",
        "UV_FIND_LINKS": "wheels,more",
        "UV_HTTP_TIMEOUT": "20",
        "UV_INDEX": "file:///one file:///two",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_SYSTEM_CERTS": "true",
    } == said


@pytest.mark.parametrize(
    ("told", "environment", "file"),
    [
        ({"cert": "told.pem"}, {"REQUESTS_CA_BUNDLE": "pip.pem", "SSL_CERT_FILE": "ssl.pem"}, "told.pem"),
        ({}, {"REQUESTS_CA_BUNDLE": "pip.pem", "SSL_CERT_FILE": "ssl.pem"}, "pip.pem"),
        ({}, {"SSL_CERT_FILE": "ssl.pem"}, "ssl.pem"),
        ({}, {}, None),
    ],
)
def test_certificates(told: dict[str, str], environment: dict[str, str], file: str | None) -> None:
    """uv trusts whom pip trusts: what it is told, then the bundle that requests reads, then the machine's."""
    said = variables(told, environment)

    assert (file, "true") == (said.get("SSL_CERT_FILE"), said["UV_SYSTEM_CERTS"])


def test_what_uv_is_not_told() -> None:
    """An option that decides what is installed, and that uv is not told of, is named; another is no matter."""
    assert hindrance("uv", settings(LISTING)) is None
    assert "uv is not told of no-index, proxy" == hindrance("uv", {"proxy": "x", "no-index": "1", "quiet": "1"})
    assert "there is no uv" == hindrance(None, {})


def test_uv_installs(programs: Programs) -> None:
    """uv gets the arguments, the Python and the index, and reads no settings of its own; pip is not asked."""
    python, uv = programs.make("python", listing=LISTING), programs.make("uv")

    assert 0 == install(python, uv, ["--quiet", "./kernel"])
    expected = ["pip", "install", "--no-config", "--python", python, "--quiet", "./kernel"]
    assert [("uv", expected, "https://variable.example/simple")] == programs.calls()


@pytest.mark.parametrize(
    ("listing", "find", "reason", "called"),
    [
        ("", lambda make: None, "there is no uv", ["python"]),
        ("global.no-index='1'", lambda make: make("uv"), "uv is not told of no-index", ["python"]),
        ("", lambda make: make("uv", code=2), "uv ended with 2", ["uv", "python"]),
    ],
    ids=["absent", "unknown", "failed"],
)
def test_pip_installs(
    listing: str,
    find: Callable[[Callable[..., str]], str | None],
    reason: str,
    called: list[str],
    programs: Programs,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without uv, with what it is not told of and after it failed, pip installs, says why, and its exit counts."""
    python = programs.make("python", code=3, listing=listing)

    assert 3 == install(python, find(programs.make), ["x"])
    assert f"pip installs, because {reason}\n" == capfd.readouterr().out
    assert called == [name for name, _, _ in programs.calls()]
    assert ["-I", "-m", "pip", "install", "--no-compile", "x"] == programs.calls()[-1][1]
