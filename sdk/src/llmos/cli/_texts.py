"""Many texts at once: where they come from, and what is made of all of them, for ``embed`` and ``classify``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from llmos.cli._common import Common, read_all, read_text
from llmos_kernel.errors import InvalidArgument

if TYPE_CHECKING:
    from llmos._client import Client, Model

_R = TypeVar("_R")
BATCH = 256
"""Texts that wait together: the backend groups them by length."""
_SHOWN = 60


def text_options(command: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped this way
    """Add the texts and the options that say where they come from and how they are read."""
    options = (
        click.argument("texts", nargs=-1, metavar="[TEXT]..."),
        click.option("-f", "--file", type=click.File("rb"), help="Read texts from FILE, one per line."),
        click.option("--truncate", is_flag=True, help="Use as much of a text as fits, instead of refusing it."),
        click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer for one of them."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_texts(texts: Sequence[str], file: IO[bytes] | None) -> list[str]:
    """Return the texts of the command line, of *file*, or of standard input, one per line."""
    if texts and file is not None:
        raise click.UsageError("texts and --file are both given: give one of the two")
    if texts and list(texts) != ["-"]:
        return list(texts)
    if file is None and sys.stdin.isatty():
        raise click.UsageError("a text is missing: give some, --file FILE, or pipe one per line")
    where = "standard input" if file is None else str(file.name)
    data = read_all(sys.stdin.buffer if file is None else file, where)
    lines = read_text(data, where).rstrip().splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            expected = "a text on each line"
            raise InvalidArgument(f"line {number} of {where} is empty", field="text", value=line, expected=expected)
    if not lines:
        raise InvalidArgument(f"{where} is empty", field="text", value="", expected="a text on each line")
    return lines


def of_each(
    common: Common, name: str | None, texts: Sequence[str], kind: str, run: Callable[[Model, list[str]], list[_R]]
) -> tuple[str, list[_R]]:
    """Return the model's name and what *run* makes of *texts*, `BATCH` at a time; *kind* is the task's."""
    with common.client() as client, client.load_model(name or common.settings().model) as model:
        found: list[_R] = []
        for begin in range(0, len(texts), BATCH):
            batch = list(texts[begin : begin + BATCH])
            try:
                found += run(model, batch)
            except InvalidArgument as error:
                if error.fields.get("field") == "kind":
                    raise _unable(client, model, kind, error) from error
                _blame(model, batch, begin, run)
                raise
        return model.name, found


def _unable(client: Client, model: Model, kind: str, error: InvalidArgument) -> InvalidArgument:
    """Return the error that names the model, what it is for, and models that can."""
    able = [info.name for info in client.models() if kind in info.kinds]
    others = f"with {kind}: {', '.join(able)}" if able else f"llmos export makes models for {kind} from encoders"
    message = f"model {model.name!r} is not for {kind} ({error.message}); {others}"
    return InvalidArgument(message, **{**error.fields, "expected": f"a model for {kind}"})


def _blame(model: Model, batch: list[str], begin: int, run: Callable[[Model, list[str]], object]) -> None:
    """Say which text of a refused *batch* is at fault."""
    for number, text in enumerate(batch, begin + 1):
        try:
            run(model, [text])
        except InvalidArgument as error:
            message = f"text {number} ({shortened(text)!r}): {error.message}"
            raise InvalidArgument(message, **error.fields) from error


def print_records(records: Iterable[Mapping[str, object]]) -> None:
    """Print a JSON list with one record a line: a vector would take hundreds of lines otherwise."""
    click.echo("[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]")


def shortened(text: str) -> str:
    """Return *text* in one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
