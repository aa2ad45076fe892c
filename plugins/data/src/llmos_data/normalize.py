"""The processor ``normalize``: evens out text, on its way in or piece by piece on its way out.

In this order: line ends, control characters, Unicode normal form, white space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import attrs

from llmos import read_options
from llmos_data.stages import Chain, Controls, Form, LineEnds, Normal, Spaces
from llmos_data.texts import InPieces
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
class Normalize(InPieces):
    """Evens out text, the text of chat messages, and each of a list of texts."""

    name = "normalize"
    options: Options = attrs.field(factory=Options)

    def stage(self) -> TextFilter:
        """Return the stages in their order."""
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


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a normalising processor; *config* holds `Options`.  Raises `ConfigError`."""
    return Normalize(options=read_options(Options, config, "processor:normalize"))
