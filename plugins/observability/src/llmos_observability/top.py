"""``llmos top``: what a server does, again and again, with keys to cancel a task and to change its priority."""

from __future__ import annotations

import signal

import click

from llmos_kernel.hookspecs import hookimpl
from llmos_observability.ps import server_options

api = 1
"""The version of the command contract that this module is written for."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return top


@click.command("top")
@server_options
@click.option(
    "--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds between looks."
)
def top(server: str, key: str | None, interval: float) -> None:
    """Watch the tasks and models of a server.

    c cancels the task under the cursor, + and - change its priority, p stops the clock, q leaves.
    """
    from llmos import Client  # noqa: PLC0415 - only who asks needs it
    from llmos_observability.screen import TERMINATED, Top  # noqa: PLC0415 - textual takes half a second

    with Client(server, token=key) as client:
        screen = Top(client, interval)
        screen.run()
    if screen.return_code == TERMINATED:
        signal.raise_signal(signal.SIGTERM)  # and so ends as any program does
