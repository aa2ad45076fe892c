"""`llmos data run`: records through pipelines, bad ones named, and gone on with after a kill."""

from __future__ import annotations

import contextlib
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos import Pipeline
from llmos.cli import Common, cli, run
from llmos_data import command, normalize
from llmos_data.blocks import read_blocks
from llmos_data.codecs import ReadCsv, ReadLines, WriteCsv
from llmos_data.files import Files
from llmos_data.journal import Journal
from llmos_data.plan import Plan
from llmos_data.work import Work
from llmos_kernel import KernelConfig, Processor
from llmos_kernel.errors import InvalidArgument

SETTINGS = """
plugins = []
[pipelines]
tidy = ["normalize", "upper"]
broken = ["normalize", "uper"]
"""
MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)


class Upper(Processor):
    """Writes large; some texts it refuses, some it splits, and some it cannot do at all."""

    name = "upper"

    def process(self, value: Any, params: Any) -> Any:
        """Write large."""
        if value == "refused":
            raise InvalidArgument.of("input", value, "another text")
        return value.upper().split("|") if "|" in value else value.upper()


@attrs.frozen
class Ended:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@attrs.define
class Llmos:
    """The command line, in this process, with two processors; its files are in the current folder."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *args: str, stdin: bytes = b"") -> Ended:
        """Run ``llmos data run`` with *args*."""
        Path("llmos.toml").write_text(SETTINGS, "utf-8")
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        code = run(("data", "run", *args), Common(plugins=(normalize, Upper())))
        return Ended(code, *self.capsys.readouterr())


@pytest.fixture
def llmos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Llmos:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cli.commands, "data", command.data)
    monkeypatch.setattr(type(cli), "list_commands", lambda self, ctx: ["data"])
    monkeypatch.setattr(type(cli), "get_command", lambda self, ctx, name: self.commands.get(name))
    return Llmos(capsys, monkeypatch)


def lines(*records: object) -> bytes:
    """Return JSON Lines."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def records(text: str) -> list[Any]:
    """Return the values of JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


# --- records ---------------------------------------------------------------------------------------------------


def test_from_stdin_to_stdout(llmos: Llmos) -> None:
    """Each record's text passes the pipeline; other fields stay, empty lines are nothing, the order stays."""
    done = llmos("tidy", stdin=lines({"text": " a  b", "n": 1}) + b"\n \n" + lines({"n": [2.5, None], "text": "é"}))

    assert (0, [{"text": "A B", "n": 1}, {"n": [2.5, None], "text": "É"}]) == (done.code, records(done.out))
    assert done.err.startswith("2 records in ")


def test_processors_by_themselves(llmos: Llmos) -> None:
    """Processors with commas between them are a pipeline."""
    assert [{"text": "A B"}] == records(llmos("normalize, upper", stdin=lines({"text": " a  b"})).out)


def test_fields(llmos: Llmos) -> None:
    """Several fields can be processed, the result can go to another, and only some be written."""
    record = lines({"a": " x ", "b": "y", "c": 1})

    assert [{"a": "X", "b": "Y", "c": 1}] == records(llmos("tidy", "-f", "a", "-f", "b", stdin=record).out)
    done = llmos("tidy", "-f", "a", "--into", "d", "--keep", "d", "--keep", "c", stdin=record)
    assert [{"d": "X", "c": 1}] == records(done.out)


def test_explode(llmos: Llmos) -> None:
    """A list becomes a record of each item; without the option it stays a list."""
    record = lines({"text": "a|b", "n": 1})

    assert [{"text": ["A", "B"], "n": 1}] == records(llmos("tidy", stdin=record).out)
    assert [{"text": "A", "n": 1}, {"text": "B", "n": 1}] == records(llmos("tidy", "--explode", stdin=record).out)


def test_what_json_has(llmos: Llmos) -> None:
    """Escaped halves of surrogate pairs and a byte order mark do no harm."""
    done = llmos("upper", stdin=b"\xef\xbb\xbf" + b'{"text": "a", "x": "\\ud800"}\n')

    assert '{"text": "A", "x": "\\ud800"}\n' == done.out


