"""``llmos embed`` and ``llmos classify``: many texts in, a table for people and JSON for programs out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmos.cli import _texts
from llmos.testing import EchoBackend
from llmos_kernel.errors import InvalidArgument
from sdk.tests.cli import CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, with a model whose vectors are (words, characters) and that tells even from odd texts."""
    return CommandLine(echo, monkeypatch, capsys)


def test_embed_shows_how_alike_texts_are(llmos: CommandLine) -> None:
    """Dimension, length, and the cosine of each with each."""
    done = llmos("embed", "a b c", "d e f", "abcdefgh")

    assert (0, "") == (done.code, done.err)
    assert done.out.splitlines() == [
        "3 vectors of 2 numbers from echo",
        "   NORM   ~1    ~2    ~3    TEXT",
        "1  5.831  1.00  1.00  0.91  a b c",
        "2  5.831  1.00  1.00  0.91  d e f",
        "3  8.062  0.91  0.91  1.00  abcdefgh",
    ]


def test_embed_compares_ten(llmos: CommandLine) -> None:
    """More would not fit; it says so."""
    done = llmos("embed", *[f"text {number}" for number in range(12)])

    assert "~10" in done.out.splitlines()[1]
    assert "~11" not in done.out
    assert done.out.splitlines()[-1] == "The first 10 are compared; --json prints all vectors."


def test_embed_json(llmos: CommandLine) -> None:
    """A program gets every text and vector, one record a line."""
    out = llmos("embed", "a b", "ü", "--json").out
    expected = [("a b", "echo", [2.0, 3.0]), ("ü", "echo", [1.0, 1.0])]

    assert expected == [(found["text"], found["model"], found["vector"]) for found in json.loads(out)]
    assert 4 == len(out.splitlines())


def test_classify_shows_the_likeliest(llmos: CommandLine) -> None:
    """Labels, the likeliest first, and the text they are of, in one line."""
    done = llmos("classify", "a b", "a\nb\nc " + "long " * 30, "--top", "1")

    assert (0, "") == (done.code, done.err)
    assert done.out.splitlines()[:2] == ["LABELS      TEXT", "even 1.000  a b"]
    assert done.out.splitlines()[2].startswith("odd 1.000   a b c long long")
    assert done.out.endswith("…\n")


def test_classify_json(llmos: CommandLine) -> None:
    """A program gets every label's probability."""
    (record,) = json.loads(llmos("classify", "a", "--json").out)

    assert {"text": "a", "model": "echo", "scores": {"odd": 1.0, "even": 0.0}} == record


@pytest.mark.parametrize("command", ["embed", "classify"])
@pytest.mark.parametrize("how", ["standard input", "dash", "file"])
def test_texts_one_per_line(llmos: CommandLine, command: str, how: str, tmp_path: Path) -> None:
    """Piped or in a file, whatever ends the lines; blank lines at the end are nothing."""
    content = b"a b\r\nc\n\n"
    (file := tmp_path / "texts.txt").write_bytes(content)
    args = {"standard input": [], "dash": ["-"], "file": ["--file", str(file)]}[how]
    done = llmos(command, *args, "--json", stdin=content)

    assert ["a b", "c"] == [record["text"] for record in json.loads(done.out)]


def test_many_texts(llmos: CommandLine, echo: EchoBackend) -> None:
    """They go in order and in batches, so that no queue overflows."""
    count = 2 * _texts.BATCH + 5
    done = llmos("embed", "--json", stdin="".join(f"{'x' * (at % 7 + 1)}\n" for at in range(count)).encode())

    assert [[1.0, float(at % 7 + 1)] for at in range(count)] == [record["vector"] for record in json.loads(done.out)]
    assert count == sum(len(executor.tasks) for executor in echo.executors)


@pytest.mark.parametrize(
    ("args", "stdin", "code", "says"),
    [
        (["embed", "a", "--file", "llmos.toml"], b"", 2, ["give one of the two"]),
        (["embed", "--file", "missing"], b"", 2, ["missing"]),
        (["embed"], b"", 1, ["standard input is empty"]),
        (["embed"], b"a\n \nb\n", 1, ["line 2 of standard input is empty"]),
        (["embed"], b"a\xff", 1, ["not UTF-8"]),
        (["embed", "-m", "ecko", "a"], b"", 1, ["nearest: echo", "llmos models list"]),
        (["embed", "a", "", "b"], b"", 1, ["text 2 ('')"]),
        (["classify", "a", "--top", "0"], b"", 2, ["range"]),
    ],
    ids=["twice", "no-file", "nothing", "blank", "bytes", "no-model", "empty", "top"],
)
def test_mistakes(llmos: CommandLine, args: list[str], stdin: bytes, code: int, says: list[str]) -> None:
    """Each is named in one line, with the line or the text that is at fault."""
    done = llmos(*args, stdin=stdin)

    assert (code, "") == (done.code, done.out)
    assert [] == [word for word in says if word not in done.err]
    assert done.err.startswith("error: ")


def test_a_model_that_is_for_something_else(llmos: CommandLine, echo: EchoBackend) -> None:
    """It is named, with what it is for and the models that can."""
    echo.faults.prepare = InvalidArgument("kind must be one of generate, chat", field="kind", value="embed")
    done = llmos("embed", "-m", "toy", "a")

    assert 1 == done.code
    assert "model 'toy' is not for embed (kind must be one of generate, chat); with embed: echo" in done.err
