"""`llmos data run` over Parquet files and folders, alone on its output, and in memory that does not grow."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
from pyarrow import parquet

from llmos import Pipeline, cli, locked
from llmos_data import normalize
from llmos_data.blocks import Block
from llmos_data.files import Files
from llmos_data.plan import Plan
from llmos_data.work import Passed, Work
from llmos_data.workers import Workers
from llmos_kernel import KernelConfig
from llmos_kernel.errors import InvalidArgument

ROWS = 10_000


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is empty."""
    monkeypatch.chdir(tmp_path)


@attrs.frozen
class Ended:
    """What a command wrote, and its exit code."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(*args: str, stdin: bytes = b"") -> Ended:
    """Run ``llmos data run normalize`` in this process."""
    streams = [io.TextIOWrapper(io.BytesIO(given), "utf-8") for given in (stdin, b"", b"")]
    with pytest.MonkeyPatch.context() as patch:
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        code = cli.run(("data", "run", "normalize", *args), cli.Common())
        for stream in streams[1:]:
            stream.flush()
    _, out, err = (stream.buffer for stream in streams)
    return Ended(code, out.getvalue(), err.getvalue())


def a_table() -> pa.Table:
    """Return columns that JSON does not have, in several row groups."""
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.uint16()),
            "text": pa.array([f" a   b {at} " for at in range(ROWS)], pa.large_string()),
            "when": pa.array([begin + dt.timedelta(seconds=at) for at in range(ROWS)], pa.timestamp("ns", "UTC")),
            "kind": pa.array(["x", "y"] * (ROWS // 2)).dictionary_encode(),
        }
    ).replace_schema_metadata({"made": "by hand"})


def interrupt(input: str, output: str, after: int, **given: Any) -> None:
    """Leave a run that stopped after so many blocks, with more on the disk than its journal says."""
    files = Files(Path(input), Path(output), None)
    given = {"pipeline": "normalize", **given}
    with ExitStack() as stack:
        source = stack.enter_context(files.source(given))
        plan = files.plan(given, source)
        work = Work(plan, Pipeline("normalize", ["normalize"], KernelConfig(), (normalize,)))
        state = files.begin(plan, source, stack, resume=False)
        assert state is not None
        state.clock = iter(range(10**6)).__next__

        def stopping(blocks: Any) -> Iterator[Any]:
            for at, block in enumerate(blocks):
                if at == after:
                    state.output.write(work(block).out)
                    raise KeyboardInterrupt
                yield block, work(block)

        with pytest.raises(KeyboardInterrupt):
            state(stopping, source.blocks(plan, state.done))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_table_keeps_its_schema(workers: str) -> None:
    """Columns that no processor touches keep types, values and metadata; the others are what the processor made."""
    before = a_table()
    parquet.write_table(before, "in.parquet", row_group_size=3000)
    done = run("in.parquet", "-o", "out.parquet", "--workers", workers)
    after = parquet.read_table("out.parquet")

    assert 0 == done.returncode, done.stderr
    assert before.schema.equals(after.schema, check_metadata=True)
    assert before.drop(["text"]).equals(after.drop(["text"]))
    assert [f"a b {at}" for at in range(ROWS)] == after["text"].to_pylist()
    assert {"in.parquet", "out.parquet"} == {path.name for path in Path().iterdir()}


@pytest.mark.parametrize("after", [0, 3])
def test_a_table_is_gone_on_with(after: int) -> None:
    """Wherever a run over a table stopped, each row is there once, in order, when it has gone on."""
    parquet.write_table(a_table(), "in.parquet", row_group_size=3000)
    interrupt("in.parquet", "out.parquet", after)
    done = run("in.parquet", "-o", "out.parquet", "--resume")

    assert 0 == done.returncode, done.stderr
    assert list(range(ROWS)) == parquet.read_table("out.parquet")["id"].to_pylist()


def test_lines_become_a_table() -> None:
    """Fields that only some records have are null elsewhere; numbers of two kinds become one."""
    given = b'{"text": " a", "n": 1}\n' * 4000 + b'{"text": "b ", "n": 2.5, "new": true}\n'
    done = run("--to", "parquet", "-o", "out", stdin=given)
    table = parquet.read_table("out")

    assert 0 == done.returncode, done.stderr
    assert [{"text": "a", "n": 1.0, "new": None}, {"text": "b", "n": 2.5, "new": True}] == table.slice(3999).to_pylist()


def test_no_rows() -> None:
    """A table without rows keeps its columns."""
    parquet.write_table(a_table().slice(0, 0), "in.parquet")
    run("in.parquet", "-o", "out.parquet")

    assert a_table().schema.names == parquet.read_schema("out.parquet").names


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["cut.parquet", "-o", "out.parquet"], "cut.parquet is not a whole Parquet file"),
        (["in.parquet", "-f", "txet"], "no column 'txet'; the nearest is 'text'"),
        (["in.parquet", "--to", "parquet"], "parquet needs --output"),
        (["--from", "parquet"], "parquet needs the path of its input"),
        (["--from", "folder"], "folder needs the path of its input"),
        (["in.parquet", "--suffix", ".md"], "suffix must be the format folder"),
        (["in.parquet", "--from", "folder"], "in.parquet is no folder"),
    ],
)
def test_what_is_wrong(args: list[str], words: str) -> None:
    """One error that says what would be right, exit code 1, and no traceback."""
    parquet.write_table(a_table(), "in.parquet")
    Path("cut.parquet").write_bytes(Path("in.parquet").read_bytes()[:50_000])
    done = run(*args, stdin=b"")

    assert 1 == done.returncode
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_column_of_two_types(workers: str) -> None:
    """It cannot be written, and the error names the column and the record, also behind lines that are none."""
    given = b'{"text": "a", "n": 1}\n' * 50 + b"\n\n" + b'{"text": "a", "n": null}\n{"text": "a", "n": "b"}\n' * 9
    done = run("--to", "parquet", "-o", "out", "--workers", workers, stdin=given)

    assert 1 == done.returncode
    assert b"error: line 54: n must be values of one type" in done.stderr


def test_places_of_what_is_written() -> None:
    """Each is that of the record that it came from, also where one became many or none."""
    passed = Passed(["a", "b", "c", "d", "e"], [2, 2, 5])

    assert [0, 0, 2, 2, 2] == [passed.record(at) for at in range(5)]


def test_blocks_of_two_types() -> None:
    """What only shows when all is put together is named by its row."""
    nulls = 100_000
    given = b'{"text": "a", "n": 1}\n' + b'{"text": "some text", "n": null}\n' * nulls + b'{"text": "a", "n": "b"}\n'
    done = run("--to", "parquet", "-o", "out", stdin=given)

    assert 1 == done.returncode
    assert f"error: row {nulls + 2} of the output: n must be values of one type" in done.stderr.decode()
    assert not Path("out").exists()


def test_without_pyarrow() -> None:
    """The error says how to get it."""
    parquet.write_table(a_table(), "in.parquet")
    code = "import sys; sys.modules['pyarrow'] = None; from llmos.cli import main; main()"
    command = [sys.executable, "-c", code, "data", "run", "normalize", "in.parquet"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)

    assert 1 == done.returncode
    assert b"pip install 'llmos-data[parquet]'" in done.stderr


# --- folders ---------------------------------------------------------------------------------------------------


def a_folder(count: int = 3) -> Path:
    """Return a folder with texts, and with what must not be read."""
    folder = Path("in")
    (folder / "sub").mkdir(parents=True)
    for at in range(count):
        (folder / f"{at:04}.txt").write_text(f" text   {at} " * 200, "utf-8")
    (folder / "sub" / "é.md").write_text("a  b", "utf-8")
    (folder / "image.png").write_bytes(b"\x89PNG")
    Path("secret.txt").write_text("secret", "utf-8")
    (folder / "link.txt").symlink_to(Path("secret.txt").resolve())
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.txt")
    return folder


def test_a_folder_becomes_a_folder() -> None:
    """Each text is a file at the same place; links, pipes and other files are not read."""
    a_folder()
    done = run("in", "-o", "out")

    assert 0 == done.returncode, done.stderr
    found = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert {"0000.txt", "0001.txt", "0002.txt", "sub/é.md"} == found
    assert "a b" == Path("out/sub/é.md").read_text("utf-8")


def test_a_folder_becomes_lines() -> None:
    """Path and name are in the record, and the names that are read can be told."""
    a_folder()
    done = run("in", "--suffix", ".md")

    assert {"path": "sub/é.md", "name": "é.md", "text": "a b"} == json.loads(done.stdout)


def test_files_that_cannot_be_read() -> None:
    """Each is named, and the others are not touched."""
    folder = a_folder(0)
    (folder / "a.txt").write_bytes(b"\xff")
    (folder / "b.txt").write_bytes(b"a" * 2000)
    Path(os.fsdecode(b"in/\xff.txt")).write_bytes(b"a")
    done = run("in", "--limit", "1000", "--rejects", "bad.jsonl")
    messages = [json.loads(line)["message"] for line in Path("bad.jsonl").read_text("utf-8").splitlines()]

    assert 1 == len(done.stdout.splitlines())
    assert "'a.txt': it is not UTF-8" in messages[0]
    assert "'b.txt': it has 2,000 bytes" in messages[1]
    assert "its name is not UTF-8" in messages[2]


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("output", ["out", "out.jsonl"])
def test_a_folder_is_gone_on_with(output: str, after: int) -> None:
    """Wherever the run stopped, each file is there once."""
    a_folder(400)
    interrupt("in", output, after)
    done = run("in", "-o", output, "--resume")

    assert 0 == done.returncode, done.stderr
    if output == "out":
        assert 401 == sum(path.is_file() for path in Path("out").rglob("*"))
    else:
        paths = [json.loads(line)["path"] for line in Path(output).read_text("utf-8").splitlines()]
        assert [f"{at:04}.txt" for at in range(400)] + ["sub/é.md"] == paths


def test_another_folder_is_not_gone_on_with() -> None:
    """A file that has come before the place to go on at is noticed."""
    a_folder(400)
    interrupt("in", "out", 2)
    Path("in/0.txt").write_text("new", "utf-8")

    assert b"the source is another one" in run("in", "-o", "out", "--resume").stderr


@pytest.mark.parametrize("path", ["../a.txt", "/a.txt", "a/../../b", "", "a\0b", "C:a", "a\\b", 7, "a//b"])
def test_paths_that_lead_elsewhere(path: object) -> None:
    """They are refused, and nothing is written there."""
    given = json.dumps({"path": path, "text": "a"}).encode()
    done = run("--to", "folder", "-o", "out", stdin=given)

    assert 1 == done.returncode
    assert b"path must be a path below the folder" in done.stderr


def test_two_texts_for_one_file() -> None:
    """The second is refused instead of taking the place of the first."""
    done = run("--to", "folder", "-o", "out", stdin=b'{"path": "a", "text": "b"}\n{"path": "a", "text": "c"}\n')

    assert 1 == done.returncode
    assert b"two records have the path 'a'" in done.stderr


def test_output_in_the_input() -> None:
    """It would be read, so it is refused."""
    a_folder()

    assert b"a path outside in" in run("in", "-o", "in/out").stderr


# --- alone, on full disks, in constant memory -----------------------------------------------------------------


def test_two_runs_on_one_output() -> None:
    """The second is told which process has it, and writes nothing."""
    with locked(Path("out.jsonl")):
        done = run("-o", "out.jsonl", stdin=b'{"text": "a"}\n')

    assert 1 == done.returncode
    assert f"out.jsonl is being written by process {os.getpid()}" in done.stderr.decode()
    assert not [*Path().iterdir()]


def test_the_lock_of_a_killed_run() -> None:
    """It does not block: the system let go of it."""
    code = "import os, pathlib, signal; from llmos import locked\n"
    code += "with locked(pathlib.Path('out')): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert Path("out.lock").exists()
    with locked(Path("out")), pytest.raises(InvalidArgument), locked(Path("out")):
        pass

    assert not Path("out.lock").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk() -> None:
    """It is one error that names the output, and nothing more when the interpreter ends."""
    command = [sys.executable, "-m", "llmos", "data", "run", "normalize"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, input=b'{"text": "a"}', stdout=full, stderr=subprocess.PIPE, check=False, env=buffered
        )

    assert 1 == done.returncode
    assert b"error: standard output: No space left on device" in done.stderr
    assert b"Exception" not in done.stderr


def test_an_output_that_finds_no_room() -> None:
    """It is one error that names the file, and with more room the run goes on, without a lost or doubled record."""
    Path("in.jsonl").write_bytes(b"".join(json.dumps({"text": f"{at} " * 40}).encode() + b"\n" for at in range(9000)))
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000));"
    code += "from llmos.cli import main; main()"
    command = [sys.executable, "-c", code, "data", "run", "normalize", "in.jsonl", "-o", "out.jsonl"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)

    assert 1 == done.returncode
    assert b"error: out.jsonl.part: File too large" in done.stderr
    assert b"Traceback" not in done.stderr
    assert 0 == run("in.jsonl", "-o", "out.jsonl", "--resume").returncode
    found = [json.loads(line)["text"].split()[0] for line in Path("out.jsonl").read_text("utf-8").splitlines()]
    assert [str(at) for at in range(9000)] == found


def _resident(process: int) -> int:
    """Return the bytes of memory that a process has had at most."""
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process has had at most")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_memory_does_not_grow(workers: str) -> None:
    """After 8 MiB of records have passed, 40 more cost at most 4 MiB, in the run and in each of its workers."""
    command = [sys.executable, "-m", "llmos", "data", "run", "truncate", "-o", "out", "--workers", workers]
    record = json.dumps({"text": "some words " * 700}).encode() + b"\n"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(record * (2**23 // len(record)))
        process.stdin.flush()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        everyone = [process.pid, *map(int, children)]
        before = [_resident(each) for each in everyone]
        for _ in range(5):
            process.stdin.write(record * (2**23 // len(record)))
        process.stdin.flush()
        growth = [_resident(each) - had for each, had in zip(everyone, before, strict=True)]
        process.stdin.close()

    assert 0 == process.returncode
    assert int(workers) % 2 + 2 * (int(workers) // 2) <= len(everyone)
    assert max(growth) <= 2**22, growth


def test_few_blocks_are_read_ahead() -> None:
    """Two workers never have more than four blocks between what is read and what is written."""
    read = 0

    def blocks() -> Iterator[Block]:
        nonlocal read
        for at in range(30):
            read += 1
            yield Block(b'{"text": "a"}\n', at + 1, 1, at + 1)

    command = [sys.executable, "-m", "llmos", "data", "worker"]
    with Workers(command, Plan(pipeline="normalize"), 2) as workers:
        for written, _ in enumerate(workers.map(blocks())):
            assert 4 >= read - written