def test_csv(llmos: Llmos) -> None:
    """Cells with commas, quotes and line ends arrive and leave as they should; the head says what the columns are."""
    Path("in.csv").write_bytes(b'id,text\r\n1," a ""b""\n,c"\r\n2,"|"\r\n')
    done = llmos("tidy", "in.csv", "-o", "out.csv")

    assert 0 == done.code, done.err
    assert 'id,text\n1,"A ""B""\n,C"\n2,"["""", """"]"\n' == Path("out.csv").read_text("utf-8")
    assert [{"id": "1", "t": 'A "B"\n,C'}, {"id": "2", "t": ["", ""]}] == records(
        llmos("tidy", "in.csv", "--to", "jsonl", "--into", "t", "--keep", "id", "--keep", "t").out
    )


def test_csv_of_json(llmos: Llmos) -> None:
    """Whoever wants CSV says which columns, because lines of JSON do not."""
    assert "--keep" in llmos("tidy", "--to", "csv", stdin=b"{}").err
    assert (
        "text,n\nA,1\n"
        == llmos("tidy", "--to", "csv", "--keep", "text", "--keep", "n", stdin=lines({"n": 1, "text": "a"})).out
    )


# --- what is bad -----------------------------------------------------------------------------------------------

BAD = {
    "invalid UTF-8": (b'{"text": "\xff"}\n', "not UTF-8"),
    "broken JSON": (b'{"text": \n', "not a JSON object"),
    "NaN": (b'{"text": "a", "x": NaN}\n', "NaN is no JSON value"),
    "infinite": (b'{"text": "a", "x": 1e999}\n', "cannot be written as JSON"),
    "no object": (b"[1]\n", "must be a JSON object"),
    "nested": (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
    "missing field": (b'{"test": "a"}\n', "no field 'text'; the nearest is 'test'"),
    "no text": (b'{"text": 7}\n', "must be a text"),
    "refused": (b'{"text": "refused"}\n', "another text"),
    "too long": (b'{"text": "' + b"a" * 900_000 + b'"}\n', "at most 500,000 bytes"),
    "a bit too long": (b'{"text": "' + b"a" * 500_000 + b'"}\n', "at most 500,000 bytes"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_record(llmos: Llmos, bad: str) -> None:
    """It ends the run with one error that names its line; what came before it is written."""
    line, words = BAD[bad]
    done = llmos("tidy", "--limit", "500000", stdin=lines({"text": "a"}) + line + lines({"text": "b"}))

    assert 1 == done.code
    assert [{"text": "A"}] == records(done.out)
    assert "error: line 2: " in done.err
    assert words in done.err


@pytest.mark.parametrize("bad", BAD)
def test_rejects(llmos: Llmos, bad: str) -> None:
    """By choice it is noted in a file, with the error, and the run goes on."""
    line, words = BAD[bad]
    given = lines({"text": "a"}) + line + lines({"text": "b"})
    done = llmos("tidy", "--limit", "500000", "--rejects", "bad.jsonl", "--json", stdin=given)
    (entry,) = records(Path("bad.jsonl").read_text("utf-8"))

    assert (0, [{"text": "A"}, {"text": "B"}]) == (done.code, records(done.out))
    assert (2, 1) == (entry["line"], json.loads(done.err)["rejected"])
    assert words in entry["message"]


def test_csv_with_a_wrong_record(llmos: Llmos) -> None:
    """It is named by its number, and its neighbours are not touched."""
    done = llmos("upper", "--from", "csv", "--rejects", "bad", stdin=b'id,text\n1,a\n2\n3,"c\nc"\n4,"d"x\n5,e\n')

    assert 'id,text\n1,A\n3,"C\nC"\n5,E\n' == done.out
    assert [2, 4] == [entry["record"] for entry in records(Path("bad").read_text("utf-8"))]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["tydy"], 3, "did you mean 'tidy'"),
        (["broken"], 3, "pipeline 'broken', step 2: no processor plugin is called 'uper'; did you mean 'upper'"),
        (["tidy", "nowhere.jsonl"], 1, "nowhere.jsonl: No such file"),
        (["tidy", "--resume"], 1, "resume needs --output"),
        (["tidy", "--into", "x", "-f", "a", "-f", "b"], 1, "into is for one field"),
        (["tidy", "--feild", "x"], 2, "--field"),
        (["tidy", "--from", "xml"], 2, "xml"),
        (["tidy", "--workers", "0"], 2, "1<=x<=256"),
        (["tidy", "llmos.toml", "-o", "llmos.toml"], 1, "exists already"),
        (["tidy", "--from", "csv"], 1, "a head that gives each column"),
    ],
)
def test_wrong_usage(llmos: Llmos, args: list[str], code: int, words: str) -> None:
    """One error that says what would be right, and no traceback."""
    done = llmos(*args)

    assert code == done.code
    assert words in done.err
    assert "Traceback" not in done.err


