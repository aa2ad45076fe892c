"""A conversation that is printed, and what its user may do besides talking."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast, Self

import click

from llmos._client import Client, Model
from llmos._conversation import Conversation
from llmos._files import write_whole
from llmos._requests import Messages, Options, opening
from llmos._task_file import TaskFile
from llmos.cli._common import flowing, read_text, say
from llmos_kernel.api import Auto
from llmos_kernel.errors import ConfigError, InvalidArgument
from llmos_kernel.loader import nearest

ATTACHMENT_LIMIT = 2**24
"""Most bytes of a file that goes into a prompt."""
HELP = """\
/help             show this
/clear            forget the conversation
/model [NAME]     go on with another model, or say which one answers
/system [TEXT]    begin anew, and tell the model TEXT first
/task FILE        begin anew, and ask as this task file says
/file PATH        put a text file before what you say next
/save FILE        keep the conversation
/load FILE        go on with a conversation that was kept
/quit             leave (so does Ctrl-D)
\"\"\"               begins a text of several lines, and ends it
Ctrl-C            stop the answer"""


class Chat:
    """A conversation with one model after the other.  A context manager; closing it gives everything back."""

    def __init__(
        self, client: Client, model: str | Auto, system: str | None, options: Options,
        asked: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        """*asked* makes of what the user says what the model is asked."""
        self._client, self._given, self._options, self._asked = client, options, options, asked
        self._files: list[str] = []
        self.model = client.load_model(model)
        try:
            self.conversation = _conversation(self.model, opening(system, ()))
        except BaseException:
            self.model.close()
            raise
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help, "/clear": self._clear, "/model": self._go_on_with, "/system": self._begin_with,
            "/task": self._talk_by, "/file": self._attach, "/save": self.save, "/load": self.load,
        }  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.conversation.close()
        self.model.close()

    def hear(self, text: str) -> bool:
        """Do what *text* says, or have it answered; False when it says to leave.  Raises what went wrong."""
        name, _, rest = text.partition(" ")
        if name == "/quit":
            return False
        if name in self._commands:
            self._commands[name](rest.strip())
        elif text.startswith("/"):
            hint = nearest(name, [*self._commands, "/quit"])
            say(f"There is no command {name}{hint or '; /help lists them'}")
        elif text:
            self.answer(text)
        return True

    def answer(self, text: str) -> None:
        """Print the answer to *text* as it comes.  What was said of it counts, also where Ctrl-C ends it."""
        asked = self._asked("\n\n".join([*self._files, text]))
        try:
            with self.conversation.stream(asked, **self._options) as stream, flowing() as write:
                for piece in stream:
                    write(piece)
            click.echo()
        except KeyboardInterrupt:
            self._files.clear()
            raise
        self._files.clear()

    def save(self, file: str) -> None:
        """Write what was said, and to which model, as JSON."""
        _demand(file, "/save")
        kept = {"model": self.model.name, "messages": self.conversation.messages}
        write_whole(file, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
        click.echo(f"Kept {_count(self.conversation)} in {file}.", err=True)

    def load(self, file: str) -> None:
        """Go on with what `save` wrote, with the model that answers now."""
        _demand(file, "/load")
        self._restart(self.model, opening(None, _kept(file)))
        click.echo(f"Going on with {_count(self.conversation)} of {file}.", err=True)

    def _help(self, rest: str) -> None:
        click.echo(HELP)

    def _clear(self, rest: str) -> None:
        self.conversation.clear()
        self._files.clear()

    def _go_on_with(self, name: str) -> None:
        if name:
            self._exchange(self._client.load_model(name), self.conversation.messages)
        click.echo(f"{self.model.name} answers.", err=True)

    def _begin_with(self, text: str) -> None:
        self._restart(self.model, opening(text or None, ()))

    def _talk_by(self, file: str) -> None:
        """Do as ``--task`` does: what was given on the command line goes before what the file says."""
        _demand(file, "/task")
        task = task_to_talk_by(file)
        model = self._client.load_model(task.chosen) if task.model or task.require else self.model
        self._exchange(model, opening(task.system or None, ()))
        self._asked, self._options = partial(asked_by, task), cast("Options", {**task.options(), **self._given})
        click.echo(f"{self.model.name} answers as {file} says.", err=True)

    def _attach(self, path: str) -> None:
        _demand(path, "/file")
        self._files.append(attachment(path))

    def _exchange(self, model: Model, said: Messages) -> None:
        """Go on with *model*, and give back the one before it; if that fails, go on as before."""
        before = self.model
        try:
            self._restart(model, said)
        except BaseException:
            if model is not before:
                model.close()
            raise
        if model is not before:
            before.close()

    def _restart(self, model: Model, said: Messages) -> None:
        conversation = _conversation(model, said)
        self.conversation.close()
        self.model, self.conversation = model, conversation


def task_to_talk_by(file: str) -> TaskFile:
    """Return the task in *file*; raise `ConfigError` for one that is no chat, or of which one text is no input."""
    task = TaskFile.read(file)
    if task.type != "chat":
        raise _not_to_talk_by(file, "type", task.type, "chat")
    if len(task.fields) > 1:
        raise _not_to_talk_by(file, "prompt", task.prompt, "a text with one placeholder")
    return task


def _not_to_talk_by(file: str, field: str, value: str, expected: str) -> ConfigError:
    message = f"{file}: {field} must be {expected}, to talk by it, not {value!r}"
    return ConfigError(message, field=field, value=value, expected=expected, source=file, others=[])


def asked_by(task: TaskFile, text: str) -> str:
    """Return what a model is asked by *task* when somebody says *text*."""
    return str(task.asked(text))


def attachment(path: str) -> str:
    """Return the text of the file *path* under its name; raise `InvalidArgument` for what is no text, or too long."""
    file = Path(path).expanduser()
    if file.stat().st_size > ATTACHMENT_LIMIT:
        expected = f"at most {ATTACHMENT_LIMIT} bytes"
        raise InvalidArgument(f"{path} has more than {expected[8:]}", field="file", value=path, expected=expected)
    return f"{file.name}:\n{read_text(file.read_bytes(), path).rstrip()}"


def _conversation(model: Model, said: Messages) -> Conversation:
    """Open a conversation, with a context where the model keeps one."""
    return model.conversation(messages=said, tokens=None if model.info().keeps_contexts else 0)


def _kept(file: str) -> Messages:
    expected = "what /save wrote"
    try:
        kept: Any = json.loads(read_text(Path(file).read_bytes(), file))
        found = kept["messages"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"{file} is not {expected}", field="file", value=file, expected=expected) from error
    return cast("Messages", found)


def _demand(file: str, command: str) -> None:
    if not file:
        raise InvalidArgument(f"{command} needs a file", field="file", value="", expected=f"{command} FILE")


def _count(conversation: Conversation) -> str:
    count = len(conversation.messages)
    return f"{count} message{'s' * (count != 1)}"
