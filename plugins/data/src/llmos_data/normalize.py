"""The processor ``normalize``: evens out text, on its way in or piece by piece on its way out.

In this order: line ends, control characters, Unicode normal form, white space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import attrs

from llmos import read_options
from llmos_data.stages import Chain, Controls, Form, LineEnds, Normal, Spaces
from llmos_kernel.api import of_type
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor, TextFilter

api = 1
"""The version of the processor contract that this module is written for."""


def _form(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    known = (*get_args(Form), "")
    if value not in known:
        expected = "NFC, NFD, NFKC, NFKD, or nothing"
        message = f"form must be {expected}, not {value!r:.80}"
        raise InvalidArgument(message, field="form", value=value, expected=expected)


_flag = of_type(bool, "true or false")


@attrs.frozen(kw_only=True)
class Options:
    """What ``normalize`` can be told."""

    form: Form | Literal[""] = attrs.field(default="NFC", validator=_form)
    """Unicode normal form; an empty string leaves characters as they are."""
    newlines: bool = attrs.field(default=True, validator=_flag)
    """Make every line end a line feed."""
    controls: bool = attrs.field(default=True, validator=_flag)
    """Leave out control characters, byte order marks and lone surrogates."""
    spaces: bool = attrs.field(default=True, validator=_flag)
    """Even out white space: one space between words, none at the ends, at most one empty line; indentation stays."""


@attrs.frozen
class Normalize(Processor):
    """Evens out text, the text of chat messages, and each of a list of texts."""

    options: Options = attrs.field(factory=Options)

    def process(self, value: Any, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as the contract has it
        """Return *value* with all its text evened out.  Raises `InvalidArgument` for what holds no text."""
        if isinstance(value, str):
            passage = self.filter(params)
            return passage.feed(value) + passage.end()
        if isinstance(value, list | tuple):
            return [self._item(item, f"input[{at}]", params) for at, item in enumerate(value)]
        raise _wrong("input", value, "a text, a list of texts or a list of messages")

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Return a filter that gives the same text in pieces."""
        return Chain(self._stages())

    def _stages(self) -> Iterator[TextFilter]:
        if self.options.newlines:
            yield LineEnds()
        if self.options.controls:
            yield Controls()
        if self.options.form:
            yield Normal(self.options.form)
        if self.options.spaces:
            yield Spaces()

    def _item(self, item: object, field: str, params: Mapping[str, Any]) -> object:
        """Return one of a list: a text, or a message with its content evened out, be it text or a list of parts."""
        if isinstance(item, str):
            return self.process(item, params)
        if not isinstance(item, Mapping):
            raise _wrong(field, item, "a text or a message")
        content = item.get("content")
        if isinstance(content, str):
            return {**item, "content": self.process(content, params)}
        if isinstance(content, list | tuple):
            return {**item, "content": [self._part(part, params) for part in content]}
        return item

    def _part(self, part: object, params: Mapping[str, Any]) -> object:
        """Return a part of a message's content; only text has something to even out."""
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            return {**part, "text": self.process(part["text"], params)}
        return part


def _wrong(field: str, value: object, expected: str) -> InvalidArgument:
    message = f"normalize: {field} must be {expected}, not {type(value).__name__}"
    return InvalidArgument(message, field=field, value=value, expected=expected)


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a normalising processor; *config* holds `Options`.  Raises `ConfigError`."""
    return Normalize(options=read_options(Options, config, "processor:normalize"))
