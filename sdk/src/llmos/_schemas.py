"""Checking values by the JSON schemas of task files.  Nothing is ever fetched: a schema is whole, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmos_kernel.errors import InvalidArgument, shown


class Checker:
    """Checks values by *schema*, which is the key *name* of a file.

    Raises `InvalidArgument` for what is no JSON schema: one whose keywords have values that they cannot have, or that
    refers to somewhere else than itself.
    """

    def __init__(self, name: str, schema: Mapping[str, Any]) -> None:
        from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - 100 ms that only schemas pay
        from jsonschema.validators import validator_for  # noqa: PLC0415 - the same
        from referencing import Registry  # noqa: PLC0415 - the same

        expected = "a JSON schema"
        kind = validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            at = ".".join(map(str, (name, *error.absolute_path)))
            message = f"{at} is not what a JSON schema has there: {error.message:.200}"
            raise InvalidArgument(message, field=at, value=error.instance, expected=expected) from error
        except RecursionError as error:
            raise InvalidArgument.of(name, "a schema nested too deeply", expected) from error
        away = next(_elsewhere(schema), None)
        if away is not None:
            message = f"{name} refers to {away!r:.80}; a schema refers to itself only: #/$defs/..."
            raise InvalidArgument(message, field=name, value=away, expected="references that begin with #")
        self._name, self._validator = name, kind(schema, registry=Registry())

    def check(self, value: object) -> None:
        """Raise `InvalidArgument`, naming the place, unless *value* is as the schema says."""
        from jsonschema.exceptions import best_match  # noqa: PLC0415 - the same
        from referencing.exceptions import Unresolvable  # noqa: PLC0415 - the same

        try:
            error = best_match(self._validator.iter_errors(value))
        except (Unresolvable, RecursionError) as failure:
            message = f"{self._name} cannot be checked: {type(failure).__name__}: {failure!s:.200}"
            expected = "a schema whose references lead somewhere"
            raise InvalidArgument(message, field=self._name, value=value, expected=expected) from failure
        if error is None:
            return
        at = f"{self._name}{''.join(map(_step, error.absolute_path))}"
        expected = f"{error.validator} {shown(error.validator_value)}"
        raise InvalidArgument(f"{at}: {error.message:.200}", field=at, value=error.instance, expected=expected)


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part}"


def _elsewhere(value: object) -> Iterator[str]:
    """Yield references that lead out of the schema."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(item, str) and not item.startswith("#"):
                yield item
            yield from _elsewhere(item)
    elif isinstance(value, list):
        for item in value:
            yield from _elsewhere(item)
