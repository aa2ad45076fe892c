"""Suites: what their files may say, and what is said of one that says it wrongly."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_evaluation import Asked, Suite, read_suite
from llmos_kernel.errors import InvalidArgument

MANY = settings(max_examples=100, deadline=None, derandomize=True, database=None)
MESSAGES = [{"role": "user", "content": "Who?"}]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a folder of its own."""
    monkeypatch.chdir(tmp_path)


def put(name: str, *records: object) -> Path:
    """Write lines of JSON."""
    path = Path(name)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def asked(suite: Suite) -> list[object]:
    """Return what the model is asked, as its backend gets it."""
    return [suite.task.request(case.input).task.input for case in suite.cases]


def test_lines_of_json() -> None:
    """A record has an input and one reference or several; what is not said makes it deterministic and bounded."""
    path = put(
        "words.jsonl", {"input": "one", "expected": "1"}, {"prompt": "two", "expected": ["2", "ii"], "id": "b", "x": 1}
    )
    suite = read_suite(path)

    assert ("words", "generate", ("exact",)) == (suite.name, suite.task.type, suite.metrics)
    assert ["one", "two"] == asked(suite)
    assert [("", ("1",)), ("b", ("2", "ii"))] == [(case.id, case.expected) for case in suite.cases]
    assert {"temperature": 0, "seed": 0, "max_tokens": 256} == suite.task.params.given


def test_messages_make_it_a_conversation() -> None:
    """Then a text for the messages is what the user says."""
    suite = read_suite(put("a.jsonl", {"messages": MESSAGES, "expected": "I"}, {"messages": "Who?", "expected": "I"}))

    assert "chat" == suite.task.type
    assert [MESSAGES, MESSAGES] == asked(suite)


def test_head() -> None:
    """It names the records, the metrics, the references' field and the task, whose prompt takes fields."""
    put("records.jsonl", {"question": "Who?", "answer": "I", "group": "easy"})
    Path("suite.toml").write_text(
        'records = "records.jsonl"\nexpected = "answer"\nmetrics = ["f1", "exact", "f1"]\n[task]\ntype = "chat"\n'
        'system = "Be brief."\nprompt = "Q: {{ question }}"\nparams = { max_tokens = 4, stop = "." }\n'
    )
    suite = read_suite(Path("suite.toml"))

    assert [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q: Who?"}]] == asked(suite)
    assert (("f1", "exact"), "easy", ("I",)) == (suite.metrics, suite.cases[0].group, suite.cases[0].expected)
    assert {"temperature": 0, "seed": 0, "max_tokens": 4, "stop": (".",)} == suite.task.params.given


def test_records_beside_a_head() -> None:
    """A head without records has those that are called like it."""
    Path("words.csv").write_text("input,expected\na,b\n")
    Path("words.toml").write_text("")

    assert ["a"] == asked(read_suite(Path("words.toml")))


def test_csv() -> None:
    """Lines may be within cells; an empty cell of an optional column is none."""
    Path("a.csv").write_bytes(b'\xef\xbb\xbfid,input,expected\r\n,"a\nb",""\r\n7,c,"d, e"\r\n')
    first, second = read_suite(Path("a.csv")).cases

    assert ("", "a\nb", ("",), 2) == (first.id, first.input, first.expected, first.line)
    assert ("7", "c", ("d, e",), 4) == (second.id, second.input, second.expected, second.line)


def test_options() -> None:
    """They win over the files, and a limit leaves the rest unread."""
    path = put("a.jsonl", {"input": "a", "expected": "A"}, {"input": "b"})
    options = Asked(type="chat", prompt="Say {{ input }}", metrics=("f1",), params={"max_tokens": 3}, limit=1)
    suite = read_suite(path, options)

    assert [[{"role": "user", "content": "Say a"}]] == asked(suite)
    assert (("f1",), 3) == (suite.metrics, suite.task.params.max_tokens)


def test_digest() -> None:
    """It changes with the records and with nothing else; what a run is called by changes with the task as well."""
    right = {"input": "a", "expected": "A"}
    same = [read_suite(put(name, right)).digest for name in ("a.jsonl", "b.jsonl")]
    other = [read_suite(put("c.jsonl", {**right, key: "x"})).digest for key in right]
    suite = read_suite(put("d.jsonl", right), Asked(metrics=("f1",)))
    longer = read_suite(put("e.jsonl", right), Asked(params={"max_tokens": 9}))

    assert same[0] == same[1] == suite.digest == longer.digest
    assert 3 == len({same[0], *other})
    assert suite.work != longer.work


BAD: dict[str, tuple[str, int, str]] = {
    '{"input": "a", "expected": "b"}\n\n{"input": "a", "expcted": "b"}\n': ("did you mean 'expcted'", 3, "expected"),
    '{"input": "a", "expected": []}\n': ("at least one", 1, "expected"),
    '{"input": "a", "expected": 4}\n': ("a text", 1, "expected"),
    '{"input": "a", "expected": "b", "group": 3}\n': ("a text", 1, "group"),
    '{"expected": "b"}\n': ("it has none", 1, "input"),
    '{"input": "a", "prompt": "a", "expected": "b"}\n': ("input and prompt", 1, "input"),
    '{"input": "a", "expected": "b"}\n{"messages": [], "expected": "b"}\n': ("type = chat", 2, "messages"),
    '{"input": 5, "expected": "b"}\n': ("a string", 1, "prompt"),
    '{"messages": [{"role": "user"}], "expected": "b"}\n': ("a string", 1, "messages[0].content"),
    '["a", "b"]\n': ("a JSON object", 1, "record"),
    '{"input": "a", "expected": "b"}\n{"input\n': ("a JSON object", 2, "record"),
    "\n": ("at least one record", 1, "records"),
}


@pytest.mark.parametrize("text", BAD)
def test_bad_records(text: str) -> None:
    """One error names the file, the line, the field and what would be right."""
    said, line, field = BAD[text]
    Path("bad.jsonl").write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        read_suite(Path("bad.jsonl"))

    assert said in caught.value.message
    assert f"bad.jsonl, line {line}: " in caught.value.message
    assert (line, field) == (caught.value.fields["line"], caught.value.fields["field"])


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"input,expected\na,b,c\n", 2), (b"input,input\na,b\n", 1), (b"input,expected\na,b\n\n\nc\n", 5),
        (b"input,expected\n\xff,b\n", 2), (b'input,expected\na,b\n"c"d,e\n', 3),
    ],
)  # fmt: skip
def test_bad_csv(data: bytes, line: int) -> None:
    """The same for CSV, where a line is a line of the file and not a record."""
    Path("bad.csv").write_bytes(data)
    with pytest.raises(InvalidArgument) as caught:
        read_suite(Path("bad.csv"))

    assert line == caught.value.fields["line"]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("metrcs = []", "did you mean 'metrics'"),
        ('metrics = "exact"', "a list of names"),
        ('metrics = ["exakt"]', "did you mean 'exact'"),
        ("records = 5", "a table or a name"),
        ("task = [1", "no TOML"),
        ('[task]\ntype = "embed"', "one of generate, chat, classify"),
        ('[task]\nmodel = "tiny"', "a suite is for any model"),
        ("[task]\nparams = { max_tokns = 3 }", "max_tokens"),
        ('metrics = ["f1"]\n[task]\ntype = "classify"', "none for a suite of type classify"),
    ],
)  # fmt: skip
def test_bad_heads(head: str, said: str) -> None:
    """A key that there is not, or a value of the wrong kind, is one error as well."""
    put("suite.jsonl", {"input": "a", "expected": "b"})
    Path("suite.toml").write_text(head)
    with pytest.raises(InvalidArgument) as caught:
        read_suite(Path("suite.toml"))

    assert said in caught.value.message
    assert "suite.toml" in caught.value.message or "metric" in caught.value.message


