"""The processor ``truncate``: as much of a text as is wanted, cut where it hurts least, whole or piece by piece."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llmos import read_options
from llmos_data.texts import InPieces, choice
from llmos_kernel.api import number, of_type, string
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor, TextFilter

api = 1
"""The version of the processor contract that this module is written for."""
_PIECE = re.compile(r"\s+|\S+")
_JOINS = "\u200d\ufe0e\ufe0f"
"""Joiner and variation selectors: they belong to what is before them."""


@attrs.frozen(kw_only=True)
class Options:
    """What ``truncate`` can be told."""

    size: int = attrs.field(default=2000, validator=number(1, 2**30))
    """Most characters or words that are kept."""
    unit: Literal["characters", "words"] = attrs.field(default="characters", validator=choice("characters", "words"))
    """What is counted."""
    within: bool = attrs.field(default=False, validator=of_type(bool, "true or false"))
    """Cut within a word, to keep as many characters as there may be."""
    mark: str = attrs.field(default="…", validator=string)
    """What stands at the end of a text that was cut; it is not counted."""


@attrs.frozen
class Truncate(InPieces):
    """Cuts texts."""

    name = "truncate"
    options: Options

    def stage(self) -> TextFilter:
        """Return a filter that passes words on until they are enough."""
        return _Cut(self.options)


class _Cut(TextFilter):
    """Holds the last word or white space back, because it may go on."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._left = options.size
        self._space = ""
        """White space that is kept if something comes behind it."""
        self._held = ""
        self._cut = False

    def feed(self, text: str) -> str:
        """Pass on whole words."""
        if self._cut:
            return ""
        pieces = _PIECE.findall(self._held + text)
        self._held = pieces.pop() if pieces else ""
        if len(self._held) > self._left + len(self._options.mark) and self._options.unit == "characters":
            pieces.append(self._held)  # too long already, however it goes on
            self._held = ""
        return self._passed(pieces)

    def end(self) -> str:
        """Pass on what is held, and white space at the end if there is room for it."""
        if self._cut:
            return ""
        passed = self._passed([self._held] if self._held else [])
        whole = self._options.unit == "words" or len(self._space) <= self._left
        return passed + self._space if whole else passed

    def _passed(self, pieces: list[str]) -> str:
        passed: list[str] = []
        for piece in pieces:
            if piece.isspace():
                self._space += piece
            elif self._fits(piece):
                passed.append(self._space + piece)
                self._space = ""
            else:
                passed.append(self._begin(piece) + self._options.mark)
                self._cut, self._held, self._space = True, "", ""
                break
        return "".join(passed)

    def _fits(self, word: str) -> bool:
        needed = 1 if self._options.unit == "words" else len(self._space) + len(word)
        if needed > self._left:
            return False
        self._left -= needed
        return True

    def _begin(self, word: str) -> str:
        """Return what is kept of the word that does not fit: nothing, unless it is told or would be all."""
        room = self._left - len(self._space)
        if self._options.unit == "words" or room < 1 or not (self._options.within or self._left == self._options.size):
            return ""
        while room and room < len(word) and _belongs(word[room - 1 : room + 1]):
            room -= 1
        return self._space + word[:room] if room else ""


def _belongs(two: str) -> bool:
    """Return whether the second of two characters belongs to the first."""
    return bool(unicodedata.combining(two[1])) or two[1] in _JOINS or two[0] == "\u200d"


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a cutting processor; *config* holds `Options`.  Raises `ConfigError`."""
    return Truncate(read_options(Options, config, "processor:truncate"))
