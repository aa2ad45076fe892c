"""The pages of the reference, made from what the packages say of themselves."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import attrs
import click
import griffe

from docs.generator.repository import ROOT
from llmos.cli import COMMANDS, cli
from llmos_kernel import hookspecs
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import API, ModelSpec
from llmos_kernel.plugins import Plugins

_TYPES = {
    "tuple[str, ...]": "list of names", "str": "text", "str | None": "text", "float": "number", "int": "whole number",
    "Mapping[str, str]": "table of texts", "Mapping[str, int]": "table of whole numbers", "Budget": "table",
    "tuple[ModelSpec, ...]": "list of tables", "Mapping[str, Mapping[str, Any]]": "table per plugin",
    "Mapping[str, Any]": "table",
}  # fmt: skip
"""What the types of attrs fields are called in a TOML file."""
_OWN = (
    ("model", "text", "`tiny`", "The model that commands use when none is named."),
    ("pipelines", "table of lists of names", "", "Processors one after the other, which tasks name like one."),
    ("fallbacks", "table of lists of names", "", "Per model, those that are tried after it; `auto` is any other."),
    ("replicas", "table of numbers, or of tables", "", "How many there are of a model, by its name."),
    ("keep_alive", "number", "", "Seconds after its last task at which a model is unloaded; without it, never."),
    ("keep_alives", "table of numbers", "", "The same for single models, by name; it wins."),
)
"""Keys that the SDK reads and the kernel does not know."""


def pages() -> Mapping[str, Callable[[], str]]:
    """Return what makes each page, by its place in the site."""
    return {
        "reference/sdk.md": sdk, "reference/kernel.md": kernel, "reference/testing.md": testing,
        "reference/hooks.md": hooks, "reference/control.md": control, "reference/errors.md": errors,
        "reference/settings.md": settings, "reference/cli.md": commands, "reference/task-file.md": task_file,
        "reference/plugins.md": plugins,
    }  # fmt: skip


# --- from docstrings -------------------------------------------------------------------------------------------


def sdk() -> str:
    """Return the page of the package ``llmos``."""
    return f"# API of the SDK\n\nWhat `import llmos` offers.\n\n{_api('llmos', *_public('llmos', left_out='errors'))}"


def kernel() -> str:
    """Return the page of the package ``llmos_kernel``."""
    names = _public("llmos_kernel", left_out="API")
    return f"# API of the kernel\n\nWhat `import llmos_kernel` offers.\n\n{_api('llmos_kernel', *names)}"


def testing() -> str:
    """Return the page of the kit for tests."""
    fakes = _api("llmos.testing", *_public("llmos.testing"))
    fixtures = _described("llmos.testing.fixtures", ("echo", "clock", "kernel", "process"))
    module = import_module("llmos.testing.conformance")
    classes = sorted(name for name in dir(module) if name.endswith("Conformance") and not name.startswith("_"))
    return f"""# Test kit

`llmos.testing` needs no model, no network and no waiting.

## Fakes

{fakes}

## Fixtures

`pytest_plugins = ["llmos.testing.fixtures"]` brings them.

{fixtures}

## Conformance

Subclass one of these, give it its fixture, and inherit its tests; each test's docstring is a sentence of the contract.

{_api("llmos.testing.conformance", *classes)}
"""


def errors() -> str:
    """Return the page of the errors: the tree, then each class."""
    from llmos_kernel import errors as module  # noqa: PLC0415 - the name is this function's here

    said = inspect.cleandoc(module.__doc__ or "").splitlines()
    tree = "\n".join(line.replace("``", "") if line.startswith("    ") else line for line in said)  # is code already
    kinds = {name: kind for name, kind in vars(module).items() if inspect.isclass(kind)}
    found = [name for name, kind in kinds.items() if kind.__module__ == module.__name__]
    return f"# Errors\n\n{tree}\n\n{_api('llmos_kernel.errors', *found)}"


def _public(package: str, left_out: str = "") -> list[str]:
    names = import_module(package).__all__
    return [name for name in names if name not in {left_out, "__version__"} and not name.startswith("_")]


def _api(package: str, *names: str) -> str:
    options = "    options:\n      show_root_heading: true\n      show_root_toc_entry: true\n      heading_level: 3"
    return "\n\n".join(f"::: {package}.{name}\n{options}" for name in names)


def _described(package: str, names: tuple[str, ...]) -> str:
    module = import_module(package)
    rows = [f"| `{name}` | {_line(inspect.getdoc(getattr(module, name)))} |" for name in names]
    return "\n".join(["| fixture | |", "|---|---|", *rows])


# --- hooks -----------------------------------------------------------------------------------------------------


def hooks() -> str:
    """Return the page of the hooks, with their exact arguments."""
    text = ["# Hooks", "", inspect.getdoc(hookspecs) or "", ""]
    for kind, name in (*hookspecs.HOOKS.items(), ("observer", "llmos_metrics")):
        hook = getattr(hookspecs, name)
        gives = _returned(hook)
        linked = f"[`{gives}`][llmos_kernel.{gives}]" if gives in _public("llmos_kernel") else f"`{gives}`"
        text += [
            f"## {name}", "", "```python", f"@hookimpl\ndef {name}{_signature(hook)}: ...", "```", "",
            _sentence(inspect.getdoc(hook)), "",
            f"Entry points in the group `llmos.{kind}`; version {API[kind]} of the contract; returns {linked}.", "",
            f"[A first one in ten minutes](../tutorials/plugins/{kind}.md)", "",
        ]  # fmt: skip
    return "\n".join(text)


def _signature(hook: Callable[..., Any]) -> str:
    return str(inspect.signature(hook)).replace("'", "")


def _returned(hook: Callable[..., Any]) -> str:
    annotation = str(inspect.signature(hook).return_annotation)
    return annotation.strip("'")


def control() -> str:
    """Return the page of the messages to the control port."""
    module = import_module("llmos_kernel.control")
    said = re.sub(r"  +", " ", inspect.cleandoc(module.__doc__ or "").replace("``", "`"))
    kinds = [
        kind
        for name, kind in vars(module).items()
        if attrs.has(kind) and kind.__module__ == module.__name__ and not name.startswith("_")
    ]
    rows = [f"| `{kind.__name__}({_arguments(kind)})` | {_sentence(inspect.getdoc(kind))} |" for kind in kinds]
    return f"""# Control messages

