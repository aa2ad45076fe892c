"""Reading settings: from TOML values and from environment text to what the kernel's configuration takes.

A reader gets the key's name and a value, and raises `InvalidArgument` naming the key.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos._secrets import with_secrets
from llmos._serving import Replicas
from llmos_kernel.api import Budget
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import InvalidArgument

Reader = Callable[[str, Any], Any]


def wrong(key: str, value: object, expected: str) -> InvalidArgument:
    """Return the error for a *value* of the wrong kind."""
    return InvalidArgument(f"{key} must be {expected}, not {value!r:.80}", field=key, value=value, expected=expected)


def unknown(what: str, key: str, known: Iterable[str]) -> InvalidArgument:
    """Return the error for a *key* that nobody knows, with the nearest names."""
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return InvalidArgument(f"unknown {what} {key}; {hint}", field=key, value=None, expected=near or known)


def read_text(key: str, value: Any) -> str:  # noqa: ANN401 - TOML values
    """Read a non-empty string."""
    if not isinstance(value, str) or not value:
        raise wrong(key, value, "a non-empty string")
    return value


def read_names(key: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Read a list of strings."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise wrong(key, value, 'a list of names, such as ["a", "b"]')
    return tuple(value)


def read_number(key: str, value: Any) -> float:  # noqa: ANN401
    """Read a number; the kernel checks its range."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong(key, value, "a number")
    return value


def read_whole(key: str, value: Any) -> int:  # noqa: ANN401
    """Read a whole number; the kernel checks its range."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(key, value, "a whole number")
    return value


def read_table(each: Reader) -> Reader:
    """Return a reader of a table whose values *each* reads."""

    def read(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
        if not isinstance(value, Mapping):
            raise wrong(key, value, "a table")
        return {name: each(f"{key}.{name}", item) for name, item in value.items()}

    return read


def read_budget(key: str, value: Any) -> Budget:  # noqa: ANN401
    """Read the table ``budget``."""
    numbers = read_table(read_whole)(key, value)
    _check_keys(f"key of {key}", numbers, Budget)
    return Budget(**numbers)


def read_replicas(key: str, value: Any) -> Replicas:  # noqa: ANN401
    """Read a table of ``replicas``."""
    numbers = read_table(read_number)(key, value)
    _check_keys(f"key of {key}", numbers, Replicas)
    try:
        return Replicas(**numbers)
    except InvalidArgument as error:
        fields = {**error.fields, "field": f"{key}.{error.fields['field']}"}
        raise InvalidArgument(f"{key}: {error.message}", **fields) from error


def read_specs(folder: Path) -> Reader:
    """Return a reader of a list of models, whose paths start at *folder*."""

    def read(key: str, value: Any) -> tuple[ModelSpec, ...]:  # noqa: ANN401
        if not isinstance(value, list):
            raise wrong(key, value, "a list of tables")
        return tuple(_spec(f"{key}[{number}]", entry, folder) for number, entry in enumerate(value))

    return read


def read_options(folder: Path) -> Reader:
    """Return a reader of ``options``: a table per plugin, in which secrets are references."""

    def read(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
        tables = read_table(read_table(_as_it_is))(key, value)
        return {name: with_secrets(table, folder) for name, table in tables.items()}

    return read


def _as_it_is(key: str, value: Any) -> Any:  # noqa: ANN401
    return value


def _read_string(key: str, value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise wrong(key, value, "a string")
    return value


_SPEC_READERS: Mapping[str, Reader] = {
    "aliases": read_names, "kinds": read_names, "languages": read_names, "capabilities": read_names,
    "path": _read_string, "license": _read_string, "description": _read_string, "distribution": _read_string,
}  # fmt: skip
"""What the kernel does not check itself."""


def _spec(key: str, entry: object, folder: Path) -> ModelSpec:
    if not isinstance(entry, Mapping):
        raise wrong(key, entry, "a table")
    _check_keys(f"key of {key}", entry, ModelSpec)
    for field in ("name", "backend"):
        if field not in entry:
            raise InvalidArgument(f"{key} has no {field}", field=f"{key}.{field}", value=None, expected="a string")
    values = {name: _SPEC_READERS.get(name, _as_it_is)(f"{key}.{name}", value) for name, value in entry.items()}
    if values.get("path"):
        values["path"] = str(folder / Path(values["path"]).expanduser())
    if "options" in values:
        values["options"] = with_secrets(read_table(_as_it_is)(f"{key}.options", values["options"]), folder)
    try:
        return ModelSpec(**values)
    except InvalidArgument as error:
        raise InvalidArgument(f"{key}: {error.message}", **error.fields) from error


def _check_keys(what: str, values: Mapping[str, Any], kind: type) -> None:
    known = attrs.fields_dict(kind)
    for key in values:
        if key not in known:
            raise unknown(what, key, known)


# --- text, as environment variables have it --------------------------------------------------------------------


def split_names(key: str, text: str) -> list[str]:
    """Read ``a, b``; empty is no name at all."""
    return [part.strip() for part in text.split(",") if part.strip()]


def split_pairs(key: str, text: str) -> dict[str, str]:
    """Read ``a=b, c=d``."""
    pairs = [part.partition("=") for part in split_names(key, text)]
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise wrong(key, text, "name=value pairs, separated by commas")
    return {name.strip(): value.strip() for name, _, value in pairs}


def as_number(key: str, text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        raise wrong(key, text, "a number") from None


def as_whole(key: str, text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise wrong(key, text, "a whole number") from None


def as_wholes(key: str, text: str) -> dict[str, int]:
    """Read ``a=1, b=2``."""
    return {name: as_whole(f"{key}.{name}", value) for name, value in split_pairs(key, text).items()}


def as_text(key: str, text: str) -> str:
    """Read the text itself."""
    return text