# --- blocks ----------------------------------------------------------------------------------------------------


class Drops(io.BytesIO):
    """Gives bytes in small pieces, as a pipe may."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        super().__init__(data)
        self.sizes = sizes

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return some."""
        return super().read1(self.sizes.pop() if self.sizes else 7)


@MANY
@given(
    rows=st.lists(st.lists(st.text('a",\n\ré ', max_size=6), min_size=2, max_size=2), max_size=8),
    sizes=st.lists(st.integers(1, 20), max_size=30),
)
def test_csv_in_pieces(rows: list[list[str]], sizes: list[int]) -> None:
    """Wherever the bytes are cut, the records are those that were written, their numbers and ends add up."""
    write = WriteCsv(("a", "b"))
    data = b"".join(write.write({"a": a, "b": b}) for a, b in rows)
    found = list(read_blocks(Drops(data, sizes), 0, 1, 10_000, quoted=True))
    read = ReadCsv(("a", "b"), 10_000)

    assert rows == [[*read.read(raw).values()] for block in found for raw in read.split(block.data)]
    assert data == b"".join(block.data for block in found)
    assert [block.number for block in found[1:]] == [block.number + block.count for block in found[:-1]]
    assert len(data) == (found[-1].end if found else 0)


@MANY
@given(
    data=st.lists(st.sampled_from([b"a", b"bb" * 9, b"\n", b"ccc\n"]), max_size=40).map(b"".join),
    sizes=st.lists(st.integers(1, 20), max_size=30),
)
def test_lines_in_pieces(data: bytes, sizes: list[int]) -> None:
    """The same for lines; one that is too long is a bad block with its own number and end."""
    found = list(read_blocks(Drops(data, sizes), 0, 1, 24, quoted=False))
    given = data.split(b"\n")[: -1 if data.endswith(b"\n") else None] if data else []

    lost = {block.number for block in found if block.fault}
    kept = {
        number: raw for block in found if not block.fault
        for number, raw in enumerate(ReadLines().split(block.data), block.number)
    }  # fmt: skip
    assert {number: raw for number, raw in enumerate(given, 1) if number not in lost} == kept
    assert all(len(given[number - 1]) >= 24 for number in lost)
    assert len(data) == (found[-1].end if found else 0)


def test_endless_line(tmp_path: Path) -> None:
    """A line of a gigabyte that never ends is read over in constant memory."""

    class Endless:
        left = 2**30

        def read1(self, size: int, /) -> bytes:
            """Return as much as is asked for, of one object."""
            self.left -= size
            return piece if self.left >= 0 else b""

    piece = b"a" * 2**18
    (block,) = read_blocks(Endless(), 0, 1, 2**20)

    assert (b"", 1, 2**30) == (block.data, block.count, block.end)
    assert block.fault is not None
    assert "1,073,741,824 bytes" in block.fault["message"]


# --- going on --------------------------------------------------------------------------------------------------


