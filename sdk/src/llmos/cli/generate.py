"""``llmos generate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import attrs
import click

from llmos.cli._common import Common, flowing, json_option, pass_common, print_json, print_text, read_all, read_text
from llmos.cli._sampling import model_option, request_options, say_what_it_is, taken

if TYPE_CHECKING:
    from llmos._client import Model
    from llmos._requests import Options
    from llmos._text import Text


@click.command("generate")
@click.argument("prompt", required=False)
@model_option
@request_options
@click.option("-a", "--attach", multiple=True, metavar="FILE", help="Put a text file before the prompt.")
@click.option("-n", "count", type=int, help="Make so many answers.")
@json_option
@pass_common
def command(
    common: Common, /, prompt: str | None, model: str | None, count: int | None, attach: tuple[str, ...],
    as_json: bool, **given: object,
) -> None:  # fmt: skip
    """Continue PROMPT; without one, or with "-", continue what is on standard input."""
    from llmos.cli._talk import attachment  # noqa: PLC0415 - who completes its options needs no conversation

    options = taken(given)
    text = "\n\n".join([*map(attachment, attach), _prompt(prompt)])
    with common.client() as client, client.load_model(model or common.settings().model) as loaded:
        if as_json:
            answers = loaded.generate_text(text, n=count or 1, **options)
            print_json([_facts(answer) for answer in answers] if count is not None else _facts(answers[0]))
            return
        if count is None:
            stream_text(loaded, text, options)
        else:
            print_text("\n---\n".join(loaded.generate_text(text, n=count, **options)))
        say_what_it_is(model, loaded)


def stream_text(model: Model, prompt: str, options: Options) -> None:
    """Print the answer as it comes, and a line's end."""
    with model.stream(prompt, **options) as stream:
        with flowing() as write:
            for piece in stream:
                write(piece)
        click.echo()


def _prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise click.UsageError("a prompt is missing: llmos generate 'Once upon a time', or pipe one in")
    return read_text(read_all(sys.stdin.buffer, "standard input"), "standard input")


def _facts(answer: Text) -> dict[str, object]:
    return {
        "text": str(answer), "model": answer.model, "finish": answer.finish, "usage": attrs.asdict(answer.usage),
        "tokens": list(answer.tokens), "logprobs": list(answer.logprobs),
    }  # fmt: skip
