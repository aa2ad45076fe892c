"""Shapes of the values of a file: each reads a value, or says what would be right, and describes itself to editors.

Both come from the one declaration, so that what an editor marks is what the reader refuses.  A `Table` is an attrs
class whose fields were made with `key`.
"""

from __future__ import annotations

import abc
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from llmos_kernel.errors import InvalidArgument, shown

T = TypeVar("T", bound=attrs.AttrsInstance)
Schema = dict[str, Any]


class Shape(abc.ABC):
    """What a value must be."""

    @abc.abstractmethod
    def read(self, name: str, value: Any) -> Any:  # noqa: ANN401 - the values of a TOML file
        """Return *value* as records hold it; raise `InvalidArgument` naming the key *name*, or `Wrong` with several."""

    @abc.abstractmethod
    def schema(self) -> Schema:
        """Return the same as a JSON schema (draft 7, which editors know)."""


class Wrong(Exception):
    """Several keys of a table are wrong."""

    def __init__(self, errors: Sequence[InvalidArgument]) -> None:
        super().__init__(str(errors[0]))
        self.errors = tuple(errors)


@attrs.frozen
class Text(Shape):
    """A string; of *choices*, if there are any."""

    choices: tuple[str, ...] = ()

    def read(self, name: str, value: Any) -> str:  # noqa: ANN401
        """Read it."""
        if self.choices:
            if value not in self.choices:
                near = difflib.get_close_matches(str(value), self.choices, n=1)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise wrong(name, value, f"one of {', '.join(map(repr, self.choices))}", hint)
        elif not isinstance(value, str) or not value:
            raise wrong(name, value, "a non-empty string")
        return str(value)

    def schema(self) -> Schema:
        """Describe it."""
        return {"enum": list(self.choices)} if self.choices else {"type": "string", "minLength": 1}


@attrs.frozen
class Number(Shape):
    """A number from *low* to *high*."""

    low: float
    high: float
    whole: bool = False

    def read(self, name: str, value: Any) -> float:  # noqa: ANN401
        """Read it; ``3.0`` is whole, as it is in JSON."""
        number = isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        if not number or (self.whole and value != int(value)):
            what = "a whole number" if self.whole else "a number"
            raise wrong(name, value, f"{what} from {_figure(self.low)} to {_figure(self.high)}")
        return int(value) if self.whole else value

    def schema(self) -> Schema:
        """Describe it."""
        return {"type": "integer" if self.whole else "number", "minimum": self.low, "maximum": self.high}


@attrs.frozen
class Flag(Shape):
    """True or false."""

    def read(self, name: str, value: Any) -> bool:  # noqa: ANN401
        """Read it."""
        if not isinstance(value, bool):
            raise wrong(name, value, "true or false")
        return value

    def schema(self) -> Schema:
        """Describe it."""
        return {"type": "boolean"}