def test_output_appears_whole(llmos: Llmos) -> None:
    """Neither a part nor a journal is left; what is there is not overwritten."""
    Path("in.jsonl").write_bytes(lines({"text": "a"}))

    assert 0 == llmos("tidy", "in.jsonl", "-o", "out.jsonl").code
    assert '{"text": "A"}\n' == Path("out.jsonl").read_text("utf-8")
    assert {"in.jsonl", "out.jsonl", "llmos.toml"} == {path.name for path in Path().iterdir()}
    assert "exists already" in llmos("tidy", "in.jsonl", "-o", "out.jsonl").err
    again = llmos("tidy", "in.jsonl", "-o", "out.jsonl", "--resume")
    assert (0, "out.jsonl is whole already\n") == (again.code, again.err)


def test_go_on_after_a_bad_record(llmos: Llmos) -> None:
    """A run that a bad record ended goes on when it may be noted."""
    Path("in.jsonl").write_bytes(lines({"text": "a"}) + b"bad\n" + lines({"text": "b"}))

    assert 1 == llmos("tidy", "in.jsonl", "-o", "out.jsonl").code
    assert "--resume" in llmos("tidy", "in.jsonl", "-o", "out.jsonl").err
    assert 0 == llmos("tidy", "in.jsonl", "-o", "out.jsonl", "--resume", "--rejects", "bad.jsonl").code
    assert '{"text": "A"}\n{"text": "B"}\n' == Path("out.jsonl").read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: Path("in.jsonl").write_bytes(b"x" * 100), "the source is another one"),
        (lambda: Path("out.jsonl.part").write_bytes(b""), "the journal counts on"),
        (lambda: Path("out.jsonl.journal").write_bytes(b"{"), "cannot be gone on from"),
    ],
    ids=["source", "part", "journal"],
)
def test_what_cannot_be_gone_on_with(llmos: Llmos, change: Callable[[], object], words: str) -> None:
    """If a file is not what the journal says, that is an error."""
    interrupted(5)
    change()
    done = llmos("tidy", "in.jsonl", "-o", "out.jsonl", "--resume")

    assert 1 == done.code
    assert words in done.err


def test_go_on_otherwise(llmos: Llmos) -> None:
    """A run goes on as it was begun, or not at all."""
    interrupted(5)
    done = llmos("upper", "in.jsonl", "-o", "out.jsonl", "--resume")

    assert 1 == done.code
    assert "begun with pipeline 'tidy', not 'upper'" in done.err


def interrupted(after: int) -> None:
    """Leave a run in the current folder that stopped after so many blocks of 20, each with a bad record."""
    given = [lines({"text": f"text {at}"}) + b"bad\n" for at in range(20)]
    Path("in.jsonl").write_bytes(b"".join(given))
    plan = Plan(pipeline="tidy", rejecting=True)
    files = Files(Path("in.jsonl"), Path("out.jsonl"), Path("bad.jsonl"))
    work = Work(plan, Pipeline("tidy", ["normalize", "upper"], KernelConfig(), (normalize, Upper())))
    with ExitStack() as stack:
        source = stack.enter_context(files.source({}))
        state = files.begin(plan, source, stack, resume=False)
        assert state is not None
        state.clock = iter(range(1000)).__next__
        blocks = list(read_blocks(Drops(b"".join(given), [len(piece) for piece in reversed(given)]), 0, 1, 10_000))

        def stopping(blocks: Iterable[Any]) -> Any:
            for at, block in enumerate(blocks):
                if at == after:
                    raise KeyboardInterrupt
                yield block, work(block)

        with pytest.raises(KeyboardInterrupt):
            state(stopping, blocks)
        # What was written after the journal's last entry is on the disk too.
        state.output.write(b"lost")


