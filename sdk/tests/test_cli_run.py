"""``llmos run``: tasks of files, and programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llmos import TaskFile
from llmos.testing import EchoBackend
from sdk.tests.cli import CommandLine

TASK = """
type = "generate"
model = "echo"
prompt = "{{ text }} in {{ words }}"
[input.properties]
words = { type = "integer" }
text = { type = "string" }
"""


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, with three tasks."""
    Path("task.toml").write_text(TASK)
    Path("text.toml").write_text('type = "generate"\nmodel = "echo"\n[output]\ntype = ["array", "integer"]\n')
    Path("say.toml").write_text('type = "chat"\nprompt = "say {{ it }}"\n')
    return CommandLine(echo, monkeypatch, capsys)


# --- one input -------------------------------------------------------------------------------------------------


def test_fields(llmos: CommandLine) -> None:
    """Fields are arguments, or JSON; a file fills the one that is missing."""
    Path("a.txt").write_text("long text\n")
    Path("a.json").write_text('{"text": "a b"}')

    assert "a=b in 3\n" == llmos("run", "task.toml", "text=a=b", "words=3").out
    assert "a b in 3\n" == llmos("run", "task.toml", stdin=b'{"text": "a b", "words": 3}').out
    assert "long text in 3\n" == llmos("run", "task.toml", "words=3", "--input", "a.txt").out
    assert "long text in 3\n" == llmos("run", "task.toml", "words=3", "-i", "-", stdin=b"long text").out
    assert "a b in 3\n" == llmos("run", "task.toml", "words=3", "-i", "a.json").out


def test_a_text(llmos: CommandLine) -> None:
    """A task of one text, or one field, takes it as an argument, from a file or from standard input."""
    Path("a.txt").write_text("a b\n")

    assert ["say x\n", "say it=\n", "say a b\n", "say c\n"] == [
        llmos("run", "say.toml", "x").out,
        llmos("run", "say.toml", "it=it=").out,
        llmos("run", "say.toml", "-i", "a.txt").out,
        llmos("run", "say.toml", "-", stdin=b"c\n").out,
    ]


def test_the_model(llmos: CommandLine) -> None:
    """Is the one that is typed, the task's, or that of the settings."""
    assert "toy" == json.loads(llmos("run", "task.toml", "words=1", "text=a", "-m", "toy", "--json").out)["model"]
    assert "echo" == json.loads(llmos("run", "say.toml", "a", "--json").out)["model"]


def test_structured_output(llmos: CommandLine) -> None:
    """What is no text is printed as JSON; --json says how it came about."""
    assert [1, 2] == json.loads(llmos("run", "text.toml", "[1,2]").out)
    facts = json.loads(llmos("run", "text.toml", "[1,2]", "--json").out)

    assert ([1, 2], "echo", "stop", 1, 1) == (
        facts["output"], facts["model"], facts["finish"], facts["tries"], facts["usage"]["generated"],
    )  # fmt: skip
    done = llmos("run", "text.toml", '"b"', "-o", "temperature=0", "--json")
    assert (1, "InvalidArgument") == (done.code, json.loads(done.out)["error"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("task.toml", "words=1"), "the input has no field 'text'"),
        (("task.toml", "words=x", "text=a"), "input.words: 'x' is not of type 'integer'"),
    ],
)
def test_a_wrong_input(llmos: CommandLine, args: tuple[str, ...], said: str) -> None:
    """It is one error."""
    done = llmos("run", *args)

    assert (1, "") == (done.code, done.out)
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Missing argument 'FILE'"),
        (("none.toml",), "File 'none.toml' does not exist"),
        (("none.py",), "File 'none.py' does not exist"),
        (("llmos.txt",), "neither a task (.toml) nor a program (.py)"),
        (("task.toml", "words"), "'words' is not NAME=VALUE; the task takes text, words"),
        (("text.toml", "a", "b"), "one text is the input, and 2 are given"),
        (("text.toml", "a", "-i", "a.txt"), "give one of the two"),
        (("text.toml", "a", "-o", "top_p=2"), "params.top_p must be a number from 0 to 1, not 2"),
        (("wrong.toml", "a"), "wrong.toml: there is no key 'modle'; did you mean 'model'?"),
    ],
)
def test_wrong_usage(llmos: CommandLine, args: tuple[str, ...], said: str) -> None:
    """It is one error that says what would be right, and exit code 2."""
    Path("wrong.toml").write_text('type = "chat"\nmodle = "a"\n')
    Path("llmos.txt").write_text("")
    done = llmos("run", *args)

    assert (2, "") == (done.code, done.out)
    assert said in done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err


