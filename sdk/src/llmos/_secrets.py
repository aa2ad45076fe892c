"""Secrets are references until the moment they are needed; nothing that prints or compares them learns the value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos_kernel.errors import ConfigError


@attrs.frozen(repr=False)
class Secret:
    """Where a secret is: an environment variable or a file.  `reveal` looks it up, each time anew."""

    env: str = ""
    file: str = ""

    def __repr__(self) -> str:
        return f"Secret(env={self.env!r})" if self.env else f"Secret(file={self.file!r})"

    def reveal(self) -> str:
        """Return the secret; raise `ConfigError` if it is not there."""
        if self.env:
            value = os.environ.get(self.env)
            if not value:
                message = f"the environment variable {self.env}, which holds a secret, is not set"
                raise ConfigError(message, field=self.env, value=None, expected="a value", source="environment")
            return value
        try:
            return Path(self.file).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            message = f"the file {self.file}, which holds a secret, cannot be read ({type(error).__name__})"
            raise ConfigError(
                message, field="file", value=self.file, expected="a text file", source=self.file
            ) from error


def reveal(value: str | Secret) -> str:
    """Return the text of a setting that may be a secret or a plain string."""
    return value.reveal() if isinstance(value, Secret) else value


def with_secrets(value: Any, folder: Path) -> Any:  # noqa: ANN401 - a tree of plain values
    """Return *value* with every ``{env = "X"}`` and ``{file = "p"}`` in it as a `Secret`; paths start at *folder*."""
    if isinstance(value, list | tuple):
        return [with_secrets(item, folder) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1 and isinstance(value.get("env"), str) and value["env"]:
        return Secret(env=value["env"])
    if len(value) == 1 and isinstance(value.get("file"), str) and value["file"]:
        return Secret(file=str(folder / Path(value["file"]).expanduser()))
    return {key: with_secrets(item, folder) for key, item in value.items()}


def without_secrets(value: object) -> object:
    """Return *value* as plain values, in which every `Secret` is the reference that a file would have."""
    if isinstance(value, Secret):
        return {"env": value.env} if value.env else {"file": value.file}
    if isinstance(value, Mapping):
        return {name: without_secrets(item) for name, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list | tuple) else value
