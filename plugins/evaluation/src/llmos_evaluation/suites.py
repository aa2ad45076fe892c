"""Suites: what is asked, and what would be right.  Lines of JSON or CSV, and a head in TOML where the records need one.

records = "questions.jsonl"
metrics = ["exact", "f1"]

[task]
type = "chat"
prompt = "Answer in one word: {{ question }}"
params = { max_tokens = 16 }
"""

from __future__ import annotations

import csv
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos import TaskFile
from llmos_evaluation.metrics import check_metrics
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.loader import nearest

HEAD = ".toml"
"""What the name of a head ends in."""
RECORDS = (".jsonl", ".ndjson", ".csv")
"""What the names of files of records end in."""
TYPES = ("generate", "chat", "classify")
"""Types of tasks whose answers can be right or wrong."""
EXPECTED = "expected"
"""The field with the references, unless the head names another."""
LARGEST = 2**28
"""Most bytes of a file of records: a suite is held in memory."""
INPUTS = ("input", "prompt", "messages")
"""Fields of a record that are its input; it has one of them, or the fields that the task's prompt takes."""
MAX_TOKENS = 256
"""Most tokens of an answer, unless the suite says it: a model that never ends must not hold the run up."""
_KEYS = ("records", "metrics", EXPECTED, "task")


@attrs.frozen(kw_only=True)
class Case:
    """One record of a suite."""

    number: int
    """Counted from 1."""
    line: int
    """Where it begins in its file."""
    id: str = ""
    group: str = ""
    """What it is counted with besides, if anything."""
    input: Any
    expected: tuple[str, ...]
    """References: an answer is as good as the best of them says."""


