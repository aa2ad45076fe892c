"""Random JSON schemas whose texts are short: every string, array and object has a bound."""

from __future__ import annotations

import random
from typing import Any

NAMES = ("name", "age", "id", "x", "größe", "a b", 'q"uote', "日期")
PATTERNS = ("^[a-c]{1,4}$", "^(yes|no)$", "^[A-Z][a-z]{0,3}-[0-9]{2}$", "^\\d{1,3}$")


def random_schema(seed: int) -> dict[str, Any]:
    """Return the schema number *seed*; always the same one."""
    chance = random.Random(seed)
    schema = _any(chance, 2)
    if chance.random() < 0.2:
        return {"$defs": {"part": _any(chance, 1)}, "type": "array", "items": {"$ref": "#/$defs/part"}, "maxItems": 2}
    return schema


def _any(chance: random.Random, depth: int) -> dict[str, Any]:
    simple = (_string, _integer, _number, _enum, _fixed)
    nested = (_object, _object, _array, _union)
    return chance.choice(nested if depth and chance.random() < 0.7 else simple)(chance, depth - 1)


def _string(chance: random.Random, depth: int) -> dict[str, Any]:
    if chance.random() < 0.4:
        return {"type": "string", "pattern": chance.choice(PATTERNS)}
    low = chance.randrange(3)
    return {"type": "string", "minLength": low, "maxLength": low + chance.randrange(5)}


def _integer(chance: random.Random, depth: int) -> dict[str, Any]:
    low = chance.randint(-1000, 1000)
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": low + chance.randrange(2000)}
    return schema if chance.random() < 0.7 else {"type": "integer"}


def _number(chance: random.Random, depth: int) -> dict[str, Any]:
    low = round(chance.uniform(-50, 50), 2)
    return {"type": "number", "minimum": low, "exclusiveMaximum": low + 1 + chance.randrange(100)}


def _enum(chance: random.Random, depth: int) -> dict[str, Any]:
    return {"enum": chance.sample([1, "one", "ein s", None, True, [1, 2], {"a": 1}, -0.5, 'q"'], chance.randint(1, 4))}


def _fixed(chance: random.Random, depth: int) -> dict[str, Any]:
    return chance.choice([{"type": "boolean"}, {"type": "null"}, {"const": "exactly"}, {"type": ["integer", "null"]}])


def _array(chance: random.Random, depth: int) -> dict[str, Any]:
    low = chance.randrange(3)
    return {"type": "array", "items": _any(chance, depth), "minItems": low, "maxItems": low + chance.randrange(2)}


def _object(chance: random.Random, depth: int) -> dict[str, Any]:
    names = chance.sample(NAMES, chance.randint(1, 4))
    required = [name for name in names if chance.random() < 0.6]
    properties = {name: _any(chance, depth) for name in names}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _union(chance: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [_any(chance, depth) for _ in range(2)]}
