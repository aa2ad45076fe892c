"""Reading a plugin's configuration into an attrs class, with errors that name the key and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import attrs

from llmos_kernel.errors import ConfigError, InvalidArgument

T = TypeVar("T", bound=attrs.AttrsInstance)


def read_options(kind: type[T], config: Mapping[str, Any], source: str) -> T:
    """Return *config*, what a hook of the plugin *source* (``kind:name``) was given, as an instance of *kind*.

    *kind* is an attrs class whose validators raise `InvalidArgument`, as those of `llmos_kernel.api` do.  Raises
    `ConfigError` for a key that *kind* has not, naming the nearest one, and for a value that it refuses.
    """
    known = list(attrs.fields_dict(kind))
    for key in config:
        if key not in known:
            nearest = next(iter(get_close_matches(str(key), known, n=1, cutoff=0)), None)
            facts = {"field": str(key), "value": config[key], "expected": known, "nearest": nearest, "source": source}
            hint = f"; the nearest is {nearest!r}" if nearest else ": it has none"
            raise ConfigError(f"{source} has no option {key!r}{hint}", **facts)
    try:
        return kind(**config)
    except InvalidArgument as error:
        raise ConfigError(f"{source}: {error.message}", **{**error.fields, "source": source}) from error
