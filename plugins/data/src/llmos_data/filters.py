"""The filters that templates may use.

Jinja's own, less those that can make much of little in one step (``center``, ``format``, ``wordwrap``, ``batch``,
``slice``, ...), look inside objects (``attr``, ``pprint``), draw lots (``random``) or write HTML.  ``join``,
``replace``, ``indent`` and ``round`` say beforehand how large their result will be; ``tojson`` writes plain
JSON, not HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from jinja2 import Environment, Undefined, pass_environment
from jinja2 import filters as jinja
from jinja2.exceptions import TemplateRuntimeError

from llmos_data.meter import Exceeded, current

Filter = Callable[..., Any]
MOST_PLACES = 16
"""Decimal places and columns of indentation."""


def text(value: object) -> str:
    """Return *value* as it is printed.  Only text, numbers, true, false and none are; an undefined one raises."""
    if value is None or isinstance(value, str | int | float | Undefined):
        return str(value)
    raise TemplateRuntimeError(f"a {type(value).__name__} cannot be printed: use join, items or tojson")


def number(field: str, value: object) -> int:
    """Return *value* if it is a reasonable number of places; raise `Exceeded` otherwise."""
    if isinstance(value, int) and -MOST_PLACES <= value <= MOST_PLACES:
        return value
    raise Exceeded(f"{field} must be a whole number up to {MOST_PLACES}")


@pass_environment
def join(environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Return the items as text with *d* between them."""
    get: Filter = (lambda item: item) if attribute is None else jinja.make_attrgetter(environment, attribute)
    meter = current.get()
    parts, size, between = [], 0, text(d)
    for item in value:
        parts.append(text(get(item)))
        size += len(parts[-1]) + len(between)
        meter.fits(size)
    return between.join(parts)


def replace(s: object, old: object, new: object, count: int = -1) -> str:
    """Return *s* with *new* for *old*, everywhere or the first *count* times."""
    whole, before, after = text(s), text(old), text(new)
    found = whole.count(before)
    current.get().fits(len(whole) + len(after) * (found if count < 0 else min(found, count)))
    return whole.replace(before, after, count)


def indent(s: object, width: int = 4, first: bool = False, blank: bool = False) -> str:
    """Return *s* with its lines moved to the right: all but the first, and all but empty ones, unless told."""
    whole, margin = text(s), " " * number("the width of an indentation", width)
    current.get().fits(len(whole) + len(margin) * (whole.count("\n") + 1))
    lines = [margin + line if line or blank else line for line in whole.split("\n")]
    return "\n".join(lines) if first else "\n".join(lines)[len(margin) if lines[0] else 0 :]


def round_(value: float, precision: int = 0, method: str = "common") -> float:
    """Return *value* rounded to *precision* places: ``common``, ``ceil`` or ``floor``."""
    rounded: float = jinja.FILTERS["round"](value, number("the precision", precision), method)
    return rounded


def tojson(value: object, indent: int | None = None) -> str:
    """Return *value* as JSON, with letters of every language as they are."""
    margin = None if indent is None else number("the width of an indentation", indent)
    return json.dumps(current.get().weigh(value), ensure_ascii=False, indent=margin)


def escape(value: object) -> str:
    """Return *value* with the characters that mean something in XML and HTML replaced."""
    return str(jinja.FILTERS["escape"](text(value)))


def _metered(function: Filter) -> Filter:
    @wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as filters are
        return current.get().weigh(function(*args, **kwargs))

    return filtered


def _on_text(name: str) -> Filter:
    """Return one of Jinja's filters for text, for what can be printed only."""
    function = jinja.FILTERS[name]

    @wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as filters are
        first = next(at for at, value in enumerate(args) if not isinstance(value, Environment))
        return function(*args[:first], text(args[first]), *args[first + 1 :], **kwargs)

    return filtered


_PLAIN = (
    "abs count d default dictsort first float int items last length list map max min reject rejectattr reverse select "
    "selectattr sort sum unique"
).split()
_TEXT = "capitalize lower title trim truncate upper wordcount".split()

FILTERS: Mapping[str, Filter] = {
    name: _metered(function)
    for name, function in (
        *((name, jinja.FILTERS[name]) for name in _PLAIN),
        *((name, _on_text(name)) for name in _TEXT),
        ("join", join), ("replace", replace), ("indent", indent), ("round", round_), ("tojson", tojson),
        ("e", escape), ("escape", escape), ("string", text),
    )
}  # fmt: skip
"""Every filter by name; each looks at the clock and weighs its result."""