@attrs.frozen
class Names(Shape):
    """A list of strings; a single one will do where *one* may stand alone."""

    one: bool = False

    def read(self, name: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Read it."""
        found = [value] if self.one and isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
            raise wrong(name, value, 'a list of names, such as ["a", "b"]')
        return tuple(found)

    def schema(self) -> Schema:
        """Describe it."""
        many = {"type": "array", "items": {"type": "string", "minLength": 1}}
        return {"anyOf": [{"type": "string", "minLength": 1}, many]} if self.one else many


@attrs.frozen
class Anything(Shape):
    """A table whose keys are somebody else's; *check* raises for what is wrong within."""

    expected: str = "a table"
    check: Callable[[str, Mapping[str, Any]], object] = lambda name, value: None

    def read(self, name: str, value: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """Read it."""
        if not isinstance(value, Mapping):
            raise wrong(name, value, self.expected)
        self.check(name, value)
        return dict(value)

    def schema(self) -> Schema:
        """Describe it."""
        return {"type": "object"}


@attrs.frozen
class Numbered(Shape):
    """A table from whole numbers, written as keys, to values of one shape."""

    each: Shape

    def read(self, name: str, value: Any) -> dict[int, Any]:  # noqa: ANN401
        """Read it."""
        if not isinstance(value, Mapping) or not all(str(key).isascii() and str(key).isdecimal() for key in value):
            raise wrong(name, value, "a table whose keys are whole numbers")
        return {int(key): self.each.read(f"{name}.{key}", item) for key, item in value.items()}

    def schema(self) -> Schema:
        """Describe it."""
        return {"type": "object", "patternProperties": {"^[0-9]+$": self.each.schema()}, "additionalProperties": False}


@attrs.frozen
class Table(Shape, Generic[T]):
    """A table with the keys of an attrs class."""

    kind: type[T]
    rules: Schema = attrs.field(factory=dict)
    """What the schema says besides; the class checks it itself."""

    def read(self, name: str, value: Any) -> T:  # noqa: ANN401
        """Read it.  Raises `Wrong` with an error for each key that is wrong."""
        if not isinstance(value, Mapping):
            raise wrong(name, value, "a table")
        keys, prefix = shapes(self.kind), f"{name}." if name else ""
        errors = [unknown(f"{prefix}{key}", key, value[key], keys) for key in value if key not in keys]
        errors += [missing(f"{prefix}{key}") for key in required(self.kind) if key not in value]
        found: dict[str, Any] = {}
        for key in (key for key in value if key in keys):
            try:
                found[key] = keys[key].read(f"{prefix}{key}", value[key])
            except InvalidArgument as error:
                errors.append(error)
            except Wrong as several:
                errors += several.errors
        if errors:
            order = list(value)
            raise Wrong(sorted(errors, key=lambda error: _place(str(error.fields["field"]), prefix, order)))
        return self.kind(**found)

    def schema(self) -> Schema:
        """Describe it."""
        described = {
            field.name: {**_described(field), **field.metadata["shape"].schema()} for field in _keys(self.kind)
        }
        needed = {"required": list(found)} if (found := required(self.kind)) else {}
        return {"type": "object", "properties": described, **needed, "additionalProperties": False, **self.rules}


def key(shape: Shape, what: str, default: object = attrs.NOTHING) -> Any:  # noqa: ANN401 - as attrs types fields
    """Return the field of a table: its shape, what it is for, and what it is if it is not given."""
    return attrs.field(default=default, metadata={"shape": shape, "what": what})


def shapes(kind: type[attrs.AttrsInstance]) -> dict[str, Shape]:
    """Return the keys of a table and their shapes."""
    return {field.name: field.metadata["shape"] for field in _keys(kind)}


def required(kind: type[attrs.AttrsInstance]) -> list[str]:
    """Return the keys that must be given."""
    return [field.name for field in _keys(kind) if field.default is attrs.NOTHING]


def wrong(name: str, value: object, expected: str, hint: str = "") -> InvalidArgument:
    """Return the error for a *value* that is not what is *expected*."""
    message = f"{name} must be {expected}, not {shown(value)}{hint}"
    return InvalidArgument(message, field=name, value=value, expected=expected)


def unknown(name: str, key: str, value: object, known: Iterable[str]) -> InvalidArgument:
    """Return the error for a *key* that there is not, with the nearest that there is."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    message = f"there is no key {name!r}; {hint}"
    return InvalidArgument(message, field=name, value=value, expected=known, nearest=near[0] if near else None)


def missing(name: str) -> InvalidArgument:
    """Return the error for a key that must be given."""
    return InvalidArgument(f"{name} is missing", field=name, value=None, expected=f"the key {name}")


def _keys(kind: type[attrs.AttrsInstance]) -> Iterator[attrs.Attribute[Any]]:
    return (field for field in attrs.fields(kind) if "shape" in field.metadata)


def _place(name: str, prefix: str, order: Sequence[str]) -> int:
    key = name.removeprefix(prefix).partition(".")[0]
    return order.index(key) if key in order else len(order)


def _described(field: attrs.Attribute[Any]) -> Schema:
    default: Any = field.default
    shown = {"default": default} if isinstance(default, str | int | float) and default != "" else {}
    return {"description": field.metadata["what"], **shown}


def _figure(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
