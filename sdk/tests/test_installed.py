"""The command line beside installed plugins that behave badly, and with a command that a plugin brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

COMMAND = """
import click
from llmos_kernel import hookimpl
api = 1
@click.command()
@click.argument("name")
def hello(name):
    click.echo(f"hello {name}")
@hookimpl
def llmos_command():
    return hello
"""


@attrs.frozen
class Site:
    """A folder of installed packages, and a program that sees them."""

    folder: Path

    def install(self, name: str, entry: str, source: str) -> None:
        """Install *name*, whose *entry* (``kind:name``) is a module with *source*."""
        kind, _, plugin = entry.partition(":")
        (self.folder / f"{name}.py").write_text(source, "utf-8")
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[llmos.{kind}]\n{plugin} = {name}\n", "utf-8")

    def __call__(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``llmos`` with only these plugins allowed."""
        names = ",".join(path.name.partition("-")[0] for path in self.folder.glob("*.dist-info"))
        settings = {"LLMOS_PLUGINS": names, "PYTHONPATH": str(self.folder), **environ}
        argv = [sys.executable, "-m", "llmos", *args]
        env = {**os.environ, **settings}
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=env)

    def findings(self, *args: str) -> dict[str, dict[str, str]]:
        """Return what the doctor finds, by name."""
        found = json.loads(self("doctor", "--json", *args).stdout)["findings"]
        return {line["name"]: line for line in found}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty folder."""
    (tmp_path / "site").mkdir()
    return Site(tmp_path / "site")


def test_a_plugin_brings_a_command(site: Site) -> None:
    """It is listed, completed and run; its options are its own."""
    site.install("greeter", "command:hello", COMMAND)

    assert "From greeter." in site("--help").stdout
    assert "hello you\n" == site("hello", "you").stdout
    assert "did you mean hello?" in site("helo").stderr


def test_a_blocked_command_is_not_run(site: Site) -> None:
    """Options before the command hold for the command as well."""
    site.install("greeter", "command:hello", COMMAND)
    done = site("--no-plugin", "greeter", "hello", "you")

    assert (3, "") == (done.returncode, done.stdout)
    assert "blocked" in done.stderr


def test_a_broken_command_breaks_only_itself(site: Site) -> None:
    """The help page and the other commands work."""
    site.install("broken", "command:crash", "raise RuntimeError('boom')")
    done = site("crash")

    assert (0, 3) == (site("--help").returncode, done.returncode)
    assert "boom" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_doctor_survives_a_plugin_that_ends_the_process(site: Site) -> None:
    """It is named, and the others are examined all the same."""
    site.install(
        "deadly", "processor:deadly", "import os, sys; print('last words', file=sys.stderr, flush=True); os._exit(3)"
    )
    site.install("noisy", "processor:noisy", "print('noise on standard output')\nraise SystemExit('no')")
    found = site.findings()

    assert "FAILS" == found["processor:deadly"]["verdict"]
    assert "exit code 3: last words" in found["processor:deadly"]["text"]
    assert "SystemExit" in found["processor:noisy"]["text"]


def test_the_doctor_says_what_is_switched_off(site: Site) -> None:
    """What the settings block is no failure."""
    site.install("greeter", "command:hello", COMMAND)
    found = json.loads(site("--no-plugin", "greeter", "doctor", "--json").stdout)["findings"]

    assert ["off"] == [line["verdict"] for line in found if line["name"] == "command:hello"]


def test_the_doctor_works_with_wrong_settings(site: Site) -> None:
    """They are what it finds first."""
    done = site("doctor", LLMOS_TIMEOUT="soon")

    assert 1 == done.returncode
    assert "LLMOS_TIMEOUT" in done.stdout


def test_the_doctor_measures_own_models(site: Site, tmp_path: Path) -> None:
    """A model whose backend is not there is found before anybody loads it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models.json").write_text('[{"name": "lost", "backend": "nobody"}]', "utf-8")
    done = site("doctor", LLMOS_HOME=str(home))

    assert 1 == done.returncode
    assert [True] == ["FAILS" in line for line in done.stdout.splitlines() if " lost " in line]
