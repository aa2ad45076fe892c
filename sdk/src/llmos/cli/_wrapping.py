"""Text on a terminal: how wide it is there, and lines that end between words while the text still comes.

Lines break at spaces, and beside the characters of scripts that are written without spaces, but not before the
punctuation that closes what they say.  The rules are those of UAX #14 that matter for prose; widths are those of UAX
#11, and what joins the character before it (UAX #29) takes no place.
"""

from __future__ import annotations

import re
import unicodedata

import attrs

TAB = 8
_JOINING = ("Mn", "Me", "Cf")
_BOLD = re.compile(r"\x1b\[[0-9;]*m")


def width(text: str) -> int:
    """Return how many columns *text* takes, without the codes of its colours."""
    return sum(map(_width, _BOLD.sub("", text) if "\x1b" in text else text))


def _width(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.category(char) in _JOINING:
        return 0
    return 2 if _wide(char) else 1


def _wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def shown(text: str) -> str:
    """Return *text* with nothing that steers a terminal: the characters that stand for it (U+2400 and up) instead."""
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) != "Cc":
        return char
    if char == "\r":  # lines of Windows are lines
        return ""
    return chr(0x2400 + ord(char)) if char < " " else "\u2421" if char == "\x7f" else "\ufffd"


@attrs.define
class Wrapped:
    """Text that comes in pieces, in lines of at most so many *columns*; only a longer word is cut, by the terminal."""

    columns: int
    _column: int = attrs.field(default=0, init=False)
    _space: str = attrs.field(default="", init=False)
    """Spaces that are written when a word follows in the same line."""
    _word: str = attrs.field(default="", init=False)
    """What may go on: nobody knows yet whether it fits."""
    _begun: bool = attrs.field(default=False, init=False)
    """Whether the word's beginning is written already, because it is longer than a line."""

    def add(self, piece: str) -> str:
        """Return what can be written now that *piece* has come."""
        return "".join(self._hear(char) for char in piece)

    def end(self) -> str:
        """Return what is left, but for the spaces at its end."""
        left, self._space = self._put(), ""
        return left

    def all(self, text: str) -> str:
        """Return the whole of *text*."""
        return self.add(text) + self.end()

    def _hear(self, char: str) -> str:
        if char == "\n":
            left, self._column = self.end(), 0
            return left + char
        if char in " \t":
            left = self._put()
            self._space += char
            return left
        left = self._put() if self._word and _parts(self._word[-1], char) else ""
        self._word += char
        if width(self._word) < self.columns:
            return left
        left += self._put()
        self._begun = True
        return left

    def _put(self) -> str:
        """Return the word with what stands before it: its spaces, or a line's end."""
        if not self._word:
            self._begun = False
            return ""
        before, word, self._space, self._word = self._space, self._word, "", ""
        margin, wide = len((" " * self._column + before).expandtabs(TAB)) - self._column, width(word)
        if self._column + margin + wide > self.columns and not self._begun:
            before, margin = "\n" if self._column else "", 0
            self._column = 0
        self._column = max(self._column + margin + wide - 1, 0) % self.columns + 1
        self._begun = False
        return before + word


def _parts(before: str, char: str) -> bool:
    """Return whether a line may end between two characters that no space parts."""
    if not (_wide(before) or _wide(char)) or unicodedata.category(before) in ("Ps", "Pi"):
        return False
    opens, closes = unicodedata.category(char) in ("Ps", "Pi"), unicodedata.category(char).startswith("P")
    return opens or not (closes or _width(char) == 0)
