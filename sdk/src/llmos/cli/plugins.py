"""``llmos plugins``: what is installed and what became of it.  Imports no plugin, so it works beside any broken one."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import attrs
import click

from llmos._library import Library
from llmos.cli._common import Common, json_option, pass_common, print_columns, print_json, say
from llmos.cli._completing import complete_installed
from llmos_kernel.contracts import API
from llmos_kernel.errors import CallerError, InvalidArgument, NotFound
from llmos_kernel.loader import PluginRecord, listing, nearest

IN_USE, USABLE_NOW, DISABLED, BROKEN = "in use", "usable", "disabled", "broken"
_WORDS = {"active": IN_USE, "blocked": DISABLED, "failed": BROKEN, "incompatible": BROKEN}
_COLOURS = {IN_USE: "green", DISABLED: "yellow", BROKEN: "red"}


@click.group("plugins")
def command() -> None:
    """List, inspect, switch, install and remove plugins."""


@command.command("list")
@click.option("--kind", type=click.Choice(sorted(API)), metavar="KIND", help="Only plugins of this kind: backend, ...")
@json_option
@pass_common
def list_plugins(common: Common, kind: str | None, as_json: bool) -> None:
    """Show every installed plugin and its state.

    It is in use (the settings choose it), usable, disabled, or broken, and why.  Imports none.
    """
    records = [_explained(common, record) for record in common.installed().records() if kind in (None, record.kind)]
    if as_json:
        print_json([attrs.asdict(record) | {"key": record.key} for record in records])
        return
    if not records:
        click.echo("No plugin is installed; `pip install llmos` brings the standard set.")
        return
    origins = [f"{record.distribution} {record.version}".strip() or "-" for record in records]
    chosen = _chosen(common)
    rows = [(record.key, origin, _state(record, chosen)) for record, origin in zip(records, origins, strict=True)]
    width, origin_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    click.echo(f"{'PLUGIN':{width}}  {'FROM':{origin_width}}  STATE")
    for record, (key, origin, state) in zip(records, rows, strict=True):
        click.echo(f"{key:{width}}  {origin:{origin_width}}  {click.style(state, fg=_COLOURS.get(state))}")
        if record.why:
            say(record.why, " " * (width + 2))


@command.command("show")
@click.argument("name", shell_complete=complete_installed)
@json_option
@pass_common
def show(common: Common, name: str, as_json: bool) -> None:
    """Show everything that is known of the plugin NAME.

    NAME is "kind:name" or a distribution.  It is not imported.
    """
    records = _found(common, name)
    if as_json:
        print_json([attrs.asdict(record) | {"key": record.key} for record in records])
        return
    chosen = _chosen(common)
    for number, record in enumerate(records):
        if number:
            click.echo()
        facts = {"plugin": record.key} | attrs.asdict(record) | {"state": _state(record, chosen)}
        print_columns([(key, str(value)) for key, value in facts.items() if value and key not in ("kind", "name")])


@command.command("check")
@click.argument("names", nargs=-1, shell_complete=complete_installed)
@json_option
@pass_common
def check(common: Common, names: tuple[str, ...], as_json: bool) -> int:
    """Import plugins and say what fails.

    NAMES are imported, or every plugin, in a process of its own; the exit code is 3 if any fails.
    """
    from llmos.cli.doctor import BAD, examine, print_lines  # noqa: PLC0415 - only who examines needs the doctor

    wanted = {record.key for name in names for record in _found(common, name)}
    lines = [line for line in examine(common, load=False) if line.section == "Plugins"]
    lines = [line for line in lines if not names or line.name in wanted]
    if as_json:
        print_json([attrs.asdict(line) for line in lines])
    else:
        print_lines(lines)
    return 3 if any(line.verdict == BAD for line in lines) else 0


@command.command("disable")
@click.argument("name", shell_complete=complete_installed)
@json_option
@pass_common
def disable(common: Common, name: str, as_json: bool) -> None:
    """Do without the plugin NAME from now on.

    NAME is "kind:name" or a distribution.
    """
    _found(common, name)
    changed = Library(common.settings().home).block(name, off=True)
    _switched(name, "off", as_json=as_json, changed=changed)


@command.command("enable")
@click.argument("name", shell_complete=complete_installed)
@json_option
@pass_common
def enable(common: Common, name: str, as_json: bool) -> None:
    """Use again what `disable` has switched off."""
    settings = common.settings()
    changed = Library(settings.home).block(name, off=False)
    if not changed and name in settings.kernel.blocked:
        source = settings.sources.get("blocked", "the settings")
        message = f"{name} is blocked by {source}: take it out of the setting blocked there"
        raise InvalidArgument(message, field="name", value=name, expected="a plugin that `disable` has switched off")
    _switched(name, "on", as_json=as_json, changed=changed)


@command.command("install")
@click.argument("packages", nargs=-1, required=True)
@click.option("-U", "--upgrade", is_flag=True, help="Take the newest versions.")
def install(packages: tuple[str, ...], upgrade: bool) -> int:
    """Install PACKAGES beside llmos.

    They are names on an index, folders, or wheels.
    """
    return _installer("install", *(["--upgrade"] if upgrade else []), *packages)


@command.command("uninstall")
@click.argument("packages", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def uninstall(packages: tuple[str, ...], yes: bool) -> int:
    """Remove PACKAGES from the environment of llmos.  Imports none of them."""
    if not yes:
        click.confirm(f"Remove {', '.join(packages)}?", abort=True)
    return _installer("uninstall", *packages)


@command.command("new")
@click.argument("kind", type=click.Choice(sorted(API)))
@click.argument("name")
@click.option("--into", default=".", type=click.Path(file_okay=False), help="Where its folder goes.  [default: here]")
@click.option("--description", default="", help="What it does, in one sentence.")
@json_option
def new(kind: str, name: str, into: str, description: str, as_json: bool) -> None:
    """Begin a plugin of KIND, called NAME.

    It is a package with sources, tests and CI; configurations will call it NAME.
    """
    from llmos.cli._new_plugin import make  # noqa: PLC0415 - only who begins a plugin needs it

    folder = make(kind, name, Path(into), description)
    if as_json:
        print_json({"kind": kind, "name": name, "folder": str(folder)})
    else:
        click.echo(f"{folder} is yours.")
        click.echo(f"next:  cd {folder} && pip install -e '.[test]' && pytest")


@command.command("freeze")
@json_option
@pass_common
def freeze(common: Common, as_json: bool) -> None:
    """Print the versions of what brings plugins.

    These are distributions, as a requirements file has them.
    """
    found = {record.distribution: record.version for record in common.installed().records() if record.distribution}
    if as_json:
        print_json(found)
    else:
        for distribution, version in sorted(found.items()):
            click.echo(f"{distribution}=={version}")


def _chosen(common: Common) -> set[str]:
    """Return the keys of the plugins that the settings choose; the others are used when somebody names them."""
    kernel = common.settings().kernel
    names: dict[str, Iterable[str | None]] = {
        "scheduler": {kernel.scheduler, *kernel.schedulers.values()}, "router": {kernel.router},
        "policy": kernel.policies, "observer": kernel.observers,
    }  # fmt: skip
    return {f"{kind}:{name}" for kind, some in names.items() for name in some}


def _state(record: PluginRecord, chosen: Collection[str]) -> str:
    """Return how a plugin stands, in the words of people."""
    return _WORDS.get(record.state) or (IN_USE if record.key in chosen else USABLE_NOW)


def _explained(common: Common, record: PluginRecord) -> PluginRecord:
    """Return the record of a plugin that `disable` switched off with the way to switch it on again."""
    off = listing(Library(common.settings().home).blocked(), record.key, record.name, record.distribution)
    if record.state != "blocked" or off is None:
        return record
    return attrs.evolve(record, why=f"you have switched it off; llmos plugins enable {off} switches it on")


def _found(common: Common, name: str) -> list[PluginRecord]:
    """Return the records that *name* means; raise `NotFound` with the nearest names."""
    records = common.installed().records()
    found = [record for record in records if listing([name], record.key, record.name, record.distribution) is not None]
    found = [_explained(common, record) for record in found]
    if not found:
        known = {one for record in records for one in (record.key, record.name, record.distribution) if one}
        message = f"nothing installed is called {name!r}{nearest(name, known)}"
        raise NotFound(message, field="name", value=name, nearest=[])
    return found


def _switched(name: str, state: str, *, as_json: bool, changed: bool) -> None:
    if as_json:
        print_json({"name": name, "state": state, "changed": changed})
    else:
        click.echo(f"{name} is {state}." if changed else f"{name} was {state} already.")


def _installer(action: str, *arguments: str) -> int:
    """Run pip, or uv where there is no pip, for the environment that llmos runs in; return its exit code."""
    if importlib.util.find_spec("pip") is not None:
        extra = ["--yes"] if action == "uninstall" else []
        argv = [sys.executable, "-m", "pip", action, *extra, *arguments]
    elif uv := shutil.which("uv"):
        argv = [uv, "pip", action, "--python", sys.executable, *arguments]
    else:
        message = f"neither pip nor uv is installed beside {sys.executable}: python -m ensurepip brings pip"
        raise CallerError(message, field="installer", value=None, expected="pip or uv")
    return subprocess.run(argv, check=False).returncode
