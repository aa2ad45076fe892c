"""``llmos chat``: a conversation on a terminal, or one turn per line on a pipe."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from llmos.cli._common import Common, pass_common, read_line, read_text
from llmos.cli._sampling import model_option, request_options, say_what_it_is, taken

if TYPE_CHECKING:
    from llmos._requests import Options
    from llmos.cli._talk import Chat
    from llmos_kernel.api import Auto

HISTORY = "chat_history"
"""The file in the user's folder that keeps what was typed."""
HISTORY_LINES = 1000
FENCE = '"""'
"""Begins and ends a text of several lines."""


@click.command("chat")
@model_option
@click.option("-s", "--system", help="What the model is told before the conversation.")
@click.option("-T", "--task", "file", metavar="FILE", help="Ask as this task file says: model, system, prompt, params.")
@click.option("--resume", metavar="FILE", help="Go on with a conversation that /save has kept.")
@click.option("--history/--no-history", default=True, help="Keep what is typed, for the next time.")
@request_options
@pass_common
def command(
    common: Common, /, model: str | None, system: str | None, file: str | None, resume: str | None, history: bool,
    **given: object,
) -> None:  # fmt: skip
    """Talk with a model.  On a pipe, each line is a turn.  /help says what else can be done."""
    from llmos.cli._talk import Chat, asked_by, task_to_talk_by  # noqa: PLC0415 - who completes its options does not talk

    options, task = taken(given), None if file is None else task_to_talk_by(file)
    chosen: str | Auto = model or common.settings().model
    asked: Callable[[str], str] = str
    if task is not None:
        asked, system = partial(asked_by, task), system or task.system or None
        options = cast("Options", {**task.options(), **options})
        if model is None and (task.model or task.require):
            chosen = task.chosen
    with common.client() as client, Chat(client, chosen, system, options, asked) as chat:
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
    for number in itertools.count(1):
        where = f"line {number} of standard input"
        raw = read_line(sys.stdin.buffer, where)
        if not raw or not chat.hear(read_text(raw, where).strip()):
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
        except KeyboardInterrupt:
            click.echo(click.style(" [stopped]", dim=True))
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
