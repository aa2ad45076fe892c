"""The options of an export with optimum."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import attrs

from llmos_kernel.errors import InvalidArgument

TASKS: Final = ("auto", "generate", "embed", "classify")
_LONGEST: Final = 1 << 20
_SECONDS: Final = 86_400.0


@attrs.frozen(kw_only=True)
class Options:
    """What may be asked of an export, by the names that the command line gives it."""

    task: str = "auto"
    """What the model is for: one of `TASKS`; ``auto`` asks the checkpoint's ``config.json``."""
    context: int | None = None
    """Most tokens of one sequence; by default what the checkpoint says."""
    name: str | None = None
    """The model's name; by default the source folder's."""
    licence: str | None = None
    """By default what the model card says."""
    python: str = attrs.field(factory=lambda: sys.executable)
    """The interpreter that has optimum and torch; by default the one that runs now."""
    timeout: float = 3600.0
    """Seconds that the export may take."""
    weights: str = "fp32"
    """optimum writes single precision; the native exporter has other formats."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Options:
        """Check *values*, of which None counts as absent; raise `InvalidArgument` naming the first that is wrong."""
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            if name not in _CHECKS:
                nearest = get_close_matches(name, _CHECKS, n=1, cutoff=0)
                raise _wrong(name, value, f"one of the options {', '.join(_CHECKS)} ({nearest[0]!r} perhaps)")
            kinds, holds, expected = _CHECKS[name]
            if not isinstance(value, kinds) or isinstance(value, bool) or not holds(value):
                raise _wrong(name, value, expected)
        return cls(**given)


_CHECKS: Final[dict[str, tuple[tuple[type, ...], Any, str]]] = {
    "task": ((str,), TASKS.__contains__, f"one of {', '.join(TASKS)}"),
    "context": ((int,), lambda value: 4 <= value <= _LONGEST, f"an integer within 4 … {_LONGEST}"),
    "name": ((str,), lambda value: 0 < len(value) <= 200, "a name of at most 200 characters"),
    "licence": ((str,), lambda value: 0 < len(value) <= 200, "a name of at most 200 characters"),
    "python": ((str,), bool, "the path of a Python interpreter"),
    "timeout": ((int, float), lambda value: 0 < value <= _SECONDS, f"seconds, more than 0 and at most {_SECONDS:g}"),
    "weights": ((str,), ("fp32",).__contains__, "fp32: optimum exports single precision; --with native has others"),
}


def _wrong(name: str, value: object, expected: str) -> InvalidArgument:
    message = f"option {name} is {value!r:.80}, expected {expected}"
    return InvalidArgument(message, field=name, value=value, expected=expected)
