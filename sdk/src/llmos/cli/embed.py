"""``llmos embed``."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import IO

import click

from llmos.cli._common import Common, json_option, pass_common, print_columns
from llmos.cli._sampling import model_option
from llmos.cli._texts import of_each, print_records, read_texts, shortened, text_options

_MOST_COMPARED = 10


@click.command("embed")
@text_options
@model_option
@json_option
@pass_common
def command(
    common: Common, texts: tuple[str, ...], file: IO[bytes] | None, truncate: bool, timeout: float | None,
    model: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn each TEXT into a vector; without any, each line of --file or standard input.

    Shows how long the vectors are and how alike the texts (cosine of the angle: 1 is the same direction).  The vectors
    themselves are printed with --json.
    """
    given = read_texts(texts, file)
    name, vectors = of_each(
        common, model, given, "embed", lambda loaded, part: loaded.embed(part, truncate=truncate, timeout=timeout)
    )
    if as_json:
        pairs = zip(given, vectors, strict=True)
        print_records({"text": text, "model": name, "vector": vector} for text, vector in pairs)
        return
    click.echo(f"{len(vectors)} vectors of {len(vectors[0])} numbers from {name}")
    print_columns(_table(given, vectors))
    if len(vectors) > _MOST_COMPARED:
        click.echo(f"The first {_MOST_COMPARED} are compared; --json prints all vectors.")


def _table(texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> list[tuple[str, ...]]:
    """Return a row per text: its number, its vector's length, how alike it and each of the first are, and itself."""
    norms = [math.hypot(*vector) for vector in vectors]
    compared = range(min(len(vectors), _MOST_COMPARED))
    rows = [("", "NORM", *(f"~{other + 1}" for other in compared), "TEXT")]
    for at, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        alike = [_cosine(vector, vectors[other], norms[at] * norms[other]) for other in compared]
        rows.append((str(at + 1), f"{norms[at]:.3f}", *alike, shortened(text)))
    return rows


def _cosine(one: Sequence[float], other: Sequence[float], lengths: float) -> str:
    return f"{sum(map(operator.mul, one, other)) / lengths:.2f}" if lengths else "-"
