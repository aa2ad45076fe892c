"""``llmos run --each``: a task on every record of a file."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmos import locked
from llmos._task_file import TaskFile
from llmos.cli import _records
from llmos.cli._each import Each
from llmos.cli._records import read_records
from llmos.testing import EchoBackend
from llmos_kernel.errors import InvalidArgument
from sdk.tests.cli import CommandLine


@pytest.fixture
def llmos(echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, with two tasks."""
    Path("text.toml").write_text('type = "generate"\nmodel = "echo"\n')
    Path("two.toml").write_text(
        'type = "generate"\nmodel = "echo"\nprompt = "{{ body }} {{ words }}"\n[input.properties]\n'
        'body = { type = "string" }\nwords = { type = "integer" }\n'
    )
    return CommandLine(echo, monkeypatch, capsys)


def records(text: str) -> list[Any]:
    """Return the values of JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def put(name: str, *values: object) -> None:
    """Write JSON Lines."""
    Path(name).write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")


def test_lines(llmos: CommandLine) -> None:
    """Each line has the number, the input and the output of a record, in order; the summary is not among them."""
    put("in.jsonl", {"text": "a", "id": 7}, {"text": "é b"})
    done = llmos("run", "text.toml", "--each", "in.jsonl")

    assert 0 == done.code
    assert [
        {"record": 1, "input": {"text": "a", "id": 7}, "output": "a", "model": "echo", "finish": "stop"},
        {"record": 2, "input": {"text": "é b"}, "output": "é b", "model": "echo", "finish": "stop"},
    ] == records(done.out)
    assert done.err.startswith("2 records in ")
    assert '{"records": 2, "failed": 0,' in llmos("run", "text.toml", "--each", "in.jsonl", "--json").err


def test_where_the_input_is(llmos: CommandLine) -> None:
    """A text by itself, under text, under another field, or in the fields of the task; arguments fill the others."""
    put("in.jsonl", "x", {"text": "y"})
    put("two.jsonl", {"body": "a", "words": 1, "more": 2})
    put("own.jsonl", {"mine": "a"})

    def outputs(*args: str) -> list[str]:
        return [record["output"] for record in records(llmos("run", *args).out)]

    assert ["x", "y"] == outputs("text.toml", "--each", "in.jsonl")
    assert ["a 1"] == outputs("two.toml", "--each", "two.jsonl")
    assert ["a 3"] == outputs("two.toml", "words=3", "--each", "two.jsonl")
    assert ["a"] == outputs("text.toml", "--each", "own.jsonl", "--field", "mine")
    assert ["a 3"] == outputs("two.toml", "words=3", "--each", "own.jsonl", "--field", "mine")


def test_csv(llmos: CommandLine) -> None:
    """Cells become what the schema says, and may have lines and commas within quotes."""
    Path("in.csv").write_bytes(b'\xef\xbb\xbfbody,words\r\n"a, ""b""\nc",3\r\nx,many\r\n\r\ny\r\n')
    done = records(llmos("run", "two.toml", "--each", "in.csv").out)

    assert ({"body": 'a, "b"\nc', "words": "3"}, 'a, "b"\nc 3') == (done[0]["input"], done[0]["output"])
    assert "input.words: 'many' is not of type 'integer'" == done[1]["error"]["message"]
    assert "record 3: it has 1 cells, and not 2 cells, as many as there are columns" == done[2]["error"]["message"]


def test_bad_records_are_bad_alone(llmos: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a line with its error in its place; the exit code says that there were some."""
    monkeypatch.setattr(_records, "LIMIT", 40)
    data = b'{"text": "a"}\n{"text": \n\n"\xff"\n{"txet": "a"}\nNaN\n' + b'"' + b"x" * 200 + b'"\n{"text": " "}\n"b"'
    done = llmos("run", "text.toml", "--each", "-", stdin=data)
    found = records(done.out)

    assert 1 == done.code
    assert list(range(1, 9)) == [record["record"] for record in found]
    assert ["a", "b"] == [record["output"] for record in found if "output" in record]
    said = [record["error"]["message"] for record in found if "error" in record]
    wanted = ["no JSON", "not UTF-8", "no field 'text'", "NaN is no JSON value", "too long", "the prompt is empty"]
    assert [True] * 6 == [part in message for part, message in zip(wanted, said, strict=True)]
    assert "8 records in" in done.err
    assert done.err.endswith("6 failed\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--each", "in.txt"), "its name must end in .jsonl, .ndjson, .csv"),
        (("--each", "in.jsonl", "-i", "a"), "--input and --each are both given"),
        (("--output", "a"), "--output is for --each"),
        (("--resume",), "--resume is for --each"),
        (("--each", "in.jsonl", "--resume"), "--resume needs --output FILE"),
        (("--each", "in.jsonl", "what"), "'what' is not NAME=VALUE"),
    ],
)
def test_wrong_usage(llmos: CommandLine, args: tuple[str, ...], said: str) -> None:
    """It is one error that says what would be right."""
    put("in.jsonl", "a")
    done = llmos("run", "text.toml", *args)

    assert (2, "") == (done.code, done.out)
    assert said in done.err


