"""``llmos keys``: keys for who comes from outside.  A key is shown once, when it is made."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from llmos.cli import Common, json_option, pass_common
from llmos_kernel.hookspecs import hookimpl

if TYPE_CHECKING:
    from llmos import Key, KeyRing

api = 1
"""The version of the command contract that this module is written for."""
DAY = 86_400.0


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return keys


@click.group("keys")
def keys() -> None:
    """Make, list and take back API keys for `llmos serve`."""


@keys.command("create")
@click.argument("name")
@click.option("--tenant", help="For whom NAME works: who shares its quotas and sees its tasks.  [default: NAME]")
@click.option("--scope", "scopes", multiple=True, help="What it is for, as rules name it; operator sees all tasks.")
@click.option("--days", type=float, help="How long it is worth anything.  [default: until it is revoked]")
@json_option
@pass_common
def create(
    common: Common, /, name: str, tenant: str | None, scopes: tuple[str, ...], days: float | None, as_json: bool
) -> None:
    """Make a key for NAME and print it; nobody can see it again."""
    lifetime = None if days is None else days * DAY
    shown, key = _ring(common).create(
        name, tenant=tenant or name, scopes=scopes, now=time.time(), lifetime=lifetime
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"key": shown, **_facts(key)}))
    else:
        click.echo(shown)
        click.echo(f"Keep it: it is not shown again.  llmos keys revoke {key.number} takes it back.", err=True)


@keys.command("list")
@json_option
@pass_common
def list_keys(common: Common, /, as_json: bool) -> None:
    """List the keys, but not what they are."""
    found = [_facts(key) for key in _ring(common).listed()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo("There is no key.  llmos keys create NAME makes one.")
    else:
        rows = [("NUMBER", "NAME", "TENANT", "SCOPES", "EXPIRES")]
        rows += [
            (one["number"], one["name"], one["tenant"], ", ".join(one["scopes"]) or "-", one["expires"] or "never")
            for one in found
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command("revoke")
@click.argument("number")
@pass_common
def revoke(common: Common, /, number: str) -> None:
    """Take the key NUMBER back, at once."""
    key = _ring(common).revoke(number)
    click.echo(f"The key {key.number} of {key.name} is worth nothing any more.")


def _ring(common: Common) -> KeyRing:
    from llmos import KeyRing  # noqa: PLC0415 - only who has a key to do with pays

    return KeyRing(common.settings().home)


def _facts(key: Key) -> dict[str, Any]:
    expired = key.expired(time.time())
    return {
        "number": key.number, "name": key.name, "tenant": key.tenant, "scopes": list(key.scopes),
        "created": _date(key.created), "expires": None if key.expires is None else _date(key.expires),
        "expired": expired,
    }  # fmt: skip


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