{said}

```python
import llmos

with llmos.Client() as client:
    print(client.control("InspectModel", "tiny")["state"])  # unloaded
    client.control("LoadModel", "tiny")
```

| message | |
|---|---|
{chr(10).join(rows)}
"""


def _arguments(kind: type[Any]) -> str:
    """Return the names of what a record is made of, with their defaults."""
    parameters = inspect.signature(kind).parameters.values()
    return ", ".join(str(one.replace(annotation=inspect.Parameter.empty)) for one in parameters)


# --- settings --------------------------------------------------------------------------------------------------


def settings() -> str:
    """Return the page of the settings: every key with its type, its default and its variable."""
    from llmos import _settings  # noqa: PLC0415 - the variables are no public name

    variables = set(_settings._ENV)  # noqa: SLF001 - the same
    rows = [
        f"| `{name}` | {kind} | {default} | {f'`LLMOS_{name.upper()}`' if name in variables else ''} | {what} |"
        for name, kind, default, what in (*_OWN, *_fields(KernelConfig))
    ]
    budget = import_module("llmos_kernel.api").Budget
    return f"""# Settings

`llmos.toml`, then `LLMOS_*` in the environment, then arguments: each overrides the one before. The file is the first of
`--config`, `$LLMOS_CONFIG`, `./llmos.toml`, `$XDG_CONFIG_HOME/llmos/llmos.toml`. An unknown key and a wrong value are
[`ConfigError`][llmos_kernel.errors.ConfigError]s that name the key and the file. How to use them:
[settings and secrets](../how-to/settings.md).

## Keys

| key | type | default | variable | |
|---|---|---|---|---|
{chr(10).join(rows)}

The first {len(_OWN)} are the SDK's. The others are the arguments of
[`KernelConfig`][llmos_kernel.KernelConfig] in a program that embeds the kernel. The defaults here are the kernel's;
where settings are read, `plugins` are all that are installed, and the router is `{_settings.ROUTER}`.

## budget

{_table(budget)}

## models

Each `[[models]]` is a table with these keys; a `path` starts at the file.

{_table(ModelSpec)}

## Variables of their own

| variable | |
|---|---|
| `LLMOS_CONFIG` | the file of the settings |
| `LLMOS_HOME` | the folder of your own models and what is kept beside them |
| `LLMOS_X_…` | yours: not looked at |
"""


def _table(record: type[attrs.AttrsInstance]) -> str:
    rows = [f"| `{name}` | {kind} | {default} | {what} |" for name, kind, default, what in _fields(record)]
    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows])


def _fields(record: type[attrs.AttrsInstance]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and description of each field."""
    source: Any = griffe.load(record.__module__, search_paths=[ROOT / "kernel" / "src"])[record.__name__]
    for field in attrs.fields(record):
        described = source.attributes[field.name]
        what = described.docstring.value if described.docstring else ""
        yield field.name, _TYPES[str(described.annotation)], _default(field), _sentence(what)


def _default(field: attrs.Attribute[Any]) -> str:
    value: Any = field.default
    if value is attrs.NOTHING:
        return "required"
    value = value.factory() if hasattr(value, "factory") else value
    if value is None or value in ((), {}, "", frozenset()):
        return ""
    return "below" if attrs.has(type(value)) else f"`{value}`"


# --- command line ----------------------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of the command line: every command of ours, with every argument and option."""
    context = click.Context(cli, info_name="llmos")
    text = ["# Command line", "", _help(cli), "", _usage(cli, context), "", _parameters(cli, context)]
    epilog = inspect.cleandoc(cli.epilog or "").replace("\b\n", "")
    text += ["", "```text", epilog, "```", ""]
    ours = {name for _, kind, name, _ in _entry_points() if kind == "command"}
    for name in sorted({*COMMANDS, *ours}):
        command = cli.get_command(context, name)
        if command is not None:
            text += _command(command, click.Context(command, info_name=name, parent=context), 2)
    return "\n".join(text)


