"""Reading a plugin's configuration into an attrs class, with errors that name the key and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import attrs

from llmos_kernel.api import check_type
from llmos_kernel.errors import ConfigError, InvalidArgument

T = TypeVar("T", bound=attrs.AttrsInstance)


def flag(instance: object, attribute: attrs.Attribute[bool], value: object) -> None:
    """attrs validator: true or false."""
    check_type(attribute.name, value, bool, "true or false")


def one_of(*choices: str) -> Any:  # noqa: ANN401 - attrs types validators as Any
    """Return an attrs validator: one of *choices*, by name."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in choices:
            raise InvalidArgument.of(attribute.name, value, " or ".join(map(repr, choices)))

    return validate


def read(kind: type[T], config: Mapping[str, Any], source: str) -> T:
    """Return *config* as an instance of the attrs class *kind*.

    Raises `ConfigError` for a key that *kind* has not, naming the nearest one, and for a value that it refuses.
    """
    known = list(attrs.fields_dict(kind))
    for key in config:
        if key not in known:
            nearest = get_close_matches(str(key), known, n=1, cutoff=0)[0]
            facts = {"field": str(key), "value": config[key], "expected": known, "nearest": nearest, "source": source}
            raise ConfigError(f"{source} has no option {key!r}; the nearest is {nearest!r}", **facts)
    try:
        return kind(**config)
    except InvalidArgument as error:
        raise ConfigError(f"{source}: {error.message}", **{**error.fields, "source": source}) from error
