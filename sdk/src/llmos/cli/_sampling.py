"""The options of requests, shared by the commands that make them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from llmos.cli._common import note
from llmos.cli._completing import complete_models, complete_plugins

if TYPE_CHECKING:
    from llmos._client import Model
    from llmos._requests import Options

_F = TypeVar("_F", bound=Callable[..., Any])


def _schema_file(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:  # noqa: ANN401 - any JSON
    """Read the JSON file called *value*."""
    if value is None:
        return None
    try:
        return json.loads(_file(value, ctx, param))
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{value} is no JSON: {error}", ctx=ctx, param=param) from error


def _text_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Read the text file called *value*."""
    return None if value is None else _file(value, ctx, param)


def _file(name: str, ctx: click.Context, param: click.Parameter) -> str:
    try:
        return Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise click.BadParameter(f"{name} cannot be read: {why}", ctx=ctx, param=param) from error


_PROCESSOR = {"multiple": True, "metavar": "NAME", "shell_complete": complete_plugins("processor")}
_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--max-tokens",), {"type": int, "help": "Most tokens of the answer."}),
    (("--min-tokens",), {"type": int, "help": "Fewest tokens of the answer."}),
    (("-t", "--temperature"), {"type": float, "help": "0 always takes the likeliest token."}),
    (("--top-k",), {"type": int, "help": "Choose among so many likeliest tokens."}),
    (("--top-p",), {"type": float, "help": "Choose among the likeliest tokens with this probability together."}),
    (("--min-p",), {"type": float, "help": "Choose among tokens at least this share as likely as the likeliest."}),
    (("--repetition-penalty",), {"type": float, "help": "Above 1: repeat less."}),
    (("--presence-penalty",), {"type": float, "help": "Above 0: prefer what was not said."}),
    (("--frequency-penalty",), {"type": float, "help": "Above 0: prefer what was said rarely."}),
    (("--seed",), {"type": int, "help": "The same seed gives the same answer."}),
    (("--stop",), {"multiple": True, "help": "End before this text.  May be repeated."}),
    (("--logprobs",), {"type": int, "help": "Report so many alternatives per token, with --json."}),
    (("--schema",), {"metavar": "FILE", "callback": _schema_file, "help": "Answer with JSON of this JSON schema."}),
    (("--regex",), {"help": "Answer with text that matches this regular expression."}),
    (("--grammar",), {"metavar": "FILE", "callback": _text_file, "help": "Answer as this Lark grammar says."}),
    (("--pre",), _PROCESSOR | {"help": "Pass the input through this processor."}),
    (("--post",), _PROCESSOR | {"help": "Pass the answer through this processor."}),
    (("--priority",), {"type": int, "help": "Larger is sooner, from -1000 to 1000."}),
    (("--deadline",), {"type": float, "metavar": "SECONDS", "help": "Give the answer up after so long."}),
    (("--timeout",), {"type": float, "metavar": "SECONDS", "help": "Wait no longer for a piece of it."}),
)


def model_option(command: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped this way
    """Add ``--model``."""
    text = "A model's name, an alias, a model folder, or auto for any that will do."
    return click.option("-m", "--model", metavar="NAME", help=text, shell_complete=complete_models)(command)


def request_options(command: Any) -> Any:  # noqa: ANN401
    """Add every option of a request, and ``-o`` for those that only a backend knows."""
    command = params_option("Any other parameter of the backend.")(command)
    for names, how in reversed(_OPTIONS):
        command = click.option(*names, **how)(command)
    return command


def params_option(text: str) -> Callable[[_F], _F]:
    """Return the decorator that adds ``-o``; *text* is its help."""
    return click.option("-o", "--option", "params", multiple=True, metavar="KEY=VALUE", callback=key_values, help=text)


def taken(given: Mapping[str, object]) -> Options:
    """Return the options that were given, as the clients take them."""
    return cast("Options", {name: value for name, value in given.items() if value is not None and value != ()})


def say_what_it_is(asked: str | None, model: Model) -> None:
    """Tell a person that a demonstration model is one, unless its alias has been explained already."""
    if asked in (None, model.name) and model.info().is_demonstration:
        note(f"{model.name} is a small demonstration model; llmos models add --help tells how to add a real one")


def key_values(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", ctx=ctx, param=param)
        try:
            found[key.replace("-", "_")] = json.loads(text)
        except ValueError:
            found[key.replace("-", "_")] = text
    return found
