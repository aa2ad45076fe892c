"""Traces in CSV: both layouts, row by row, and an error that names file, line and column for whatever is wrong."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from llmos_kernel.errors import InvalidArgument
from llmos_simulator.records import Arrival
from llmos_simulator.traces import read_trace


def write(folder: Path, text: str) -> Path:
    """Write a trace."""
    path = folder / "trace.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_own_layout(tmp_path: Path) -> None:
    """Columns in any order; an empty cell is the default, and blank lines are none."""
    path = write(
        tmp_path, "prompt,at,output,tenant,priority,deadline\n9,0.5,2,me,3,1.5\n\n8,0.5,1,,,\r\n7,1e0,4,you, -2 ,\n"
    )

    assert [
        Arrival(0.5, "me", prompt=9, output=2, priority=3, deadline=1.5),
        Arrival(0.5, "somebody", prompt=8, output=1),
        Arrival(1.0, "you", prompt=7, output=4, priority=-2),
    ] == list(read_trace(path, "somebody"))


def test_every_field_of_an_arrival_has_a_column(tmp_path: Path) -> None:
    """Kind, what was asked for at most, service and model as well."""
    path = write(tmp_path, "at,prompt,output,kind,max_tokens,service,model\n1,2,3,chat,4,5.5,tiny\n")

    assert [Arrival(1.0, kind="chat", prompt=2, output=3, max_tokens=4, service=5.5, model="tiny")] == list(
        read_trace(path)
    )


@pytest.mark.parametrize("zone", ["", "+00:00", "Z"])
def test_layout_of_the_published_traces(tmp_path: Path, zone: str) -> None:
    """Seven digits of a second as well; time counts from the first row."""
    rows = [f"2023-11-16 23:59:59.6805900{zone},374,44", f"2023-11-17 00:00:00.9{zone},396,109"]
    found = list(read_trace(write(tmp_path, "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))))

    assert [0.0, 1.21941] == pytest.approx([arrival.at for arrival in found])
    assert [(374, 44), (396, 109)] == [(arrival.prompt, arrival.output) for arrival in found]


def test_a_file_from_a_spreadsheet(tmp_path: Path) -> None:
    """It begins with a byte order mark and quotes its cells."""
    path = write(tmp_path, '\ufeff"at","prompt","output"\n"0","1","1"\n')

    assert [Arrival(0.0, prompt=1, output=1)] == list(read_trace(path))


OWN = "at,prompt,output"


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, "header"),
        ("at,prompt\n0,1\n", 1, "header"),
        ("at,prompt,output,tennant\n", 1, "header"),
        ("at,prompt,output,at\n", 1, "header"),
        ("TIMESTAMP,ContextTokens\n", 1, "header"),
        (OWN, 1, "row"),
        (f"{OWN}\n0,1\n", 2, "row"),
        (f"{OWN}\n0,1,1\n0,1,1,1\n", 3, "row"),
        (f'{OWN}\n0,1,"1\n', 2, "row"),
        (f"{OWN}\n0,1,1\nsoon,1,1\n", 3, "at"),
        (f"{OWN}\n,1,1\n", 2, "at"),
        (f"{OWN}\nnan,1,1\n", 2, "at"),
        (f"{OWN}\ninf,1,1\n", 2, "at"),
        (f"{OWN}\n-1,1,1\n", 2, "at"),
        (f"{OWN}\n1e300,1,1\n", 2, "at"),
        (f"{OWN}\n1_0,1,1\n", 2, "at"),
        (f"{OWN}\n5,1,1\n4.5,1,1\n", 3, "at"),
        (f"{OWN}\n0,0,1\n", 2, "prompt"),
        (f"{OWN}\n0,1.5,1\n", 2, "prompt"),
        (f"{OWN}\n0,1,{'9' * 5000}\n", 2, "output"),
        (f"{OWN}\n0,1,{10**15}\n", 2, "output"),
        (f"{OWN},priority\n0,1,1,high\n", 2, "priority"),
        (f"{OWN},priority\n0,1,1,1001\n", 2, "priority"),
        (f"{OWN},max_tokens\n0,1,9,8\n", 2, "max_tokens"),
        (f"{OWN},deadline\n0,1,1,nan\n", 2, "deadline"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-01,1,1\n", 2, "TIMESTAMP"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-12-01,1,0\n", 2, "GeneratedTokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-12-02,1,1\n2023-12-01,1,1\n", 3, "TIMESTAMP"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-12-02T00Z,1,1\n2023-12-03,1,1\n", 3, "TIMESTAMP"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, line: int, column: str) -> None:
    """The error has the file, the line, the column, the value, and what would be right."""
    path = write(tmp_path, text)
    with pytest.raises(InvalidArgument) as caught:
        list(read_trace(path))
    fields = caught.value.fields

    assert (str(path), line, column) == (fields["file"], fields["line"], fields["field"])
    assert "value" in fields
    assert f"{path}, line {line}: {column} must be {fields['expected']}" in str(caught.value)


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    """It is most often a slip."""
    with pytest.raises(InvalidArgument, match=r"tennant.*|the nearest is tenant"):
        list(read_trace(write(tmp_path, "at,prompt,output,tennant\n0,1,1,me\n")))


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    """By its path."""
    path = tmp_path / "trace.csv"
    path.write_bytes(b"at,prompt,output\n0,1,\xff\n")
    for wrong in (path, tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(InvalidArgument, match="must be") as caught:
            list(read_trace(wrong))
        assert str(wrong) == caught.value.fields["file"]


@given(text=st.text(alphabet='at,prompt01.-e"\n\r\x00 TIMESTAMP', max_size=200))
@settings(max_examples=200)
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Nothing but `InvalidArgument` is ever raised."""
    path = write(tmp_path_factory.mktemp("trace"), f"{OWN}\n{text}")
    found: list[Arrival] = []
    with suppress(InvalidArgument):
        found.extend(read_trace(path))

    assert found == sorted(found, key=lambda arrival: arrival.at)


def test_rows_before_a_wrong_one_are_read(tmp_path: Path) -> None:
    """A file is not looked at beyond the row that is asked for."""
    rows = read_trace(write(tmp_path, f"{OWN}\n0,1,1\nsoon,1,1\n"))

    assert Arrival(0.0, prompt=1, output=1) == next(rows)


def test_a_long_file_takes_no_memory(tmp_path: Path) -> None:
    """It is read as it is needed."""
    path = write(tmp_path, f"{OWN}\n" + "1.5,100,200\n" * 20_000)
    tracemalloc.start()
    try:
        assert 20_000 == sum(1 for _ in read_trace(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 500_000
