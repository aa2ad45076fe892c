"""The user's own models: a JSON list in the user's data folder, in the form of a plugin's ``models.json``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos._reading import read_specs
from llmos._secrets import Secret
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ConfigError, InvalidArgument, NotFound

FILE = "models.json"


class Library:
    """The models listed in the folder *home*.  Nothing is written before `add`."""

    def __init__(self, home: Path) -> None:
        self.file = home / FILE

    def models(self) -> tuple[ModelSpec, ...]:
        """Return what is listed; raise `ConfigError` if the list is broken."""
        try:
            listed = json.loads(self.file.read_text("utf-8"))
            found: tuple[ModelSpec, ...] = read_specs(self.file.parent)("models", listed)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, RecursionError) as error:
            why = error.message if isinstance(error, InvalidArgument) else f"{type(error).__name__}: {error}"
            message = f"the list of your models, {self.file}, cannot be read: {why}"
            raise ConfigError(
                message, field="models", value=str(self.file), expected="JSON", source=str(self.file)
            ) from error
        return found

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
        """Replace the list as a whole: a reader sees the old one or the new one, never half of one."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([_entry(spec) for spec in models], indent=2, ensure_ascii=False) + "\n"
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=self.file.parent, delete=False) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(self.file)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise


def _entry(spec: ModelSpec) -> dict[str, Any]:
    """Return *spec* without the fields that are as they are by default."""
    defaults = {field.name: field.default for field in attrs.fields(ModelSpec)}
    values = attrs.asdict(spec, recurse=False)
    return {name: _plain(value) for name, value in values.items() if value and value != defaults[name]}


def _plain(value: object) -> object:
    """Return *value* as JSON has it; a secret stays a reference."""
    if isinstance(value, Secret):
        return {"env": value.env} if value.env else {"file": value.file}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
