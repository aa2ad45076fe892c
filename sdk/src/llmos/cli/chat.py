"""``llmos chat``: a conversation on a terminal, or one turn per line on a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from llmos.cli._common import Common, pass_common, read_text
from llmos.cli._sampling import model_option, request_options, say_what_it_is, taken
from llmos.cli._talk import Chat

HISTORY = "chat_history"
"""The file in the user's folder that keeps what was typed."""
HISTORY_LINES = 1000
FENCE = '"""'
"""Begins and ends a text of several lines."""


@click.command("chat")
@model_option
@click.option("-s", "--system", help="What the model is told before the conversation.")
@click.option("--resume", metavar="FILE", help="Go on with a conversation that /save has kept.")
@click.option("--history/--no-history", default=True, help="Keep what is typed, for the next time.")
@request_options
@pass_common
def command(
    common: Common, /, model: str | None, system: str | None, resume: str | None, history: bool, **given: object
) -> None:
    """Talk with a model.  On a pipe, each line is a turn.  /help says what else can be done."""
    with common.client() as client, Chat(client, model or common.settings().model, system, taken(given)) as chat:
        say_what_it_is(model, chat.model)
        if resume is not None:
            chat.load(resume)
        if on_terminal():
            with _line_editing(common.settings().home / HISTORY if history else None):
                _interact(common, chat)
        else:
            _listen(chat)


def on_terminal() -> bool:
    """Return whether somebody types."""
    return sys.stdin.isatty()


def _listen(chat: Chat) -> None:
    for number, raw in enumerate(sys.stdin.buffer, 1):
        if not chat.hear(read_text(raw, f"line {number} of standard input").strip()):
            break


def _interact(common: Common, chat: Chat) -> None:
    from llmos.cli._failures import report  # noqa: PLC0415 - only here is an error not the end
    from llmos_kernel.errors import KernelError  # noqa: PLC0415 - the same

    click.echo(f"Talking with {chat.model.name}.  /help for help, /quit to leave.", err=True)
    while True:
        try:
            text = _typed()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("  (/quit or Ctrl-D to leave)")
            continue
        try:
            if not chat.hear(text):
                return
        except (KernelError, OSError) as error:
            report(error, common)


def _typed() -> str:
    """Return what was typed: a line, or all lines between two fences."""
    line = input("> ").strip()
    if not line.startswith(FENCE):
        return line
    lines = [line.removeprefix(FENCE)]
    while not lines[-1].rstrip().endswith(FENCE):
        lines.append(input(". "))
    lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
    return "\n".join(lines).strip()


@contextlib.contextmanager
def _line_editing(history: Path | None) -> Iterator[None]:
    """Let lines be edited and recalled, where the platform can; keep them in *history*."""
    try:
        import readline  # noqa: PLC0415 - not everywhere
    except ImportError:
        yield
        return
    if history is None:
        yield
        return
    with contextlib.suppress(OSError):  # there is none yet
        readline.read_history_file(history)
    try:
        yield
    finally:
        readline.set_history_length(HISTORY_LINES)
        with contextlib.suppress(OSError):  # a conversation does not fail because its lines cannot be kept
            history.parent.mkdir(parents=True, exist_ok=True)
            history.touch(mode=0o600)
            readline.write_history_file(history)
