"""``llmos ps``: what a server does now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import attrs
import click

from llmos.cli import json_option
from llmos_kernel.hookspecs import hookimpl
from llmos_observability.view import MODELS, TASKS, View, table

api = 1
"""The version of the command contract that this module is written for."""
ADDRESS = "http://127.0.0.1:11535"
"""Where `llmos serve` listens by itself."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return ps


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which server it is about."""
    command = click.option(
        "--key", envvar="LLMOS_KEY", help="A key of the server's; better in the variable LLMOS_KEY than on the line."
    )(command)
    return click.option(
        "--server", default=ADDRESS, show_default=True, metavar="URL", help="Where it listens; unix:/path for a socket."
    )(command)


@click.command("ps")
@server_options
@json_option
def ps(server: str, key: str | None, as_json: bool) -> None:
    """List the tasks and models of a server, its memory, and how fast it is.

    You see the tasks of the tenant that your key is for; with the scope operator, everybody's.
    """
    from llmos import Client  # noqa: PLC0415 - only who asks needs it

    with Client(server, token=key) as client:
        view = View.of(client)
    if as_json:
        click.echo(json.dumps(attrs.asdict(view), indent=2, default=str))
    else:
        click.echo(text(view, shutil.get_terminal_size().columns))


def text(view: View, width: int) -> str:
    """Return the page for a terminal of *width* columns."""
    tasks = table(TASKS, view.task_rows(), width) if view.tasks else ["No task runs or waits."]
    return "\n".join([*view.summary(), "", *table(MODELS, view.model_rows(), width), "", *tasks])
