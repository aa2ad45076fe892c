"""``llmos plugins``: what a user does with plugins, also with broken ones.  Nothing here imports a plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmos.testing import EchoBackend
from sdk.tests.cli import SETTINGS, CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line."""
    return CommandLine(echo, monkeypatch, capsys)


@pytest.fixture
def installed(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """The command line where a distribution with two plugins is installed, one of which ends the process."""
    info = tmp_path / "site" / "some_plugins-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugins\nVersion: 1.2\n", "utf-8")
    entries = "[llmos.scheduler]\nlottery = some_lottery\n[llmos.policy]\nwall = some_wall\n"
    (info / "entry_points.txt").write_text(entries, "utf-8")
    (tmp_path / "site" / "some_lottery.py").write_text("raise SystemExit('no luck')", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    llmos.settings = SETTINGS.replace("plugins = []", 'plugins = ["some-plugins"]')
    return llmos


def states(llmos: CommandLine) -> dict[str, tuple[str, str]]:
    """Return state and reason of the two."""
    listed = json.loads(llmos("plugins", "list", "--json").out)
    return {one["key"]: (one["state"], one["why"]) for one in listed if one["distribution"] == "some-plugins"}


@pytest.mark.parametrize("name", ["scheduler:lottery", "lottery", "some-plugins", "Some_Plugins"])
def test_show(installed: CommandLine, name: str) -> None:
    """By its key, its name, or the distribution that brings it."""
    done = installed("plugins", "show", name)

    assert 0 == done.code
    assert "scheduler:lottery" in done.out
    assert "1.2" in done.out
    assert ("policy:wall" in done.out) == (name.lower().replace("_", "-") == "some-plugins")
    assert "lottery" in {record["name"] for record in json.loads(installed("plugins", "show", name, "--json").out)}


def test_people_read_how_a_plugin_stands(installed: CommandLine) -> None:
    """In words of theirs: what the settings choose, what may be named, and what is off."""

    def told(*before: str) -> str:
        lines = installed(*before, "plugins", "list").out.splitlines()
        return next(line.split("  ")[-1].strip() for line in lines if line.startswith("scheduler:lottery"))

    assert ["usable", "in use"] == [told(), told("--scheduler", "lottery")]
    installed("plugins", "disable", "lottery")
    assert "disabled" == told()
    assert "disabled" in installed("plugins", "show", "lottery").out


@pytest.mark.parametrize("command", ["show", "disable", "check"])
def test_an_unknown_name(installed: CommandLine, command: str) -> None:
    """The nearest is named."""
    done = installed("plugins", command, "lotery")

    assert 1 == done.code
    assert "did you mean 'lottery'" in done.err


@pytest.mark.parametrize("name", ["scheduler:lottery", "lottery", "some-plugins"])
def test_disable_and_enable(installed: CommandLine, name: str) -> None:
    """What is switched off stays so, in every command, and says how it is switched on."""
    assert f"{name} is off.\n" == installed("plugins", "disable", name).out
    assert f"{name} was off already.\n" == installed("plugins", "disable", name).out
    state, why = states(installed)["scheduler:lottery"]
    assert ("blocked", True) == (state, f"llmos plugins enable {name}" in why)
    assert f"{name} is on.\n" == installed("plugins", "enable", name).out
    assert f"{name} was on already.\n" == installed("plugins", "enable", name).out

    assert "discovered" == states(installed)["scheduler:lottery"][0]


def test_what_is_switched_off_is_not_chosen(installed: CommandLine) -> None:
    """Choosing it is an error that says why."""
    installed("plugins", "disable", "lottery")
    done = installed("--scheduler", "lottery", "generate", "a")

    assert 3 == done.code
    assert "blocked" in done.err


def test_enable_what_the_settings_block(installed: CommandLine) -> None:
    """A file is the user's to change, and is named."""
    installed.settings = f'blocked = ["lottery"]\n{installed.settings}'
    done = installed("plugins", "enable", "lottery")

    assert 1 == done.code
    assert "blocked by llmos.toml" in done.err


def test_check_names_what_is_broken(installed: CommandLine) -> None:
    """Each plugin is imported in a process of its own."""
    done = installed("plugins", "check", "lottery", "--json")
    (line,) = json.loads(done.out)

    assert (3, "scheduler:lottery", "FAILS") == (done.code, line["name"], line["verdict"])
    assert "no luck" in line["text"]
    assert "policy:wall" in installed("plugins", "check").out


def test_freeze(installed: CommandLine) -> None:
    """What has to be installed to have the same plugins."""
    assert "some-plugins==1.2\n" in installed("plugins", "freeze").out
    assert "1.2" == json.loads(installed("plugins", "freeze", "--json").out)["some-plugins"]


# --- installing --------------------------------------------------------------------------------------------------


class Ran:
    """Takes the place of running a program."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
        self.calls: list[list[str]] = []
        self._code = code
        monkeypatch.setattr(subprocess, "run", self)

    def __call__(self, argv: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        """Remember the call."""
        self.calls.append(argv)
        return subprocess.CompletedProcess(argv, self._code)


def test_install_and_uninstall_use_pip(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the environment that llmos runs in."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    ran = Ran(monkeypatch)
    llmos("plugins", "install", "-U", "some-plugin", "./other")
    llmos("plugins", "uninstall", "-y", "some-plugin")

    pip = [sys.executable, "-m", "pip"]
    install = [*pip, "install", "--upgrade", "some-plugin", "./other"]
    assert [install, [*pip, "uninstall", "--yes", "some-plugin"]] == ran.calls


def test_install_uses_uv_where_there_is_no_pip(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments that uv makes have none; its exit code is ours."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    ran = Ran(monkeypatch, code=7)

    assert 7 == llmos("plugins", "install", "x").code
    assert [["/bin/uv", "pip", "install", "--python", sys.executable, "x"]] == ran.calls


def test_install_without_either(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get one."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    done = llmos("plugins", "install", "x")

    assert 1 == done.code
    assert "python -m ensurepip" in done.err


@pytest.mark.parametrize(("answer", "code", "count"), [(b"y\n", 0, 1), (b"n\n", 130, 0)])
def test_uninstall_asks(
    llmos: CommandLine, monkeypatch: pytest.MonkeyPatch, answer: bytes, code: int, count: int
) -> None:
    """Unless told not to."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    ran = Ran(monkeypatch)
    done = llmos("plugins", "uninstall", "x", stdin=answer)

    assert (code, count) == (done.code, len(ran.calls))
    assert "Remove x?" in done.out
