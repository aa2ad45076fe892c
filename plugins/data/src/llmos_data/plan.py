"""What ``llmos data run`` is to do with each record.  Plain values, so that it crosses to worker processes."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

import attrs

from llmos_kernel.api import check_number, listed, names, number, of_type, string, text
from llmos_kernel.errors import InvalidArgument

Format = Literal["jsonl", "csv", "parquet", "folder"]
FORMATS: tuple[str, ...] = get_args(Format)
UNITS = {"jsonl": "line", "csv": "record", "parquet": "row", "folder": "file"}
"""What a record is called where it comes from."""
TEXTS = (".txt", ".text", ".md", ".markdown", ".rst", ".html", ".htm", ".xml", ".tex")
"""Ends of the names of files that hold text, unless told."""
LIMIT = 2**24
"""Bytes of the longest record, unless told."""
_flag = of_type(bool, "true or false")


def _format(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in FORMATS:
        raise InvalidArgument.of(attribute.name, value, f"one of {', '.join(FORMATS)}")


def _some(instance: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    names(instance, attribute, value)
    check_number(f"number of {attribute.name}", len(value), 1, 1000)


@attrs.frozen(kw_only=True)
class Plan:
    """What is done with each record."""

    pipeline: str = attrs.field(validator=text)
    """Name of a pipeline, or processors with commas between them."""
    source: Format = attrs.field(default="jsonl", validator=_format)
    target: Format = attrs.field(default="jsonl", validator=_format)
    fields: tuple[str, ...] = attrs.field(default=("text",), converter=listed, validator=_some)
    """Fields that pass the pipeline, each by itself."""
    into: str = attrs.field(default="", validator=string)
    """Field that gets the result; empty: the one that it was made of."""
    keep: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Fields that are written; empty: all."""
    explode: bool = attrs.field(default=False, validator=_flag)
    """Make a record of each item, where the result is a list."""
    suffixes: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Ends of the names of a folder's files that are read; empty: those of `TEXTS`."""
    columns: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Columns of the source, where its head names them."""
    limit: int = attrs.field(default=LIMIT, validator=number(1, 2**30))
    """Bytes of the longest record."""
    rejecting: bool = attrs.field(default=False, validator=_flag)
    """Whether what is wrong with a record is noted, instead of ending the run."""

    def __attrs_post_init__(self) -> None:
        """Refuse what only looks as if it fitted together."""
        if (self.into or self.explode) and len(self.fields) > 1:
            field, expected = "into" if self.into else "explode", "one field, where there is one result"
            message = f"{field} is for one field, and {len(self.fields)} are to be processed"
            raise InvalidArgument(message, field=field, value=list(self.fields), expected=expected)

    @property
    def result(self) -> str:
        """The field with the result, where there is one."""
        return self.into or self.fields[0]

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that are written, as far as they are known beforehand."""
        new = () if not self.into or self.into in self.columns else (self.into,)
        return self.keep or ((*self.columns, *new) if self.columns else ())

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps(attrs.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, written: str) -> Plan:
        """Return what `to_json` wrote."""
        return cls(**json.loads(written))
