"""Reading untrusted JSON: every refusal names the file, the field, its value and what would be right.

A model folder and a checkpoint come from strangers.  `read_json` bounds what it parses and refuses duplicate keys
(two readers could believe different ones); `Fields` reads one object of it, field by field, within stated ranges.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from llmos_kernel.errors import ModelUnavailable

MAX_JSON_BYTES: Final = 1 << 20
MAX_ELEMENTS: Final = 1_000_000
"""Most elements of a file, unless it is read with another limit: each takes up to a hundred bytes."""
_SHOWN: Final = 120
_LONGEST_NAME: Final = 300


def refusal(model: str, field: str, value: object, expected: str) -> ModelUnavailable:
    """Return the error that says that *field* of *model* is *value* where *expected* would be right."""
    if len(field) > _LONGEST_NAME:
        field = field[:_LONGEST_NAME] + "…"
    shown = repr(value[:_SHOWN] if isinstance(value, str) else value)
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "…"
    message = f"model {model!r} is refused: {field} is {shown}, expected {expected}"
    return ModelUnavailable(message, model=model, field=field, value=shown, expected=expected)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``known, known, …`` with the names most like *name* first, for the *expected* of a refusal."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:_LONGEST_NAME], names, n=3)
    return ", ".join([*close, *(other for other in names if other not in close)])


def read_json(
    data: bytes, *, model: str, where: str, limit: int = MAX_JSON_BYTES, elements: int = MAX_ELEMENTS
) -> Fields:
    """Parse *data* as one JSON object of at most *limit* bytes and about as many *elements*.

    Raises `ModelUnavailable` for anything else.
    """
    if len(data) > limit:
        raise refusal(model, f"{where}: size", len(data), f"at most {limit} bytes")
    # What may begin an element; within strings it counts too, which no real file comes near.
    found = sum(map(data.count, (b",", b"[", b"{")))
    if found > elements:
        raise refusal(model, f"{where}: elements", found, f"at most {elements}")
    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise refusal(model, where, str(error), "one JSON object (UTF-8, no duplicate keys, no NaN)") from error
    if not isinstance(values, dict):
        raise refusal(model, where, type(values).__name__, "one JSON object")
    return Fields(model, where, values)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice")
    return values


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


@attrs.frozen
class Fields:
    """One JSON object at *where* in a file of *model*; each reader raises `ModelUnavailable` naming the field.

    A reader returns its *default* where the key is absent or null, and refuses when there is no default.
    """

    model: str
    where: str
    values: Mapping[str, object]

    def refuse(self, name: str, expected: str) -> ModelUnavailable:
        """Return the error for the field *name* as it stands."""
        return refusal(self.model, f"{self.where}: {name}", self.values.get(name, "missing"), expected)

    def only(self, known: Iterable[str]) -> None:
        """Refuse the first key that is not *known*."""
        names = set(known)
        for name in self.values:
            if name not in names:
                raise refusal(self.model, self.where, name, f"one of {nearest(name, names)}")

    def has(self, name: str) -> bool:
        """Say whether *name* is there and not null."""
        return self.values.get(name) is not None

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer within *low* … *high*."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(name, f"an integer within {low} … {high}")
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """Return a finite number within *low* … *high* as a float."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self.refuse(name, f"a number within {low:g} … {high:g}")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return true or false."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def text(self, name: str, limit: int, default: str | None = None) -> str:
        """Return a string of at most *limit* characters."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or len(value) > limit:
            raise self.refuse(name, f"a string of at most {limit} characters")
        return value

    def choice(self, name: str, known: Iterable[str], default: str | None = None) -> str:
        """Return one of the *known* strings."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        names = tuple(known)
        if not isinstance(value, str) or value not in names:
            raise self.refuse(name, f"one of {nearest(str(value), names)}")
        return value

    def integers(self, name: str, low: int, high: int, most: int) -> tuple[int, ...]:
        """Return a list of at most *most* integers within *low* … *high*."""
        items = self.values.get(name)
        if isinstance(items, list) and len(items) <= most:
            found = tuple(item for item in items if type(item) is int and low <= item <= high)
            if len(found) == len(items):
                return found
        raise self.refuse(name, f"a list of at most {most} integers within {low} … {high}")

    def numbers(self, name: str, low: float, high: float, most: int) -> tuple[float, ...]:
        """Return a list of at most *most* finite numbers within *low* … *high*."""
        items = self.values.get(name)
        if isinstance(items, list) and len(items) <= most:
            found = tuple(float(item) for item in items if type(item) in (int, float) and low <= item <= high)
            if len(found) == len(items):
                return found
        raise self.refuse(name, f"a list of at most {most} numbers within {low:g} … {high:g}")

    def inner(self, name: str) -> Fields:
        """Return the object under *name*."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.refuse(name, "an object")
        return Fields(self.model, f"{self.where}: {name}", value)