@pytest.mark.parametrize("after", range(0, 20, 3))
def test_interrupted_anywhere(llmos: Llmos, after: int) -> None:
    """Neither a record nor a reject is lost or doubled."""
    interrupted(after)
    assert 40 >= Journal.load(Path("out.jsonl.journal")).number
    done = llmos("tidy", "in.jsonl", "-o", "out.jsonl", "--resume", "--rejects", "bad.jsonl")

    assert 0 == done.code, done.err
    assert [f"TEXT {at}" for at in range(20)] == [line["text"] for line in records(Path("out.jsonl").read_text())]
    assert [2 * at + 2 for at in range(20)] == [entry["line"] for entry in records(Path("bad.jsonl").read_text())]


# --- in processes of its own -----------------------------------------------------------------------------------


def llmos_data(*args: str, **how: Any) -> subprocess.Popen[bytes]:
    """Begin ``llmos data run`` in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "llmos", "data", "run", *args], stderr=subprocess.PIPE, **how)


RECORDS = 80_000
"""Enough that quick machines take a while for them."""


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many records in the current folder, every thousandth of them bad."""
    monkeypatch.chdir(tmp_path)
    with Path("in.jsonl").open("w", encoding="utf-8") as file:
        for at in range(RECORDS):
            record = {"at": at, "text": f"  record   {at} " * 4}
            file.write("bad\n" if at % 1000 == 999 else json.dumps(record) + "\n")
    return RECORDS


def how_far() -> int:
    """Return how many records the journal counts on."""
    try:
        return Journal.load(Path("out.jsonl.journal")).number - 1
    except FileNotFoundError:
        return 0


def check_all(count: int) -> None:
    """All records are in the output and the rejects, once and in order."""
    found = [line["at"] for line in records(Path("out.jsonl").read_text("utf-8"))]

    assert [at for at in range(count) if at % 1000 != 999] == found
    assert list(range(1000, count + 1, 1000)) == [
        line["line"] for line in records(Path("bad.jsonl").read_text("utf-8"))
    ]


def wait(process: subprocess.Popen[Any], seconds: float) -> None:
    """Wait until the process ends, but no longer than *seconds*."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_at_random_moments(many: int, workers: str) -> None:
    """Killed again and again, a run that goes on each time ends with each record once, in order."""
    rng = random.Random(int(workers))
    args = ("normalize", "in.jsonl", "-o", "out.jsonl", "--rejects", "bad.jsonl", "--resume", "--workers", workers)
    reached = 0
    while reached < many // 4:
        with llmos_data(*args) as process:
            before = reached
            while process.poll() is None and reached == before:
                reached = max(reached, how_far())
                wait(process, 0.002)
            wait(process, rng.random() / 4)
            process.kill()
            said = process.stderr.read() if process.stderr is not None else b""
        assert reached > before, said
    with llmos_data(*args) as process:
        _, err = process.communicate(timeout=60)

    assert 0 == process.returncode, err
    check_all(many)


def test_workers_keep_the_order(many: int) -> None:
    """Two processes write what one does."""
    for workers in ("1", "2"):
        args = (
            "normalize",
            "in.jsonl",
            "-o",
            f"out{workers}.jsonl",
            "--rejects",
            f"bad{workers}",
            "--workers",
            workers,
        )
        with llmos_data(*args) as process:
            _, err = process.communicate(timeout=60)
        assert 0 == process.returncode, err

    assert Path("out1.jsonl").read_bytes() == Path("out2.jsonl").read_bytes()
    assert Path("bad1").read_bytes() == Path("bad2").read_bytes()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_error_of_a_worker(many: int, workers: str) -> None:
    """It is the same, whoever finds it, and ends all."""
    with llmos_data("normalize", "in.jsonl", "--workers", workers, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)

    assert 1 == process.returncode
    assert b"error: line 1000: it is not a JSON object" in err
    assert 999 == len(out.splitlines())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reader_that_goes(many: int, workers: str) -> None:
    """Without a word, and with its exit code."""
    with llmos_data("normalize", "in.jsonl", "--rejects", "b", "--workers", workers, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        _, err = process.communicate(timeout=60)

    assert (141, b"") == (process.returncode, err)
