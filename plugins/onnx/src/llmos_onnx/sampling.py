"""What a caller may ask of generation: every parameter, checked when the task is prepared."""

from __future__ import annotations

import difflib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.grammar import Constraint

if TYPE_CHECKING:
    from llmos_onnx.manifest import Generation

DEFAULT_MAX_TOKENS: Final = 256
"""Tokens generated when the caller names no number and the context has room for them."""
MAX_LOGPROBS: Final = 20
MAX_GRAMMAR: Final = 131_072
"""Longest source of a schema, a regular expression or a grammar, in characters."""
CONSTRAINTS: Final = ("schema", "regex", "grammar")
"""Parameters that say what the output must look like; at most one of them is given."""
_MAX_STOPS: Final = 64
_MAX_STOP_LENGTH: Final = 1024
_MAX_BIASES: Final = 4096


@attrs.frozen(kw_only=True)
class SamplingParams:
    """How the next token is chosen and when to stop.  `read_params` makes one from a task's ``params``."""

    max_tokens: int
    min_tokens: int = 0
    """End tokens and stop strings have no effect before this many tokens."""
    temperature: float = 0.0
    """0 takes the most likely token; 1 samples from the model's own distribution."""
    top_k: int = 0
    """Sample among this many most likely tokens; 0 is all."""
    top_p: float = 1.0
    """Sample among the fewest most likely tokens whose probabilities reach this sum."""
    min_p: float = 0.0
    """Sample among tokens at least this many times as likely as the most likely one."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens in prompt and output."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens in the output."""
    frequency_penalty: float = 0.0
    """Subtracted from the logits of tokens in the output, once per occurrence."""
    logit_bias: Mapping[int, float] = attrs.field(factory=dict)
    """Added to the logits of these tokens."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None
    """Report the chosen token's log probability and those of this many most likely ones."""
    constraint: Constraint | None = None
    """What the output must look like; ``schema``, ``regex`` or ``grammar`` says it."""


def read_params(params: Mapping[str, Any], *, defaults: Generation, room: int, vocab: int) -> SamplingParams:
    """Check *params*; *room* is how many tokens fit after the prompt.

    Raises `InvalidArgument` naming the parameter, its value and what would be right.
    """
    for name in params:
        if name not in _READERS:
            close = difflib.get_close_matches(str(name), _READERS, n=1)
            expected = f"{close[0]!r} perhaps; " if close else ""
            expected += f"one of {', '.join(sorted(_READERS))}"
            raise InvalidArgument(
                f"unknown parameter {name!r}: {expected}", field=f"params.{name}", value=name, expected=expected
            )
    given = {name: value for name, value in params.items() if value is not None}
    values: dict[str, Any] = {
        name: value for name, value in attrs.asdict(defaults).items() if value is not None and name in _READERS
    }
    values |= {name: _READERS[name](f"params.{name}", value, vocab) for name, value in given.items()}
    values["constraint"] = _one_constraint(values)
    values.setdefault("max_tokens", min(DEFAULT_MAX_TOKENS, room))
    values.setdefault("seed", secrets.randbits(63))
    result = SamplingParams(**values)
    if result.max_tokens > room:
        expected = f"at most {room}: the context has no room for more"
        raise InvalidArgument.of("params.max_tokens", result.max_tokens, expected)
    if result.min_tokens > result.max_tokens:
        raise InvalidArgument.of("params.min_tokens", result.min_tokens, f"at most max_tokens, {result.max_tokens}")
    return result


def _one_constraint(values: dict[str, Any]) -> Constraint | None:
    """Take the parameters that say what the output must look like out of *values*."""
    found: list[Constraint] = [values.pop(kind) for kind in CONSTRAINTS if kind in values]
    if not found:
        return None
    kinds = [constraint.kind for constraint in found]
    if len(kinds) > 1:
        raise InvalidArgument.of(f"params.{kinds[1]}", found[1].source, f"left out beside {kinds[0]}: one decides")
    if values.get("ignore_eos"):
        raise InvalidArgument.of("params.ignore_eos", True, f"false beside {kinds[0]}, which says where the end is")
    return found[0]


