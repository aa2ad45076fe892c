"""``llmos chat``: a conversation on a terminal, or one turn per line on a pipe."""

from __future__ import annotations

import contextlib
import sys

import click

from llmos._conversation import Conversation
from llmos._requests import Options
from llmos.cli._common import Common, pass_common, read_text
from llmos.cli._sampling import model_option, request_options, say_what_it_is, taken

HELP = """\
/help    show this
/clear   forget the conversation
/quit    leave (so does Ctrl-D)
Ctrl-C   stop the answer"""


class Chat:
    """A conversation that is printed."""

    def __init__(self, conversation: Conversation, options: Options) -> None:
        self.conversation, self._options = conversation, options

    def answer(self, text: str) -> None:
        """Print the answer to *text* as it comes.  Ctrl-C ends the answer, and what was said of it counts."""
        try:
            with self.conversation.stream(text, **self._options) as stream:
                for piece in stream:
                    click.echo(piece, nl=False)
            click.echo()
        except KeyboardInterrupt:
            click.echo(click.style(" [stopped]", dim=True))


@click.command("chat")
@model_option
@click.option("-s", "--system", help="What the model is told before the conversation.")
@request_options
@pass_common
def command(common: Common, /, model: str | None, system: str | None, **given: object) -> None:
    """Talk with a model.  On a pipe, each line is a turn."""
    with common.client() as client, client.load_model(model or common.settings().model) as loaded:
        say_what_it_is(model, loaded)
        tokens = None if loaded.info().keeps_contexts else 0
        with loaded.conversation(system=system, tokens=tokens) as conversation:
            _converse(common, loaded.name, Chat(conversation, taken(given)))


def _converse(common: Common, name: str, chat: Chat) -> None:
    if on_terminal():
        _interact(common, name, chat)
        return
    for number, raw in enumerate(sys.stdin.buffer, 1):
        line = read_text(raw, f"line {number} of standard input").strip()
        if line == "/quit":
            break
        _turn(line, chat)


def on_terminal() -> bool:
    """Return whether somebody types."""
    return sys.stdin.isatty()


def _interact(common: Common, name: str, chat: Chat) -> None:
    from llmos.cli._failures import report  # noqa: PLC0415 - only here is an error not the end
    from llmos_kernel.errors import KernelError  # noqa: PLC0415 - the same

    with contextlib.suppress(ImportError):  # editing and history of the line, where the platform has it
        import readline  # noqa: F401, PLC0415

    click.echo(f"Talking with {name}.  /help for help, /quit to leave.", err=True)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("  (/quit or Ctrl-D to leave)")
            continue
        if line == "/quit":
            return
        try:
            _turn(line, chat)
        except KernelError as error:
            report(error, common)


def _turn(line: str, chat: Chat) -> None:
    if line == "/help":
        click.echo(HELP)
    elif line == "/clear":
        chat.conversation.clear()
    elif line.startswith("/"):
        click.echo(f"There is no command {line.split(maxsplit=1)[0]}.\n{HELP}")
    elif line:
        chat.answer(line)