def test_a_file_that_is_not_there(llmos: CommandLine) -> None:
    """And CSV that does not name its columns: one error each, and nothing is begun."""
    Path("a.csv").write_text("a,,a\n1,2,3\n")
    for name, said in (("none.jsonl", "No such file"), ("a.csv", "the first line of CSV must be a name of its own")):
        done = llmos("run", "text.toml", "--each", name)
        assert (1, "") == (done.code, done.out)
        assert said in done.err


def test_to_a_file(llmos: CommandLine) -> None:
    """It appears when it is whole, nothing else stays, and it is not written over."""
    put("in.jsonl", "a", "b")
    assert 0 == llmos("run", "text.toml", "--each", "in.jsonl", "--output", "out.jsonl").code

    assert ["a", "b"] == [record["output"] for record in records(Path("out.jsonl").read_text("utf-8"))]
    assert [] == [*Path().glob("*.part"), *Path().glob("*.journal")]
    done = llmos("run", "text.toml", "--each", "in.jsonl", "--output", "out.jsonl")
    assert (1, True) == (done.code, "out.jsonl exists already" in done.err)
    assert 0 == llmos("run", "text.toml", "--each", "in.jsonl", "--output", "out.jsonl", "--resume").code


def digest() -> str:
    """Return what the journal of the plain run holds."""
    return Each(task=TaskFile.read("text.toml"), source="in.jsonl", at_once=1).digest


@pytest.mark.parametrize("cut", [0, 1, 30, 100, 130, 151, 200])
def test_going_on(llmos: CommandLine, echo: EchoBackend, cut: int) -> None:
    """Wherever the output was cut, no record is lost or doubled, and what is whole is not run again."""
    put("in.jsonl", *(f"text {number}" for number in range(5)))
    run = ("run", "text.toml", "--each", "in.jsonl", "--output", "out.jsonl")
    llmos(*run)
    whole = Path("out.jsonl").read_bytes()
    Path("out.jsonl").unlink()
    Path("out.jsonl.part").write_bytes(whole[:cut])
    Path("out.jsonl.journal").write_text(digest())

    assert 0 == llmos(*run, "--resume").code
    assert whole == Path("out.jsonl").read_bytes()
    assert 5 - whole[:cut].count(b"\n") == len(echo.executors[-1].tasks)


def test_going_on_is_refused(llmos: CommandLine) -> None:
    """By another task, over other records, and where nobody asked for it."""
    put("in.jsonl", "a", "b")
    run = ("run", "text.toml", "--each", "in.jsonl", "--output", "out.jsonl")
    llmos(*run)
    Path("out.jsonl").rename("out.jsonl.part")

    assert "--resume goes on" in llmos(*run).err
    Path("out.jsonl.journal").write_text("other")
    assert "begun by another task" in llmos(*run, "--resume").err
    Path("out.jsonl.journal").unlink()
    Path("out.jsonl.part").rename("kept")
    Path("in.jsonl").write_text('"a"\n"other"\n')
    Path("kept").rename("out.jsonl.part")
    Path("out.jsonl.journal").write_text(digest())
    done = llmos(*run, "--resume")
    assert (1, True) == (done.code, "record 2 is another than when the run was begun" in done.err)


def test_what_ends_the_run(llmos: CommandLine) -> None:
    """A processor that nobody has would fail every record: it is one error, and what was done can be gone on with."""
    Path("text.toml").write_text('type = "generate"\nmodel = "echo"\npre = "nope"\n')
    put("in.jsonl", "a", "b")
    done = llmos("run", "text.toml", "--each", "in.jsonl", "--output", "out.jsonl")

    assert (3, False) == (done.code, Path("out.jsonl").exists())
    assert done.err.startswith("error: ")


def test_a_gigabyte_is_not_read_whole() -> None:
    """A line beyond the limit is passed over in pieces, and the next is read as ever."""

    class Long(io.RawIOBase):
        """A line of 2^28 bytes, then a short one."""

        left = 2**28
        tail = b'\n"b"\n'

        def readable(self) -> bool:
            return True

        def readinto(self, into: Any) -> int:
            if self.left:
                size = min(self.left, len(into))
                into[:size] = b"x" * size
                self.left -= size
                return size
            size = min(len(self.tail), len(into))
            into[:size], self.tail = self.tail[:size], self.tail[size:]
            return size

    first, second = read_records(io.BufferedReader(Long()), "jsonl")

    assert isinstance(first.error, InvalidArgument)
    assert ("b", 2**28 + 5) == (second.value, second.end)


def test_one_run_at_a_time_on_an_output(llmos: CommandLine) -> None:
    """The second is told which process has it, and takes nothing away; so is who names a folder that is not there."""
    put("in.jsonl", "a")
    with locked(Path("out.jsonl")):
        done = llmos("run", "text.toml", "--each", "in.jsonl", "--output", "out.jsonl")
    nowhere = llmos("run", "text.toml", "--each", "in.jsonl", "--output", "nowhere/out.jsonl")

    assert (1, True) == (done.code, f"out.jsonl is being written by process {os.getpid()}" in done.err)
    assert (1, True) == (nowhere.code, "in a folder that exists, which nowhere does not" in nowhere.err)
    assert ["in.jsonl", "llmos.toml", "text.toml", "two.toml"] == sorted(path.name for path in Path().iterdir())
