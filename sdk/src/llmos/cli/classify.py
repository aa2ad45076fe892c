"""``llmos classify``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

import click

from llmos.cli._common import Common, json_option, pass_common, print_columns
from llmos.cli._sampling import model_option
from llmos.cli._texts import of_each, print_records, read_texts, shortened, text_options


@click.command("classify")
@text_options
@click.option("--top", type=click.IntRange(1), default=3, help="Show so many of the likeliest labels: 3 unless given.")
@model_option
@json_option
@pass_common
def command(
    common: Common, texts: tuple[str, ...], file: IO[bytes] | None, truncate: bool, timeout: float | None, top: int,
    model: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say how likely each label is for each TEXT; without any, for each line of --file or standard input."""
    given = read_texts(texts, file)
    name, scores = of_each(
        common, model, given, "classify", lambda loaded, part: loaded.classify(part, truncate=truncate, timeout=timeout)
    )
    pairs = zip(given, scores, strict=True)
    if as_json:
        print_records({"text": text, "model": name, "scores": found} for text, found in pairs)
    else:
        print_columns([("LABELS", "TEXT"), *((_labels(found, top), shortened(text)) for text, found in pairs)])


def _labels(scores: Mapping[str, float], top: int) -> str:
    """Return the *top* likeliest labels, which come first."""
    return ", ".join(f"{label} {score:.3f}" for label, score in list(scores.items())[:top])