def test_nobody_says_what(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal an input that is missing is an error, and not a wait."""
    monkeypatch.setattr("llmos.cli._task_inputs.on_terminal", lambda: True)
    done = llmos("run", "task.toml", "words=3", "text=a")
    assert 0 == done.code
    done = llmos("run", "task.toml")

    assert 2 == done.code
    assert "an input is missing: give NAME=VALUE for text and words, --input FILE, or pipe one in" in done.err


def test_the_schema(llmos: CommandLine) -> None:
    """It is printed, for editors."""
    assert TaskFile.schema() == json.loads(llmos("run", "--schema").out)


# --- programs --------------------------------------------------------------------------------------------------


def test_a_program(llmos: CommandLine) -> None:
    """Its arguments are its own, options too, and it shares the kernel of the settings."""
    Path("lib.py").write_text("word = 'beside'\n")
    Path("p.py").write_text(
        "import sys, llmos, lib\n"
        "with llmos.Client() as client:\n"
        "    print(__name__, sys.argv, lib.word, client.load_model('echo').generate_text('a b'))\n"
    )
    before = sys.path[:]
    done = llmos("run", "p.py", "x", "--json", "-m")

    assert (0, "__main__ ['p.py', 'x', '--json', '-m'] beside a b\n", "") == (done.code, done.out, done.err)
    assert before == sys.path
    sys.modules.pop("lib")


@pytest.mark.parametrize(
    ("text", "code", "err"),
    [
        ("sys.exit(7)", 7, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('bad')", 1, "bad\n"),
        ("raise KeyboardInterrupt", 130, "\ninterrupted\n"),
    ],
)
def test_its_exit_status(llmos: CommandLine, text: str, code: int, err: str) -> None:
    """Is that of the command."""
    Path("p.py").write_text(f"import sys\n{text}\n")
    done = llmos("run", "p.py")

    assert (code, err) == (done.code, done.err)


def test_its_tracebacks(llmos: CommandLine) -> None:
    """Show its own code only, through which the error came; --traceback shows all of it."""
    Path("p.py").write_text(
        "import llmos\n"
        "def boom(x):\n    return 1 / x\n"
        "def ask(client):\n    client.load_model('echo').generate_text(' ')\n"
        "with llmos.Client() as client:\n"
        "    try:\n        client.call(boom, 0)\n"
        "    except llmos.errors.TaskFailed:\n        ask(client)\n"
    )
    done = llmos("run", "p.py")

    assert (1, "") == (done.code, done.out)
    assert ["boom", "<module>", "<module>", "ask"] == [
        line.rpartition(" in ")[2] for line in done.err.splitlines() if line.startswith("  File ")
    ]
    assert "ZeroDivisionError" in done.err
    assert done.err.endswith("InvalidArgument: the prompt is empty\n")
    assert "runpy" in llmos("--traceback", "run", "p.py").err


def test_a_program_that_is_none(llmos: CommandLine) -> None:
    """A mistake of syntax is told as Python tells it."""
    Path("p.py").write_text("x = (\n")
    done = llmos("run", "p.py")

    assert 1 == done.code
    assert done.err.startswith('  File "')
    assert done.err.endswith("SyntaxError: '(' was never closed\n")
