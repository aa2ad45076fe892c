"""Whatever is typed wrongly, in whichever command: one error that names it, its exit code, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import click
import pytest

from llmos import cli as cli_package
from llmos.cli import Common, cli, run

WIDE = 80
DEAF = "import signal; signal.signal(2, signal.default_int_handler); from llmos.cli import main; main()"
"""llmos, which CI may have begun deaf to Ctrl-C."""


@attrs.frozen
class Leaf:
    """A command that does something, and the words before it."""

    words: tuple[str, ...]
    command: click.Command

    def __str__(self) -> str:
        return "-".join(self.words) or "llmos"

    def options(self) -> Iterator[tuple[str, click.Option]]:
        """Yield its options with their longest names."""
        for param in self.command.params:
            if isinstance(param, click.Option):
                yield max(param.opts, key=len), param


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield every command below *command*, and the groups."""
    yield Leaf(words, command)
    if isinstance(command, click.Group):
        with click.Context(command, obj=Common()) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                if found is not None:
                    yield from leaves(found, (*words, name))


LEAVES = list(leaves(cli))


@pytest.fixture
def llmos(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """The command line of a user without settings, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LLMOS_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", str(WIDE))

    def typed(*words: str) -> tuple[int, str, str]:
        code = run(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return typed


Typed = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_help_fits(leaf: Leaf, llmos: Typed) -> None:
    """The help of each command fits a terminal, and no sentence in it is cut."""
    code, out, err = llmos(*leaf.words, "--help")

    assert (0, "") == (code, err)
    assert WIDE >= max(map(len, out.splitlines()))
    assert not any(line.endswith("...") for line in out.partition("Commands:")[2].splitlines())


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_an_unknown_option(leaf: Leaf, llmos: Typed) -> None:
    """It is named, and so are the nearest ones."""
    code, _, err = llmos(*leaf.words, "--no-such-thing")
    near = next((name for name, _ in leaf.options() if len(name) > 6), "--help")
    misspelt_code, _, misspelt = llmos(*leaf.words, near[:-2] + near[-1])

    assert [2, 2] == [code, misspelt_code]
    assert "--no-such-thing" in err
    assert near in misspelt or near.startswith(near[:-2] + near[-1])


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if isinstance(leaf.command, click.Group)], ids=str)
def test_an_unknown_command(leaf: Leaf, llmos: Typed) -> None:
    """It is named, but where a group takes it for the argument of the command that it stands for."""
    code, _, err = llmos(*leaf.words, "no-such-command")

    assert 2 == code
    assert "no-such-command" in err or "Missing argument" in err


TYPES = ("integer", "float", "integer range", "float range", "choice")
NUMBERS = [(leaf, name) for leaf in LEAVES for name, option in leaf.options() if option.type.name in TYPES]


@pytest.mark.parametrize(("leaf", "name"), NUMBERS, ids=str)
def test_what_is_no_number_and_no_choice(leaf: Leaf, name: str, llmos: Typed) -> None:
    """The option and what was given to it are named."""
    code, _, err = llmos(*leaf.words, name, "nonsense")

    assert (2, True, True) == (code, name in err, "nonsense" in err)


def bare(home: Path) -> dict[str, str]:
    """Return the environment of a user without settings whose files are kept in *home*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMOS_")}
    return {**kept, "HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}


WRITING = ("version", "plugins list", "models list", "config show", "--help", "completion bash", "data run clean -")


def started(
    command: str, folder: Path, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """Start ``llmos`` in a process of its own, which hears Ctrl-C."""
    variables = {**bare(folder), "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-c", DEAF, *command.split()]
    return subprocess.Popen(words, cwd=folder, env=variables, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)


@pytest.mark.parametrize("command", WRITING)
def test_a_reader_that_has_gone(command: str, tmp_path: Path) -> None:
    """Nothing is said, and the exit code is the one that shells give for it."""
    reading, writing = os.pipe()
    os.close(reading)
    with started(command, tmp_path, stdout=writing, stdin=_records(tmp_path)) as process:
        os.close(writing)
        _, err = process.communicate()

    assert (141, b"") == (process.returncode, err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("command", WRITING)
def test_a_full_disk(command: str, tmp_path: Path) -> None:
    """It is one error, also where the output is small enough to be kept until the end."""
    full = os.open("/dev/full", os.O_WRONLY)
    with started(command, tmp_path, stdout=full, stdin=_records(tmp_path)) as process:
        os.close(full)
        _, err = process.communicate()

    assert (1, True, False) == (process.returncode, b"No space left" in err, b"Traceback" in err)


@pytest.mark.skipif(os.name != "posix", reason="only there can a program begin without streams")
@pytest.mark.parametrize(
    ("closed", "code", "told"), [(0, 1, "not ''"), (1, 1, "standard output is closed"), (2, 0, "")]
)
def test_closed_streams(closed: int, code: int, told: str, tmp_path: Path) -> None:
    """Without standard output there is one error; input is empty without one, and errors are heard by nobody."""
    program = f"import os, sys; os.close({closed}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    words = ["generate", "--max-tokens", "1", *([] if closed == 0 else ["Hello"])]
    command = [sys.executable, "-c", program, "-m", "llmos", *words]
    variables = bare(tmp_path)
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=variables, text=True, check=False)

    assert (code, True, False) == (done.returncode, told in done.stderr, "Traceback" in done.stderr)


def test_ctrl_c_while_it_waits_for_input(tmp_path: Path) -> None:
    """The answers so far stay, and the exit code is that of an interruption."""
    with started("chat --max-tokens 1", tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Hello\n")
        process.stdin.flush()
        heard = process.stdout.readline()
        process.send_signal(2)
        _, err = process.communicate()

    assert (130, True, False) == (process.returncode, bool(heard.strip()), b"Traceback" in err)
    assert b"interrupted" in err


def test_ctrl_c_while_it_answers(tmp_path: Path) -> None:
    """What was said of the answer stays."""
    with started("generate --max-tokens 900 --min-tokens 900 Once", tmp_path) as process:
        assert process.stdout is not None
        heard = process.stdout.read(1)
        process.send_signal(2)
        _, err = process.communicate()

    assert (130, 1, True) == (process.returncode, len(heard), err.rstrip().endswith(b"interrupted"))
    assert b"Traceback" not in err


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    """What needs none works, and what keeps something there says why it cannot."""
    (tmp_path / "file").write_text("no folder")
    home = bare(tmp_path / "file")

    def code(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "llmos", *words], capture_output=True, env=home, cwd=tmp_path, text=True, check=False
        )
        return done.returncode, done.stderr

    assert 0 == code("models", "list")[0]
    assert 0 == code("generate", "--max-tokens", "1", "Hello")[0]
    refused, err = code("models", "alias", "small", "tiny")
    assert (1, True, False) == (refused, "Not a directory" in err, "Traceback" in err)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("keys list", 0), ("keys create a", 1), ("plugins disable llmos-data", 1), ("models alias small tiny", 1),
        ("eval list", 0), ("eval run tiny suite.jsonl --type generate --max-tokens 2", 1),
    ],
)  # fmt: skip
def test_what_is_kept_where_nothing_can_be(
    command: str, code: int, llmos: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading finds nothing there; writing is one error with the folder, and never a loss that nobody hears of."""
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "suite.jsonl").write_text('{"input": "a", "expected": "b"}\n')
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "file" / "home"))
    given, _, err = llmos(*command.split())

    assert (code, code) == (given, err.count("error:"))
    assert code == err.count("Not a directory") == err.count(str(tmp_path / "file" / "home"))


def _records(folder: Path) -> int:
    """Return a file of records to read from."""
    file = folder / "records.jsonl"
    file.write_text('{"text": "a"}\n' * 9)
    return os.open(file, os.O_RDONLY)


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if len(leaf.words) == 1], ids=str)
def test_no_command_hides_a_name_of_the_package(leaf: Leaf) -> None:
    """A module that was imported for a command does not take the place of a public function."""
    assert run is cli_package.run
    assert leaf.words[0] not in cli_package.__all__ or callable(getattr(cli_package, leaf.words[0]))


READING = (
    "--config {} models list", "run {}", "run {} --each records.jsonl", "chat --task {}",
    "data run clean {}", "eval run tiny {}", "capacity {} --prompt 9 --output 9", "replay {}",
    "simulate --profile {}", "simulate {}",
)  # fmt: skip
"""Commands that read a file, and where it stands."""
ALLOWED = {
    ("--config {} models list", "nothing"), ("data run clean {}", "nothing"), ("data run clean {}", "a folder"),
}  # fmt: skip
"""No settings, no records, and a folder of no texts are no mistakes."""
WRONG: dict[str, bytes | None] = {
    "no file": b"", "a folder": None, "not UTF-8": b"\xff\xfe\x00 = [\xc3\x28", "nothing": b"", "zeros": bytes(4096),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", READING)
def test_a_file_that_cannot_be_read(command: str, wrong: str, llmos: Typed, tmp_path: Path) -> None:
    """It is named, whatever is wrong with it, in one error with one of the documented codes."""
    (tmp_path / "records.jsonl").write_text('{"input": "a"}\n', "utf-8")
    name, content = "given.toml", WRONG[wrong]
    if content is None:
        (tmp_path / name).mkdir()
    elif wrong != "no file":
        (tmp_path / name).write_bytes(content)
    code, _, err = llmos(*(word.format(name) for word in command.split()))

    if (command, wrong) in ALLOWED:
        assert (0, 0) == (code, err.count("error:"))
    else:
        assert code in (1, 2, 3, 4)
        assert name in err or "line 1" in err
        assert 1 == err.count("error:")


@pytest.mark.parametrize(
    ("command", "step"),
    [
        ("--config {} models list", "llmos doctor shows all of them"),
        ("run {}", "llmos run --schema"),
        ("simulate --profile {}", "llmos profile MODEL --out FILE makes one"),
        ("capacity {} --prompt 9 --output 9", "llmos profile MODEL --out FILE makes one"),
        ("simulate {}", "llmos simulate --show chat"),
        ("replay {}", "the scheduler recorded"),
    ],
)
def test_the_next_step_fits_the_file(command: str, step: str, llmos: Typed, tmp_path: Path) -> None:
    """A file that is no setting is not mended among the settings."""
    (tmp_path / "given.toml").write_text("key = 1\n", "utf-8")
    _, _, err = llmos(*command.format("given.toml").split())
    steps = [line for line in err.splitlines() if line.startswith("next:  ")]

    assert [(True, command.startswith("--config"))] == [(step in line, "doctor" in line) for line in steps]


def test_a_name_that_is_near_is_said_once(llmos: Typed) -> None:
    """In the error; the next step is the list."""
    code, _, err = llmos("generate", "-m", "tinny", "x")

    assert (1, 1) == (code, err.count("tiny"))
    assert "next:  llmos models list" in err


def test_no_server(llmos: Typed) -> None:
    """Who asks where nobody answers is told what starts a server."""
    code, out, err = llmos("ps", "--server", "unix:/nowhere/llmos")

    assert (1, "", 1) == (code, out, err.count("error:"))
    assert "next:  start it there with llmos serve" in err
