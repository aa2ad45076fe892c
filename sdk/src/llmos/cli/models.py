"""``llmos models``: what can be loaded.  Listing reads metadata and starts nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from llmos._library import Library
from llmos._models import folder_spec, read_folder
from llmos._serving import Replicas
from llmos.cli._common import Common, json_option, pass_common, print_columns, print_json, say
from llmos.cli._completing import complete_models
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import InvalidArgument, ModelUnavailable, NotFound

ADDING = """\b
A model folder is made from a checkpoint, such as one from Hugging Face:
  llmos export CHECKPOINT FOLDER --format w8a8
  llmos models add FOLDER --name my-model
  llmos generate -m my-model 'Once upon a time'"""


@click.group("models")
def command() -> None:
    """List, show, add, remove and rename models."""


@command.command("list")
@json_option
@pass_common
def list_models(common: Common, as_json: bool) -> None:
    """Show the models that can be loaded, and their other names."""
    models = known_models(common)
    aliases = _aliases(common, models)
    replicas = common.settings().serving.replicas
    facts = [attrs.asdict(spec) | {"aliases": aliases[spec.name]} for spec in models]
    for fact in facts:
        if rule := replicas.get(fact["name"]):
            fact["replicas"] = {"least": rule.least, "most": rule.most}
    if as_json:
        print_json(facts)
    elif not models:
        say("There is no model.  `pip install llmos-tiny` brings a small one, `llmos models add` your own.")
    else:
        rows = [("NAME", "SIZE", "BACKEND", "FROM", "ALIASES")]
        rows += [
            (
                _counted(spec.name, replicas), size(spec.nbytes), spec.backend, spec.distribution or "you",
                ", ".join(aliases[spec.name]),
            )
            for spec in models
        ]  # fmt: skip
        print_columns(rows)


@command.command("show")
@click.argument("name", shell_complete=complete_models)
@click.option("--load", is_flag=True, help="Load the model and ask its executor as well.")
@json_option
@pass_common
def show(common: Common, name: str, load: bool, as_json: bool) -> None:
    """Show everything that is known of a model."""
    with common.client() as client:
        facts: dict[str, Any] = client.control("InspectModel", name)
        if load:
            with client.load_model(name) as model:
                facts = client.control("InspectModel", model.name)
    if as_json:
        print_json(facts)
        return
    shown = {key: value for key, value in facts.items() if value not in (None, "", [], (), {}, 0)}
    executor = shown.pop("executor", {})
    rows = [(key, _cell(key, value)) for key, value in shown.items()]
    print_columns([*rows, *((f"executor.{key}", _cell(key, value)) for key, value in executor.items())])


@command.command("add", epilog=ADDING)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it; by default what its manifest says.")
@click.option("--alias", "aliases", multiple=True, help="Another name for it.")
@click.option("--check/--no-check", default=True, help="Have its backend check the folder.")
@json_option
@pass_common
def add(common: Common, folder: Path, name: str | None, aliases: tuple[str, ...], check: bool, as_json: bool) -> None:
    """List the model in FOLDER among your own.

    It can be loaded by its name then.
    """
    spec = attrs.evolve(read_folder(folder, name), aliases=aliases)
    taken = {known.name: known for known in known_models(common)}
    if spec.name in taken:
        message = f"the name {spec.name!r} is taken by a model of {taken[spec.name].distribution or 'your own'}"
        message = f"{message}; give another with --name"
        raise InvalidArgument(message, field="name", value=spec.name, expected="a name that no model has")
    if check:
        common.installed().backend(spec.backend).measure(spec)
    Library(common.settings().home).add(spec)
    if as_json:
        print_json(attrs.asdict(spec))
    else:
        say(f"Added {spec.name} ({size(spec.nbytes)}).  Try: llmos generate -m {spec.name} 'Once upon a time'")


@command.command("remove")
@click.argument("name", shell_complete=complete_models)
@json_option
@pass_common
def remove(common: Common, name: str, as_json: bool) -> None:
    """Take a model off your own list.  Its files stay where they are."""
    spec = Library(common.settings().home).remove(name)
    if as_json:
        print_json(attrs.asdict(spec))
    else:
        say(f"Removed {spec.name} from your models; its files are still in {spec.path}.")


@command.command("alias")
@click.argument("name")
@click.argument("model", required=False, shell_complete=complete_models)
@click.option("--remove", "forget", is_flag=True, help="Forget the alias NAME.")
@json_option
@pass_common
def alias(common: Common, name: str, model: str | None, forget: bool, as_json: bool) -> None:
    """Let NAME mean MODEL, in commands and programs of yours.  Settings files may overrule it."""
    if forget == (model is not None):
        raise click.UsageError("name a model for the alias, or give --remove")
    library = Library(common.settings().home)
    if model is None:
        means, done = library.unalias(name), "no longer means"
    else:
        means, done = _real_name(common, name, model), "means"
        library.alias(name, means)
    if as_json:
        print_json({"alias": name, "model": means, "removed": forget})
    else:
        click.echo(f"{name} {done} {means}.")


def _real_name(common: Common, name: str, model: str) -> str:
    """Return what *model* is called; raise if there is no such model, or one called *name*."""
    models = known_models(common)
    if any(known.name == name for known in models):
        message = f"there is a model called {name!r}, which an alias cannot hide"
        raise InvalidArgument(message, field="name", value=name, expected="a name that no model has")
    aliases = _aliases(common, models)
    found = next((known for known in aliases if model == known or model in aliases[known]), None)
    if found is None:
        near = difflib.get_close_matches(model, [one for known in aliases for one in (known, *aliases[known])])
        raise NotFound(f"there is no model {model!r}", field="model", value=model, nearest=near)
    return found


def known_models(common: Common) -> list[ModelSpec]:
    """Return every model that the settings and the plugins bring.  Imports no plugin."""
    return sorted((*common.installed("model").models(), *common.settings().kernel.models), key=lambda spec: spec.name)


def called(common: Common, models: list[ModelSpec]) -> list[str]:
    """Return all names of *models*, with their aliases."""
    return [name for real, others in _aliases(common, models).items() for name in (real, *others)]


def find_folder(common: Common, name: str) -> ModelSpec | None:
    """Return the model folder at the path *name*, or None where that is a name; raise `ModelUnavailable`."""
    try:
        return folder_spec(name)
    except ModelUnavailable:  # a model's own name may look like a path, as those of Hugging Face do
        if name not in called(common, known_models(common)):
            raise
        return None


def find_model(common: Common, name: str) -> ModelSpec:
    """Return the model folder at the path *name*, or the model of that name or alias; raise `NotFound`."""
    spec = find_folder(common, name)
    if spec is not None:
        return spec
    known, meant = known_models(common), common.settings().kernel.aliases.get(name, name)
    for spec in known:
        if meant in (spec.name, *spec.aliases):
            return spec
    near = difflib.get_close_matches(name, [word for spec in known for word in (spec.name, *spec.aliases)])
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise NotFound(f"no model is called {name!r}{hint}", field="model", value=name, nearest=near)


def size(nbytes: int) -> str:
    """Return a number of bytes as people say it."""
    if nbytes < 1:
        return "-"
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    value = float(nbytes)
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"


def _counted(name: str, replicas: Mapping[str, Replicas]) -> str:
    """Return *name*, with how many there may be of it where that is not one."""
    rule = replicas.get(name)
    return name if rule is None else f"{name} (×{rule.least}–{rule.most})"


def _aliases(common: Common, models: list[ModelSpec]) -> dict[str, list[str]]:
    """Return every model's other names; those in the settings win over those that models bring."""
    owner: dict[str, str] = {}
    for spec in models:
        for alias in spec.aliases:
            owner.setdefault(alias, spec.name)
    owner |= common.settings().kernel.aliases
    return {spec.name: sorted(alias for alias, name in owner.items() if name == spec.name) for spec in models}


def _cell(key: str, value: object) -> str:
    if key == "nbytes" and isinstance(value, int):
        return size(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(name, item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
