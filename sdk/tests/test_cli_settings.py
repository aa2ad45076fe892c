"""``llmos config`` and ``llmos models alias``: settings as a user sees and changes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmos import load_settings
from llmos.testing import EchoBackend
from sdk.tests.cli import SETTINGS, CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line."""
    return CommandLine(echo, monkeypatch, capsys)


def test_show_says_where_each_setting_is_from(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default, the file, the environment, an option: the last one wins, and is named."""
    monkeypatch.setenv("LLMOS_TIMEOUT", "7")
    facts = json.loads(llmos("--scheduler", "fifo", "config", "show", "--json").out)

    assert {"value": "echo", "source": "llmos.toml"} == facts["model"]
    assert {"value": 7.0, "source": "the environment variable LLMOS_TIMEOUT"} == facts["timeout"]
    assert {"value": "fifo", "source": "the arguments"} == facts["scheduler"]
    assert {"value": 8, "source": "the default"} == facts["call_rows"]


def test_show_is_a_table(llmos: CommandLine) -> None:
    """A person reads one setting per line."""
    done = llmos("config", "show")

    assert 0 == done.code
    assert any(line.split() == ["model", "llmos.toml", "echo"] for line in done.out.splitlines())
    assert "file: llmos.toml" in done.out


def test_show_one(llmos: CommandLine) -> None:
    """One setting can be asked for; an unknown one names the nearest."""
    assert ["model"] == list(json.loads(llmos("config", "show", "model", "--json").out))
    done = llmos("config", "show", "modle")

    assert 1 == done.code
    assert "did you mean 'model'" in done.err


def test_show_keeps_secrets(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is shown as the reference that it is."""
    monkeypatch.setenv("THE_KEY", "hunter2")
    llmos.settings += '\n[options."backend:echo"]\nkey = { env = "THE_KEY" }\n'
    for done in (llmos("config", "show"), llmos("config", "show", "--json")):
        assert "hunter2" not in done.out
        assert "THE_KEY" in done.out


def test_check_finds_nothing(llmos: CommandLine) -> None:
    """Settings that name what is there are right."""
    llmos.settings = f'aliases = {{ best = "parrot" }}\n{SETTINGS}'
    done = llmos("config", "check")

    assert (0, "Nothing is wrong with the settings (llmos.toml).\n") == (done.code, done.out)


@pytest.mark.parametrize(
    ("line", "setting", "why"),
    [
        ('scheduler = "fifi"', "scheduler", "no scheduler plugin is called 'fifi'; did you mean 'fifo'?"),
        ('schedulers = { echo = "none" }', "schedulers.echo", "is it installed?"),
        ('router = "x"', "router", "no router plugin is called 'x'"),
        ('policies = ["x"]', "policies", "no policy plugin is called 'x'"),
        ('observers = ["x"]', "observers", "no observer plugin is called 'x'"),
        ('blocked = ["absent"]', "blocked", "nothing installed is called 'absent'"),
        ('aliases = { best = "ecko" }', "aliases.best", "there is no model 'ecko'; did you mean 'echo'"),
        ('options = { "backend:ecko" = {} }', 'options."backend:ecko"', "did you mean 'backend:echo'"),
    ],
)
def test_check_names_what_is_missing(llmos: CommandLine, line: str, setting: str, why: str) -> None:
    """Each setting that names something that is not there, and what would be."""
    llmos.settings = f"{line}\n{SETTINGS}"
    done = llmos("config", "check", "--json")
    wrong = {one["setting"]: one["why"] for one in json.loads(done.out)["wrong"]}

    assert (2, [setting]) == (done.code, list(wrong))
    assert why in wrong[setting]


def test_check_finds_the_model(llmos: CommandLine) -> None:
    """The model that commands use is among the settings."""
    llmos.settings = SETTINGS.replace('model = "echo"', 'model = "ecco"')
    done = llmos("config", "check")

    assert 2 == done.code
    assert "model: there is no model 'ecco'; did you mean 'echo'?" in done.out


def test_check_of_what_cannot_be_read(llmos: CommandLine) -> None:
    """A wrong value is the error that every command gives."""
    llmos.settings = f"workers = -1\n{SETTINGS}"
    done = llmos("config", "check")

    assert 2 == done.code
    assert "workers" in done.err
    assert "llmos.toml" in done.err


def test_init_writes_settings_that_change_nothing(llmos: CommandLine, tmp_path: Path) -> None:
    """What it writes can be read, and everything in it is still the default."""
    file = tmp_path / "fresh.toml"
    done = llmos("config", "init", str(file))

    assert 0 == done.code
    fresh = load_settings(file, environ={})
    assert load_settings(tmp_path / "fresh.toml", environ={}).kernel == fresh.kernel
    assert {"plugins": "the default"} == fresh.sources


def test_the_comments_of_init_are_right(llmos: CommandLine, tmp_path: Path) -> None:
    """Every setting that is commented out can be uncommented."""
    file = tmp_path / "fresh.toml"
    llmos("config", "init", str(file))
    lines = file.read_text("utf-8").splitlines()
    settings = [line.removeprefix("# ") for line in lines if line.startswith("# ") and ("=" in line or "[" in line)]
    settings = [line for line in settings if not line.startswith(("Settings", "What"))]
    file.write_text("\n".join(settings), "utf-8")

    read = load_settings(file, environ={})

    assert {"gpt3": "tiny"} == read.kernel.aliases
    assert {"scheduler:fair": {"weights": {"paying": 4.0}}} == read.kernel.options


def test_init_overwrites_nothing(llmos: CommandLine) -> None:
    """A file that is there stays as it is."""
    done = llmos("config", "init")

    assert 2 == done.code
    assert "llmos.toml cannot be written: File exists" in done.err
    assert SETTINGS == Path("llmos.toml").read_text("utf-8")


# --- aliases -----------------------------------------------------------------------------------------------------


def test_an_alias_is_kept(llmos: CommandLine) -> None:
    """Afterwards the name works everywhere, until it is taken back."""
    assert "best means echo.\n" == llmos("models", "alias", "best", "parrot").out
    assert "a b\n" == llmos("generate", "-m", "best", "a b").out
    assert "best" in next(line for line in llmos("models", "list").out.splitlines() if line.startswith("echo"))
    assert "best no longer means echo.\n" == llmos("models", "alias", "best", "--remove").out

    assert 1 == llmos("generate", "-m", "best", "a b").code


def test_settings_overrule_a_kept_alias(llmos: CommandLine) -> None:
    """What a project's file says is meant for the project."""
    llmos("models", "alias", "best", "echo")
    llmos.settings = f'aliases = {{ best = "toy" }}\n{SETTINGS}'

    assert {"best": "toy"} == json.loads(llmos("config", "show", "aliases", "--json").out)["aliases"]["value"]


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("best", "ecko"), 1, "did you mean echo"),
        (("echo", "toy"), 1, "there is a model called 'echo', which an alias cannot hide"),
        (("best",), 2, "name a model for the alias, or give --remove"),
        (("best", "echo", "--remove"), 2, "name a model for the alias, or give --remove"),
        (("best", "--remove"), 1, "'best' is not among your own aliases (there are none)"),
    ],
)
def test_wrong_aliases(llmos: CommandLine, args: tuple[str, ...], code: int, text: str) -> None:
    """Each mistake is named."""
    done = llmos("models", "alias", *args)

    assert code == done.code
    assert text in done.err


def test_a_broken_list_of_aliases(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is named, and nothing is guessed."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "aliases.json").write_text('{"best": 7}', "utf-8")
    done = llmos("generate", "a")

    assert 2 == done.code
    assert "aliases.best must be a non-empty string" in done.err
