"""``llmos replay``: whether a policy would plan again what was recorded, and where it would not."""

from __future__ import annotations

from typing import Any

import click

from llmos.cli import json_option
from llmos_kernel.hookspecs import hookimpl

api = 1
"""The version of the contract of commands that this module is written for."""
DIFFERS = 1
"""The exit code where a plan is another."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return replay


@click.command("replay")
@click.argument("file")
@click.option("--scheduler", metavar="NAME", help="Ask this policy.  [default: the one that was recorded]")
@json_option
def replay(file: str, scheduler: str | None, as_json: bool) -> int:
    """Make the calls that were recorded in FILE to a new scheduler, and compare its plans.

    The scheduler `recorded` writes such files, in simulations and on a real kernel.  The exit code is 1 where a plan
    is another than the recorded one.
    """
    import attrs  # noqa: PLC0415 - only who types the command pays

    from llmos_simulator.replaying import replay as replayed  # noqa: PLC0415 - the same

    found = replayed(file, scheduler)
    if as_json:
        import json  # noqa: PLC0415 - the same

        facts: dict[str, Any] = attrs.asdict(found)
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    elif found.difference is None:
        click.echo(f"{found.policy} plans the same: {found.plans:,} plans, {found.calls:,} calls.")
    else:
        click.echo(f"{found.policy} plans something else after {found.plans:,} plans.\n{found.difference}")
    return DIFFERS if found.difference is not None else 0
