"""The processor ``stop-words``: leaves out words that say little by themselves, whole or piece by piece."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from llmos import read_options
from llmos_data.texts import InPieces, nearest
from llmos_data.words import WORDS
from llmos_kernel.api import listed, names
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor, TextFilter

api = 1
"""The version of the processor contract that this module is written for."""
_WORD = re.compile(r"[\w'’]")
_CLOSING = ".,;:!?…)]}»"
_PIECE = re.compile(r"[\w'’]+|[^\w'’]+")


def _language(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("", *WORDS):
        expected = f"one of {', '.join(WORDS)}, or nothing"
        message = f"language must be {expected}, not {value!r:.80}{nearest(str(value), WORDS)}"
        raise InvalidArgument(message, field="language", value=value, expected=expected)


@attrs.frozen(kw_only=True)
class Options:
    """What ``stop-words`` can be told."""

    language: str = attrs.field(default="en", validator=_language)
    """Whose words are left out; empty: only those of `words`."""
    words: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Words that are left out besides."""
    keep: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Words that stay although the language's list has them."""


@attrs.frozen
class StopWords(InPieces):
    """Leaves words out, with the space that came before them."""

    name = "stop-words"
    words: frozenset[str]

    def stage(self) -> TextFilter:
        """Return a filter that passes on words that are whole."""
        return _Without(self.words)


class _Without(TextFilter):
    """Holds back the last word, which may go on, and what stands before it, which goes if it goes."""

    def __init__(self, words: frozenset[str]) -> None:
        self._words = words
        self._held = ""
        self._between = ""
        self._begun = self._dropped = False
        """Whether anything was passed on, and whether the last word was not."""

    def feed(self, text: str) -> str:
        """Pass on what is settled."""
        pieces = _PIECE.findall(self._held + text)
        self._held = pieces.pop() if pieces else ""
        return "".join(map(self._passed, pieces))

    def end(self) -> str:
        """Pass on what is held."""
        return (self._passed(self._held) if self._held else "") + self._between

    def _passed(self, piece: str) -> str:
        if not _is_word(piece):
            # Of the spaces around a word that went, one is enough; at the beginning none.
            if self._dropped and piece[0] in _CLOSING:
                self._between = self._between.rstrip(" \t")
            near = self._between[-1:] if self._between else "" if self._begun and not self._dropped else " "
            self._between += piece.lstrip(" \t") if self._dropped and near in " \t" else piece
            return ""
        if piece.casefold().replace("’", "'") in self._words:
            self._dropped = True
            return ""
        passed, self._between, self._begun = self._between + piece, "", True
        self._dropped = False
        return passed


def _is_word(piece: str) -> bool:
    return _WORD.match(piece) is not None


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a processor that leaves words out; *config* holds `Options`.  Raises `ConfigError`."""
    options = read_options(Options, config, "processor:stop-words")
    chosen = {*WORDS.get(options.language, ()), *(word.casefold() for word in options.words)}
    return StopWords(frozenset(chosen - {word.casefold() for word in options.keep}))
