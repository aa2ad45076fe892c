"""The processor ``format``: records as JSON, CSV or a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llmos import read_options
from llmos_data.codecs import WriteCsv
from llmos_data.texts import choice
from llmos_kernel.api import listed, names, number
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor

api = 1
"""The version of the processor contract that this module is written for."""
_RECORDS = "records: a list of mappings, a mapping, or JSON of one"


@attrs.frozen(kw_only=True)
class Options:
    """What ``format`` can be told."""

    to: Literal["json", "csv", "markdown"] = attrs.field(
        default="markdown", validator=choice("json", "csv", "markdown")
    )
    """What records become."""
    columns: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Fields that are written, in this order; empty: all, in the order in which they come."""
    indent: int = attrs.field(default=0, validator=number(0, 16))
    """Spaces per level of JSON; 0: one line."""


@attrs.frozen
class Format(Processor):
    """Writes records.  As a post-processor it waits for the end of the JSON that it reads."""

    options: Options

    def process(self, value: Any, params: Mapping[str, Any]) -> str:  # noqa: ANN401 - as the contract has it
        """Return the text.  Raises `InvalidArgument` for what is no record, and for a field that is missing."""
        records = _records(value)
        columns = self.options.columns or tuple(dict.fromkeys(name for record in records for name in record))
        chosen = [{name: record[name] for name in columns if name in record} for record in records]
        if self.options.to == "markdown":
            return "\n".join(
                [_row(columns), _row(["---"] * len(columns)), *(_row(_cells(one, columns)) for one in chosen)]
            )
        try:
            if self.options.to == "json":
                return json.dumps(chosen, ensure_ascii=False, allow_nan=False, indent=self.options.indent or None)
            table = WriteCsv(columns)
            return b"".join([table.head(), *map(table.write, chosen)]).decode()
        except (TypeError, ValueError, RecursionError) as error:
            message = f"format: input cannot be written as {self.options.to}: {error}"
            raise InvalidArgument(message, field="input", value=None, expected="plain values") from error


def _records(value: object) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument.of("input", value, _RECORDS) from error
    found = [value] if isinstance(value, dict) else value
    if not isinstance(found, list | tuple) or not all(isinstance(record, dict) for record in found):
        raise InvalidArgument.of("input", value, _RECORDS)
    return list(found)


def _cells(record: Mapping[str, Any], columns: tuple[str, ...]) -> list[str]:
    values = [record.get(name, "") for name in columns]
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str) for value in values]


def _row(cells: Any) -> str:  # noqa: ANN401 - an iterable of texts
    """Return a row of a table of GitHub Flavored Markdown: bars are escaped, line ends become <br>."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells) + " |"


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a processor that writes records; *config* holds `Options`.  Raises `ConfigError`."""
    return Format(read_options(Options, config, "processor:format"))