def test_no_file_of_records() -> None:
    """A name that ends otherwise, and a head without records, say what would be right."""
    Path("alone.toml").write_text("")
    Path("words.txt").write_text("a")
    for name, said in (("alone.toml", "name of a file of records"), ("words.txt", "ends in .jsonl")):
        with pytest.raises(InvalidArgument, match=said):
            read_suite(Path(name))


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_FULL = _TEXT.filter(bool)


@MANY
@given(st.lists(st.tuples(_FULL, st.lists(_TEXT, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_every_record_of_json_is_read(rows: list[tuple[str, list[str]]]) -> None:
    """Texts of any characters come out as they went in."""
    suite = read_suite(put("any.jsonl", *({"input": text, "expected": right} for text, right in rows)))

    assert rows == [(case.input, list(case.expected)) for case in suite.cases]


@MANY
@given(st.lists(st.tuples(_FULL, _TEXT), min_size=1, max_size=5))
def test_every_record_of_csv_is_read(rows: list[tuple[str, str]]) -> None:
    """What Python's own writer quotes is read back, lines within cells included."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("input", "expected"), *rows])
    Path("any.csv").write_bytes(out.getvalue().encode())
    suite = read_suite(Path("any.csv"))

    assert rows == [(case.input, case.expected[0]) for case in suite.cases]


_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["input", "expected", "messages", "role", "content", "prompt"]), inner)
    ),
    max_leaves=8,
)


@MANY
@given(st.lists(_JSON, max_size=3), st.binary(max_size=20))
def test_whatever_is_in_it_ends_typed(values: list[Any], tail: bytes) -> None:
    """Any JSON, and any bytes behind it, are a suite or one `InvalidArgument`."""
    for name in ("any.jsonl", "any.csv"):
        path = put(name, *values)
        path.write_bytes(path.read_bytes() + tail)
        with contextlib.suppress(InvalidArgument):
            assert read_suite(path).cases
