"""What a task of a file is run on, from the command line: a text, or fields by their names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from llmos._task_file import TaskFile
from llmos.cli._common import read_all, read_text
from llmos_kernel.errors import InvalidArgument

TEXT_FIELD = "text"
"""The field with the text of a record, where the task takes one text."""
_JSON = ".json"


def one_input(task: TaskFile, given: tuple[str, ...], source: str | None) -> object:
    """Return the input of the arguments *given*, of the file *source* or of standard input.

    Raises `click.UsageError` for arguments that are no input of the task, `InvalidArgument` for a file that is none.
    """
    if not task.takes_fields:
        return _text(given, source)
    if task.fields[1:] == () and task.fields and len(given) == 1 and not given[0].startswith(f"{task.fields[0]}="):
        return _text(given, source)
    fields = fields_of(task, given)
    missing = [name for name in task.fields if name not in fields]
    if fields and source is None:
        return fields
    read = _read(source, f"give NAME=VALUE for {' and '.join(missing) or 'each field'}")
    if len(missing) == 1 and not str(source).endswith(_JSON):
        return {**fields, missing[0]: read}
    found = _parsed(read, source)
    if not isinstance(found, dict):
        raise InvalidArgument.of("input", found, "a JSON object with the fields of the task")
    return {**found, **fields}


def fields_of(task: TaskFile, given: tuple[str, ...]) -> dict[str, object]:
    """Return the fields that the arguments *given* name; raise `click.UsageError` for those that are none."""
    return dict(_pair(task, one) for one in given)


def converted(task: TaskFile, name: str, text: str) -> object:
    """Return the *text* of a field as the kind of value that the task's schema gives it; it checks the rest."""
    if task.kind_of(name) in (None, "string"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def on_terminal() -> bool:
    """Return whether somebody would have to type the input."""
    return sys.stdin.isatty()


def _text(given: tuple[str, ...], source: str | None) -> object:
    if len(given) > 1:
        raise click.UsageError(f"one text is the input, and {len(given)} are given: put it in quotation marks")
    if given and source is not None:
        raise click.UsageError("an input and --input are both given: give one of the two")
    if given and given[0] != "-":
        return given[0]
    read = _read(source, "give a text")
    return _parsed(read, source) if str(source).endswith(_JSON) else read


def _pair(task: TaskFile, one: str) -> tuple[str, object]:
    name, equals, text = one.partition("=")
    if not (name.isidentifier() and equals):
        raise click.UsageError(f"{one!r} is not NAME=VALUE; the task takes {', '.join(task.fields) or 'fields'}")
    return name, converted(task, name, text)


def _read(source: str | None, otherwise: str) -> str:
    if source is None and on_terminal():
        raise click.UsageError(f"an input is missing: {otherwise}, --input FILE, or pipe one in")
    if source is None or source == "-":
        where, data = "standard input", read_all(sys.stdin.buffer, "standard input")
    else:
        with Path(source).open("rb") as file:
            where, data = source, read_all(file, source)
    return read_text(data, where).removesuffix("\n")


def _parsed(text: str, source: str | None) -> Any:  # noqa: ANN401 - JSON
    where = "standard input" if source in (None, "-") else source
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{where} is no JSON: {error}"
        raise InvalidArgument(
            message, field="input", value=text, expected="JSON with the fields of the task"
        ) from error
