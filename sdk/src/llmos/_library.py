"""The user's own models, aliases and choice of plugins: JSON files in the user's data folder.

``models.json`` has the form of a plugin's, ``aliases.json`` is an object of other names and what they mean, and
``blocked.json`` a list of plugins that are switched off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from llmos._files import write_whole
from llmos._reading import Reader, read_names, read_specs, read_table, read_text
from llmos._secrets import without_secrets
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ConfigError, InvalidArgument, NotFound

FILE = "models.json"
ALIASES = "aliases.json"
BLOCKED = "blocked.json"


class Library:
    """What is listed in the folder *home*.  Nothing is written before something changes."""

    def __init__(self, home: Path) -> None:
        self.file, self.aliases_file, self.blocked_file = home / FILE, home / ALIASES, home / BLOCKED

    def models(self) -> tuple[ModelSpec, ...]:
        """Return what is listed; raise `ConfigError` if the list is broken."""
        return tuple(_listed(self.file, "models", read_specs(self.file.parent), []))

    def aliases(self) -> dict[str, str]:
        """Return the other names of models; raise `ConfigError` if the file is broken."""
        return dict(_listed(self.aliases_file, "aliases", read_table(read_text), {}))

    def alias(self, name: str, model: str) -> None:
        """Let *name* mean *model*, whatever it meant before."""
        replace(self.aliases_file, self.aliases() | {name: model})

    def unalias(self, name: str) -> str:
        """Forget the alias *name* and return what it meant; raise `NotFound` if it is none of the user's."""
        aliases = self.aliases()
        if name not in aliases:
            message = f"{name!r} is not among your own aliases ({', '.join(aliases) or 'there are none'})"
            raise NotFound(message, field="name", value=name, nearest=list(aliases))
        model = aliases.pop(name)
        replace(self.aliases_file, aliases)
        return model

    def blocked(self) -> tuple[str, ...]:
        """Return the plugins that are switched off; raise `ConfigError` if the file is broken."""
        return tuple(_listed(self.blocked_file, "blocked", read_names, []))

    def block(self, name: str, *, off: bool) -> bool:
        """Switch the plugin *name* off, or on again; return whether that changed anything."""
        before = self.blocked()
        if (name in before) == off:
            return False
        replace(self.blocked_file, [*before, name] if off else [one for one in before if one != name])
        return True

    def add(self, spec: ModelSpec) -> None:
        """List one more model; raise `InvalidArgument` if its name is listed already."""
        models = self.models()
        if any(known.name == spec.name for known in models):
            message = f"you have a model called {spec.name!r} already; remove it first, or give this one another name"
            raise InvalidArgument(message, field="name", value=spec.name, expected="a new name")
        self._write((*models, spec))

    def remove(self, name: str) -> ModelSpec:
        """Take a model off the list and return it; its files stay.  Raise `NotFound` if it is not listed."""
        models = self.models()
        removed = next((spec for spec in models if spec.name == name), None)
        if removed is None:
            names = [spec.name for spec in models]
            message = f"{name!r} is not among your own models ({', '.join(names) or 'there are none'})"
            raise NotFound(message, field="name", value=name, nearest=names)
        self._write(spec for spec in models if spec is not removed)
        return removed

    def _write(self, models: Iterable[ModelSpec]) -> None:
        replace(self.file, [_entry(spec) for spec in models])


def _listed(file: Path, key: str, read: Reader, nothing: Any) -> Any:  # noqa: ANN401 - what the reader returns
    """Return what *file* holds, or *nothing* if it does not exist."""
    try:
        return read(key, json.loads(file.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError):  # a home in /dev/null has no list either
        return nothing
    except (OSError, ValueError, RecursionError) as error:
        why = error.message if isinstance(error, InvalidArgument) else f"{type(error).__name__}: {error}"
        message = f"the list of your {key}, {file}, cannot be read: {why}"
        raise ConfigError(message, field=key, value=str(file), expected="JSON", source=str(file)) from error


def replace(path: Path, value: object) -> None:
    """Write *value* in place of a file, which nobody else may read: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", mode=0o600)


def _entry(spec: ModelSpec) -> dict[str, Any]:
    """Return *spec* without the fields that are as they are by default."""
    defaults = {field.name: field.default for field in attrs.fields(ModelSpec)}
    values = attrs.asdict(spec, recurse=False)
    return {name: without_secrets(value) for name, value in values.items() if value and value != defaults[name]}
