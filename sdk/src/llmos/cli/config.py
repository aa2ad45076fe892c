"""``llmos config``: what the settings are, where each is from, whether what they name is there.  Imports no plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from llmos._targets import AUTO
from llmos._secrets import without_secrets
from llmos._settings import FILE, Settings
from llmos.cli._common import Common, json_option, pass_common, print_columns, print_json, say
from llmos.cli.models import known_models
from llmos_kernel.errors import ConfigError, KernelError, NotFound
from llmos_kernel.loader import USABLE, PluginRecord, listing, nearest

BY_ITSELF = "the default"
"""Where a setting is from that nobody gave."""
TEMPLATE = """\
# Settings of llmos.  `llmos config show` lists all of them and where each is from.
# What stands here is overridden by LLMOS_* in the environment, and that by options of the command line.

# model = "tiny"                # the model that commands use when none is named
# scheduler = "fifo"            # who is served first: fair, priority, edf, ... (llmos plugins list --kind scheduler)
# blocked = []                  # plugins to do without: "kind:name", a name, or a distribution
# timeout = 300                 # seconds after which a call without a timeout of its own gives up

# [aliases]                     # other names of models
# gpt3 = "tiny"

# [pipelines]                   # processors one after the other, to be named like one
# tidy = ["normalize", { processor = "truncate", size = 2000 }]

# [devices]                     # bytes of weights that each device may hold
# cpu = 17179869184

# [options."scheduler:fair"]    # options of a plugin; its README lists them
# weights = { paying = 4.0 }
"""


@click.group("config")
def command() -> None:
    """Show, check and begin the settings."""


@command.command("show")
@click.argument("key", required=False)
@json_option
@pass_common
def show(common: Common, key: str | None, as_json: bool) -> None:
    """Show every setting, or KEY, and where it is from.  Secrets stay references."""
    settings = common.settings()
    facts = {name: (value, settings.sources.get(name, BY_ITSELF)) for name, value in _values(settings)}
    if key is not None and key not in facts:
        message = f"there is no setting {key!r}{nearest(key, facts)}"
        raise NotFound(message, field="setting", value=key, nearest=[])
    shown = {name: fact for name, fact in facts.items() if key in (None, name)}
    if as_json:
        print_json({name: {"value": value, "source": source} for name, (value, source) in shown.items()})
        return
    rows = [("SETTING", "FROM", "VALUE")]
    print_columns([*rows, *((name, source, _cell(value)) for name, (value, source) in shown.items())])
    if key is None:
        click.echo()
        say(f"file: {settings.file or 'none'}; your models and data: {settings.home}")


@command.command("check")
@json_option
@pass_common
def check(common: Common, as_json: bool) -> int:
    """Say whether the settings can be used.

    They can if they can be read, and name plugins and models that exist.  The exit code is 2 if not.
    """
    wrong = [{"setting": setting, "why": why} for setting, why in problems(common)]
    if as_json:
        print_json({"file": common.settings().file or None, "wrong": wrong})
    elif wrong:
        for one in wrong:
            say(one["why"], f"{click.style(one['setting'], fg='red')}: ")
    else:
        click.echo(f"Nothing is wrong with the settings ({common.settings().file or 'no file'}).")
    return 2 if wrong else 0


@command.command("init")
@click.argument("file", type=click.Path(path_type=Path), default=Path(FILE))
@json_option
def init(file: Path, as_json: bool) -> None:
    """Write a settings file to begin with.

    It is ./llmos.toml unless FILE is named.  One that is there stays as it is.
    """
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(TEMPLATE)
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}"
        raise ConfigError(message, field="file", value=str(file), expected="a new file", source=str(file)) from error
    if as_json:
        print_json({"file": str(file)})
    else:
        click.echo(f"Wrote {file}; every line in it is a comment until you change it.")


def problems(common: Common) -> Iterator[tuple[str, str]]:
    """Yield a setting and what is wrong with it, for everything that they name and that is not there."""
    kernel = common.settings().kernel
    records = common.installed().records()
    chosen = [("scheduler", "scheduler", kernel.scheduler)]
    chosen += [(f"schedulers.{model}", "scheduler", name) for model, name in kernel.schedulers.items()]
    chosen += [("router", "router", kernel.router)] if kernel.router else []
    chosen += [("policies", "policy", name) for name in kernel.policies]
    chosen += [("observers", "observer", name) for name in kernel.observers]
    for pipeline in common.settings().pipelines:
        places = enumerate(pipeline.steps)
        chosen += [(f"pipelines.{pipeline.name}[{at}]", "processor", step.processor) for at, step in places]
    for setting, kind, name in chosen:
        if why := _unusable(kind, name, records):
            yield setting, why
    for name in kernel.blocked:
        if not any(_named(name, record) for record in records):
            yield "blocked", f"nothing installed is called {name!r}"
    for key in kernel.options:
        known = [record.key for record in records]
        if key not in known:
            yield f'options."{key}"', f"no plugin is called {key!r}{nearest(key, known)}"
    yield from _model_problems(common)


def _model_problems(common: Common) -> Iterator[tuple[str, str]]:
    settings = common.settings()
    try:
        models = known_models(common)
    except KernelError as error:
        yield "models", error.message
        return
    names = [model.name for model in models]
    names += [alias for model in models for alias in model.aliases]
    for alias, name in settings.kernel.aliases.items():
        if name not in names:
            yield f"aliases.{alias}", f"there is no model {name!r}{nearest(name, names)}"
    known = (*names, *settings.kernel.aliases, AUTO)
    for name, chain in settings.serving.fallbacks.items():
        for one in (name, *chain):
            if one not in known:
                yield f"fallbacks.{name}", f"there is no model {one!r}{nearest(one, names)}"
    if settings.model not in known and not Path(settings.model).is_dir():
        yield "model", f"there is no model {settings.model!r}{nearest(settings.model, names)}"


def _unusable(kind: str, name: str, records: tuple[PluginRecord, ...]) -> str:
    same = [record for record in records if record.kind == kind]
    found = [record for record in same if record.name == name]
    if not found:
        hint = nearest(name, {record.name for record in same}) or "; is it installed?"
        return f"no {kind} plugin is called {name!r}{hint}"
    usable = any(record.state in USABLE for record in found)
    return "" if usable else f"{found[0].key} is {found[0].state}: {found[0].why}"


def _named(name: str, record: PluginRecord) -> bool:
    return listing([name], record.key, record.name, record.distribution) is not None


def _values(settings: Settings) -> Iterator[tuple[str, Any]]:
    yield "model", settings.model
    yield "pipelines", {pipeline.name: [step.processor for step in pipeline.steps] for pipeline in settings.pipelines}
    fields = [(part, field) for part in (settings.serving, settings.kernel) for field in attrs.fields(type(part))]
    for part, field in fields:
        value = getattr(part, field.name)
        if field.name == "models":
            value = [model.name for model in value]
        elif attrs.has(type(value)):
            value = attrs.asdict(value)
        yield field.name, without_secrets(value)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_cell(item)}" for name, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