@attrs.frozen(kw_only=True)
class Suite:
    """Records, the task that makes requests of them, and what is measured."""

    name: str
    task: TaskFile
    metrics: tuple[str, ...]
    cases: tuple[Case, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the records: of what is asked and what would be right, and not of how it is asked."""
        facts = [attrs.asdict(case, filter=lambda field, _: field.name != "line") for case in self.cases]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def work(self) -> str:
        """What tells a run of this suite from one of another, or with another task."""
        return f"{self.digest} {attrs.evolve(self.task, source='')!r}"


@attrs.frozen(kw_only=True)
class Asked:
    """What is said of a suite besides its files; None and nothing leave what they say."""

    type: str | None = None
    prompt: str | None = None
    metrics: tuple[str, ...] = ()
    params: Mapping[str, Any] = attrs.field(factory=dict)
    limit: int | None = None
    """Only so many records, from the first."""


def read_suite(path: Path, asked: Asked | None = None) -> Suite:
    """Return the suite of the file at *path*: records, or a head that names them.

    Answers are made deterministic: ``temperature`` is 0 and ``seed`` is 0 unless the task says otherwise.  Raises
    `InvalidArgument` that names the file, the line and the field of what is wrong; `ConfigError`, which is one, where
    it is the task; `OSError` for a file that cannot be read.
    """
    asked = asked or Asked()
    head = _head(path) if path.suffix.lower() == HEAD else {}
    records = path.parent / head["records"] if "records" in head else _beside(path)
    table = _task_table(head, asked)
    found = [*_records(records, str(head.get(EXPECTED, EXPECTED)), asked.limit)]
    if not found:
        raise _wrong(records, 1, "records", "none", "at least one record")
    table.setdefault("type", "chat" if "messages" in found[0][1] else "generate")
    if table["type"] not in TYPES:
        raise _wrong(path, 1, "task.type", table["type"], f"one of {', '.join(TYPES)}")
    task = TaskFile.parse(table, str(path)).with_params(asked.params, "the options")
    cases = tuple(_case(records, line, record, task, number) for number, (line, record) in enumerate(found, 1))
    metrics = check_metrics(asked.metrics or tuple(head.get("metrics", ())) or ("exact",), task.type)
    return Suite(name=path.stem, task=task, metrics=metrics, cases=cases)


def _head(path: Path) -> dict[str, Any]:
    """Return what the head at *path* says; what stands under ``task`` is checked later."""
    try:
        head = tomllib.loads(path.read_bytes().decode())
    except ValueError as error:
        raise InvalidArgument(
            f"{path} is no TOML: {error}", field="suite", value=str(path), expected="TOML", line=1
        ) from error
    for key in head:
        if key not in _KEYS:
            expected = f"one of {', '.join(_KEYS)}{nearest(key, _KEYS)}"
            raise _wrong(path, 1, key, head[key], expected, "is no key of a suite")
    kinds = {"records": str, EXPECTED: str, "metrics": list, "task": dict}
    for key, kind in kinds.items():
        if key in head and not isinstance(head[key], kind):
            raise _wrong(path, 1, key, head[key], "a list of names" if kind is list else "a table or a name")
    for key in ("model", "require", "fallbacks", "output"):
        if key in head.get("task", {}):
            raise _wrong(path, 1, f"task.{key}", head["task"][key], "left out: a suite is for any model")
    return head


def _task_table(head: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    table = dict(head.get("task", {}))
    table |= {name: value for name in ("type", "prompt") if (value := getattr(asked, name)) is not None}
    if table.get("type") != "classify" and isinstance(table.get("params", {}), dict):
        table["params"] = {"temperature": 0, "seed": 0, "max_tokens": MAX_TOKENS, **table.get("params", {})}
    return table


def _beside(path: Path) -> Path:
    """Return the file of records that *path* is, or that is called like the head at *path*."""
    if path.suffix.lower() in RECORDS:
        return path
    if path.suffix.lower() != HEAD:
        raise InvalidArgument.of("suite", str(path), f"a file that ends in {', '.join((*RECORDS, HEAD))}")
    for suffix in RECORDS:
        if path.with_suffix(suffix).exists():
            return path.with_suffix(suffix)
    raise _wrong(path, 1, "records", None, "the name of a file of records")


def _records(path: Path, expected: str, limit: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line and the fields of each record of *path*, the references under `EXPECTED`."""
    if path.suffix.lower() not in RECORDS:
        raise InvalidArgument.of("records", str(path), f"a file that ends in {', '.join(RECORDS)}")
    if path.stat().st_size > LARGEST:
        raise _wrong(path, 1, "records", path.stat().st_size, f"at most {LARGEST:,} bytes")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise _wrong(path, line, "record", "bytes", "UTF-8") from error
    rows = _rows(path, text) if path.suffix.lower() == ".csv" else _lines(path, text)
    for count, (line, record) in enumerate(rows):
        if count == limit:
            return
        if expected not in record:
            raise _wrong(path, line, expected, None, f"in every record{nearest(expected, record)}", "is missing")
        yield line, {**{key: value for key, value in record.items() if key != expected}, EXPECTED: record[expected]}


def _lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _wrong(path, number, "record", line[:80], f"a JSON object: {error}") from error
        if not isinstance(record, dict):
            raise _wrong(path, number, "record", record, "a JSON object")
        yield number, record


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of CSV; an empty cell is no field, but for the references."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    columns: list[str] = []
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if not columns:
                columns = _columns(path, line, cells)
                continue
            if len(cells) != len(columns):
                raise _wrong(path, line, "record", len(cells), f"{len(columns)} cells, as many as there are columns")
            pairs = zip(columns, cells, strict=True)
            yield line, {key: cell for key, cell in pairs if cell or key not in ("id", "group", *INPUTS)}
    except csv.Error as error:
        raise _wrong(path, before + 1, "record", str(error), "CSV as of RFC 4180") from error


def _columns(path: Path, line: int, cells: list[str]) -> list[str]:
    if not all(cells) or len(set(cells)) < len(cells):
        raise _wrong(path, line, "columns", ",".join(cells), "a name of its own for each column")
    return cells


def _case(path: Path, line: int, record: dict[str, Any], task: TaskFile, number: int) -> Case:
    expected = record.pop(EXPECTED)
    expected = [expected] if isinstance(expected, str) else expected
    if not isinstance(expected, list) or not expected or not all(isinstance(one, str) for one in expected):
        raise _wrong(path, line, EXPECTED, expected, "a text, or a list of at least one")
    labels = {name: record.get(name, "") for name in ("id", "group")}
    for name, value in labels.items():
        if not isinstance(value, str):
            raise _wrong(path, line, name, value, "a text")
    input = _input(path, line, record, task)
    try:
        task.request(input)
    except InvalidArgument as error:
        message = f"{path}, line {line}: {error.message}"
        raise InvalidArgument(message, **{**error.fields, "line": line, "source": str(path)}) from error
    return Case(number=number, line=line, input=input, expected=tuple(expected), **labels)


def _input(path: Path, line: int, record: Mapping[str, Any], task: TaskFile) -> Any:  # noqa: ANN401 - what the task takes
    """Return what of *record* the task is to be run on."""
    given = [name for name in INPUTS if name in record]
    if task.takes_fields and "input" not in record:
        return {name: value for name, value in record.items() if name not in ("id", "group")}
    if len(given) != 1:
        has = f"it has {' and '.join(given)}" if given else "it has none"
        raise _wrong(path, line, "input", None, f"one of {', '.join(INPUTS)}{nearest('input', record)}", f"{has},")
    (name,) = given
    if name == "messages" and task.type != "chat":
        raise _wrong(path, line, name, record[name], "left out: it is for type = chat")
    if name == "prompt" and not isinstance(record[name], str):
        raise _wrong(path, line, name, record[name], "a text")
    return record[name]


def _wrong(path: Path, line: int, field: str, value: object, expected: str, how: str = "") -> InvalidArgument:
    message = f"{path}, line {line}: {field} {how}{', ' * bool(how)}expected {expected}"
    if not how:
        message = f"{path}, line {line}: {InvalidArgument.of(field, value, expected).message}"
    return InvalidArgument(message, field=field, value=value, expected=expected, line=line, source=str(path))
