"""``llmos plugins``: what is installed and what became of it.  Imports no plugin, so it works beside any broken one."""

from __future__ import annotations

import attrs
import click

from llmos.cli._common import Common, json_option, pass_common, print_json

COLOURS = {
    "active": "green", "ready": "green", "discovered": "green", "failed": "red", "incompatible": "red",
}  # fmt: skip
"""Colour by state; `blocked` is what the settings ask for."""


@click.group("plugins")
def command() -> None:
    """List the installed plugins."""


@command.command("list")
@click.option("--kind", help="Only plugins of this kind: backend, scheduler, ...")
@json_option
@pass_common
def list_plugins(common: Common, kind: str | None, as_json: bool) -> None:
    """Show every installed plugin, its state, and why it cannot be used.  Imports none."""
    records = [record for record in common.installed().records() if kind in (None, record.kind)]
    if as_json:
        print_json([attrs.asdict(record) | {"key": record.key} for record in records])
        return
    if not records:
        click.echo("No plugin is installed; `pip install llmos` brings the standard set.")
        return
    width = max(len(record.key) for record in records)
    origins = [f"{record.distribution} {record.version}".strip() or "-" for record in records]
    origin_width = max(map(len, origins))
    for record, origin in zip(records, origins, strict=True):
        state = click.style(record.state, fg=COLOURS.get(record.state, "yellow"))
        click.echo(f"{record.key:{width}}  {origin:{origin_width}}  {state}")
        if record.why:
            click.echo(f"{'':{width}}  {record.why}")
