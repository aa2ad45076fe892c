"""The processor ``json-repair``: JSON from what a model wrote for JSON, with fences, comments, missing ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
from json_repair import repair_json

from llmos import read_options
from llmos_data.texts import OnTexts
from llmos_kernel.api import check_number, number
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor

api = 1
"""The version of the processor contract that this module is written for."""


@attrs.frozen(kw_only=True)
class Options:
    """What ``json-repair`` can be told."""

    limit: int = attrs.field(default=100_000, validator=number(1, 2**26))
    """Most characters of a text: nonsense of that size takes seconds to be found out."""
    indent: int = attrs.field(default=0, validator=number(0, 16))
    """Spaces per level; 0: one line."""


@attrs.frozen
class JsonRepair(OnTexts):
    """Makes valid JSON (RFC 8259) of text.  As a post-processor it waits for the end: the last bracket decides."""

    name = "json-repair"
    options: Options

    def change(self, text: str) -> str:
        """Return JSON.  Raises `InvalidArgument` where there is none to be found, or too much of it."""
        check_number("characters of input", len(text), 0, self.options.limit)
        try:
            value: Any = repair_json(text, return_objects=True)
            if value == "" and not text.strip().startswith('"'):
                raise ValueError("there is none in it")
            return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=self.options.indent or None)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            message = f"{self.name}: input cannot be read as JSON: {reason}"
            raise InvalidArgument(message, field="input", value=text[:80], expected="something like JSON") from error


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a repairing processor; *config* holds `Options`.  Raises `ConfigError`."""
    return JsonRepair(read_options(Options, config, "processor:json-repair"))