def _whole(low: int, high: int) -> Callable[[str, object, int], int]:
    def read(field: str, value: object, vocab: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidArgument.of(field, value, f"a whole number from {low} to {high}")
        return value

    return read


def _real(low: float, high: float) -> Callable[[str, object, int], float]:
    def read(field: str, value: object, vocab: int) -> float:
        # A comparison with NaN is false, and an integer too large for a float is out of range before it is converted.
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidArgument.of(field, value, f"a number from {low:g} to {high:g}")
        return float(value)

    return read


def _flag(field: str, value: object, vocab: int) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument.of(field, value, "true or false")
    return value


def _stops(field: str, value: object, vocab: int) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else value
    if isinstance(stops, list | tuple) and len(stops) <= _MAX_STOPS:
        texts = tuple(stop for stop in stops if isinstance(stop, str) and 0 < len(stop) <= _MAX_STOP_LENGTH)
        if len(texts) == len(stops):
            return texts
    raise InvalidArgument.of(
        field, value, f"a string or at most {_MAX_STOPS}, of 1 to {_MAX_STOP_LENGTH} characters each"
    )


def _tokens(field: str, value: object, vocab: int) -> frozenset[int]:
    if not isinstance(value, list | tuple | set | frozenset) or len(value) > _MAX_BIASES:
        raise InvalidArgument.of(field, value, f"a list of at most {_MAX_BIASES} token ids")
    return frozenset(check_token(field, token, vocab) for token in value)


def _biases(field: str, value: object, vocab: int) -> dict[int, float]:
    if not isinstance(value, Mapping) or len(value) > _MAX_BIASES:
        raise InvalidArgument.of(field, value, f"a mapping of at most {_MAX_BIASES} token ids to numbers")
    bias = _real(-100.0, 100.0)
    # JSON has no integer keys, so digits do as well.
    ids = {int(key) if isinstance(key, str) and key.isdecimal() and key.isascii() else key: key for key in value}
    return {check_token(field, token, vocab): bias(f"{field}.{key}", value[key], vocab) for token, key in ids.items()}


def _schema(field: str, value: object, vocab: int) -> Constraint:
    expected = f"a JSON schema: a mapping of plain values, at most {MAX_GRAMMAR} characters as JSON"
    try:
        text = json.dumps(value, allow_nan=False) if isinstance(value, Mapping) else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument.of(field, value, expected) from error
    if not 0 < len(text) <= MAX_GRAMMAR:
        raise InvalidArgument.of(field, value, expected)
    return Constraint("schema", text)


def _grammar(kind: str) -> Callable[[str, object, int], Constraint]:
    def read(field: str, value: object, vocab: int) -> Constraint:
        if not isinstance(value, str) or not 0 < len(value) <= MAX_GRAMMAR:
            raise InvalidArgument.of(field, value, f"a string of 1 to {MAX_GRAMMAR} characters")
        return Constraint(kind, value)

    return read


def check_token(field: str, token: object, vocab: int) -> int:
    """Return *token* if it is an id below *vocab*; raise `InvalidArgument` naming *field* otherwise."""
    if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < vocab:
        raise InvalidArgument.of(field, token, f"a token id from 0 to {vocab - 1}")
    return token


def check_tokens(field: str, tokens: Iterable[object], vocab: int) -> list[int]:
    """Return *tokens* as a list of ids below *vocab*; raise `InvalidArgument` naming *field* otherwise."""
    return [check_token(field, token, vocab) for token in tokens]


_READERS: Final[Mapping[str, Callable[[str, object, int], object]]] = {
    "max_tokens": _whole(1, 2**24),
    "min_tokens": _whole(0, 2**24),
    "temperature": _real(0.0, 100.0),
    "top_k": _whole(0, 2**24),
    "top_p": _real(0.0, 1.0),
    "min_p": _real(0.0, 1.0),
    "repetition_penalty": _real(0.01, 100.0),
    "presence_penalty": _real(-100.0, 100.0),
    "frequency_penalty": _real(-100.0, 100.0),
    "logit_bias": _biases,
    "seed": _whole(0, 2**64 - 1),
    "stop": _stops,
    "stop_token_ids": _tokens,
    "ignore_eos": _flag,
    "logprobs": _whole(0, MAX_LOGPROBS),
    "schema": _schema,
    "regex": _grammar("regex"),
    "grammar": _grammar("grammar"),
}