def _command(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield from (f"{'#' * level} {context.command_path}", "", _help(command), "")
    yield from (_usage(command, context), "", _parameters(command, context), "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _command(inner, click.Context(inner, info_name=name, parent=context), level + 1)


def _help(command: click.Command) -> str:
    """Return the text of a command's help; what it asks not to be wrapped is shown as it is."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    shown = [f"```text\n{part[2:]}\n```" if part.startswith("\b\n") else _escaped(part) for part in paragraphs]
    return "\n\n".join(shown)


def _usage(command: click.Command, context: click.Context) -> str:
    return f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```"


def _parameters(command: click.Command, context: click.Context) -> str:
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    rows = [f"| `{_cell(names)}` | {_escaped(_cell(what))} |" for names, what in records]
    return "\n".join(["| option | |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def _escaped(text: str) -> str:
    """Return *text* with what HTML and Markdown would take for their own written out."""
    return re.sub(r"([<*_\[])", r"\\\1", text)


# --- task files ------------------------------------------------------------------------------------------------


def task_file() -> str:
    """Return the page of the task file: every key, as the schema for editors has it."""
    from llmos import TaskFile  # noqa: PLC0415 - only this page needs it

    schema = TaskFile.schema()
    tables = {name: value for name, value in schema["properties"].items() if "properties" in value}
    parts = [f"## {name}\n\n{value['description']}\n\n{_keys(value)}" for name, value in tables.items()]
    return f"""# Task file

What a `task.toml` may say. [Tasks as files](../how-to/tasks-as-files.md) shows how it is used,
[`TaskFile`][llmos.TaskFile] reads it, and `llmos run --schema` prints the JSON schema by which editors complete and
check it. A wrong file is one [`ConfigError`][llmos_kernel.errors.ConfigError] that names the file, each wrong key, its
value and what would be right.

{_keys(schema)}

{chr(10).join(f"{part}{chr(10)}" for part in parts)}"""


def _keys(schema: Mapping[str, Any]) -> str:
    """Return the table of the keys of an object's schema."""
    needed = schema.get("required", ())
    rows = [
        f"| `{name}` | {_shape(value)} | {'required' if name in needed else _plain(value)} | "
        f"{_escaped(_cell(value['description']))} |"
        for name, value in schema["properties"].items()
    ]
    return "\n".join(["| key | value | default | |", "|---|---|---|---|", *rows])


def _plain(value: Mapping[str, Any]) -> str:
    return f"`{str(value['default']).lower()}`" if "default" in value else ""


def _shape(value: Mapping[str, Any]) -> str:
    """Return what a value is, in words."""
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value:
        return "name, or list of names"
    if "minimum" in value:
        return f"{value['type'].replace('integer', 'whole number')} from {value['minimum']:g} to {value['maximum']:g}"
    words = {"string": "text", "array": "list of names", "boolean": "true or false", "object": "table"}
    return words[value["type"]]


# --- plugins ---------------------------------------------------------------------------------------------------


def plugins() -> str:
    """Return the page of the first-party plugins and the state that each had when the site was built."""
    states = {record.key: record for record in Plugins(KernelConfig(plugins=("*",))).check()}
    rows = []
    for folder, kind, name, module in _entry_points():
        record = states.get(f"{kind}:{name}")
        state = f"{record.state}: {record.why}".removesuffix(": ") if record else "not installed"
        what = _line(inspect.getdoc(import_module(module.partition(":")[0])))
        part = f"[{folder}](../../plugins/{folder}/README.md)"
        rows.append(f"| `{name}` | {kind} | {part} | {_escaped(what)} | {_cell(state)} |")
    table = "\n".join(sorted(rows, key=lambda row: row.split("|")[2]))
    return f"""# Plugins

Those of this repository, and the state in which each was when this page was made: `ready` is imported and checked.
`llmos plugins list` and `llmos doctor` say it for your machine.

| name | kind | part | what it is | state |
|---|---|---|---|---|
{table}

A state is one of `discovered` (may be imported when it is chosen), `blocked` (by the settings), `incompatible` (made
for other versions), `failed` (with the reason), `ready` and `active` (in use).
"""


def _entry_points() -> Iterator[tuple[str, str, str, str]]:
    """Yield folder, kind, name and module of each plugin that the repository announces."""
    for path in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        for group, points in tomllib.loads(path.read_text("utf-8"))["project"].get("entry-points", {}).items():
            for name, module in points.items():
                yield path.parent.name, group.removeprefix("llmos."), name, module


# --- texts -----------------------------------------------------------------------------------------------------


def _line(text: str | None) -> str:
    """Return the first paragraph of a docstring in one line of a table."""
    return _sentence((text or "").split("\n\n")[0])


def _sentence(text: str | None) -> str:
    """Return a docstring in one line, its code marked as Markdown does."""
    return re.sub(r"``([^`]+)``", r"`\1`", re.sub(r"\s+", " ", text or "")).replace("|", "\\|").strip()
