"""How long a model's steps take: a record of what was measured, for simulators, routers and capacity plans."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from llmos._files import write_whole
from llmos._plugin_options import read_options
from llmos_kernel.api import MAX_COUNT, mapping, number, string
from llmos_kernel.errors import ConfigError

FORMAT = 1
MAX_BYTES = 1 << 20
"""A larger file is no profile."""
_NEXT = "llmos profile MODEL --out FILE makes one"
"""What to do about a file that is none."""

_seconds = number(0, 3600, whole=False)
_share = number(0, MAX_COUNT, whole=False)


def _count(default: int) -> Any:  # noqa: ANN401 - attrs types fields as what they hold
    return attrs.field(default=default, validator=number(1, MAX_COUNT))


def _term() -> Any:  # noqa: ANN401 - the same
    return attrs.field(default=0.0, validator=_seconds)


@attrs.frozen(kw_only=True)
class StepProfile:
    """A measured model: what each part of a step takes, in seconds, and what a step may hold.

    A sum of terms, because a step reads all weights once (`fixed`), multiplies them by each token (`per_row`,
    `per_prompt_token`), and reads the cache of each row (`per_context_token`).  ``llmos profile`` measures it.
    """

    model: str = attrs.field(default="", validator=string)
    fixed: float = _term()
    """What every step takes."""
    per_row: float = _term()
    """For each task in the step, those whose prompt is computed included."""
    prompt_fixed: float = _term()
    """What a step takes more that computes a piece of a prompt, however short."""
    per_pass: float = _term()
    """For each pass through the model after the first: executors may run each piece of a prompt, and the tasks that
    decode, apart."""
    per_prompt_token: float = _term()
    per_context_token: float = _term()
    """For each token that is in the cache of the step's tasks before it."""
    per_prompt_context: float = _term()
    """For each pair of a prompt token of the step and one before it in the same prompt: what attention multiplies."""
    places: int = _count(16)
    """Most tasks that hold a place at once."""
    rows: int = _count(16)
    """Most tasks in one step."""
    tokens: int = _count(2**30)
    """Most tokens in one step."""
    chunks: int = _count(2**30)
    """Most prompts of which one step computes a piece."""
    context: int = _count(2**30)
    """Most tokens of one sequence."""
    machine: Mapping[str, Any] = attrs.field(factory=dict, validator=mapping)
    """Where it was measured."""
    date: str = attrs.field(default="", validator=string)
    """When, as ``2026-01-31 12:00 UTC``."""
    steps: int = attrs.field(default=0, validator=number(0, MAX_COUNT))
    """How many steps were measured; 0 for a profile that was made up."""
    r2: float = attrs.field(default=1.0, validator=number(-MAX_COUNT, 1, whole=False))
    """How much of the variance of the measured times the sum explains."""
    worst: float = attrs.field(default=0.0, validator=_share)
    """The largest relative error among the kinds of steps that were measured."""

    def seconds(
        self, rows: int, prompt_tokens: int, context_tokens: int = 0, prompt_context: int = 0, *, prompts: int = 1
    ) -> float:
        """Return how long a step takes with so many rows and prompt tokens; 0 for one without rows.

        *context_tokens* are in the cache of its rows before it; *prompt_context* are the pairs of a prompt token of
        this step and one before it: ``n * p + n * (n - 1) // 2`` for n tokens of a prompt of which p are computed.
        *prompts* of the rows are prompts, if there are prompt tokens.
        """
        if rows <= 0:
            return 0.0
        decoding = self.fixed + self.per_row * rows + self.per_context_token * context_tokens
        if not prompt_tokens:
            return decoding
        passes = prompts + (rows > prompts)
        prompt = self.per_prompt_token * prompt_tokens + self.per_prompt_context * prompt_context
        return decoding + self.prompt_fixed + self.per_pass * (passes - 1) + prompt

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Return the profile in the file *path*; raise `ConfigError` naming the file and the field that is wrong."""
        source = str(path)
        values = _parse(source)
        found = values.pop("format", None)
        if found != FORMAT:
            raise _wrong(source, "format", found, str(FORMAT))
        try:
            return read_options(cls, values, source)
        except ConfigError as error:
            raise ConfigError(error.message, **{**error.fields, "next": _NEXT}) from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the profile into the file *path*, which appears whole or not at all; raise `ConfigError`."""
        text = json.dumps({"format": FORMAT, **attrs.asdict(self)}, indent=2, allow_nan=False)
        _on_disk(str(path), lambda: write_whole(path, text + "\n"), "a path that can be written", "")


def _parse(source: str) -> dict[str, Any]:
    data = _on_disk(source, lambda: Path(source).read_bytes()[: MAX_BYTES + 1], "a file that can be read")
    if len(data) > MAX_BYTES:
        raise _wrong(source, "size", f"more than {MAX_BYTES} bytes", "a profile of `llmos profile`")
    try:
        values = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _wrong(source, "file", str(error), "one JSON object") from error
    if not isinstance(values, dict):
        raise _wrong(source, "file", type(values).__name__, "one JSON object")
    return values


def _on_disk(source: str, do: Callable[[], Any], expected: str, step: str = _NEXT) -> Any:  # noqa: ANN401 - any
    try:
        return do()
    except OSError as error:
        raise _wrong(source, "file", error.strerror, expected, step) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _wrong(source: str, field: str, value: object, expected: str, step: str = _NEXT) -> ConfigError:
    message = f"{source}: {field} must be {expected}, not {value!r:.120}"
    return ConfigError(message, field=field, value=value, expected=expected, source=source, next=step)
