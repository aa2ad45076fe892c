"""The stages of text normalisation.  Each takes text in pieces of any size and gives what it would give in one.

A stage holds back what the next piece could still change: the end of a line that may go on (CR before LF), characters
that may combine with what follows, white space that may turn out to be at the end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Literal

from llmos_kernel.services import TextFilter

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff]")
_SPACES = " \t\n\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_RUN = re.compile(f"[{_SPACES}]+")
_PLANES = 0x20000
"""No character beyond the second plane composes with the one before it (a test looks at all)."""


class LineEnds(TextFilter):
    """Every line end becomes a line feed: CR, CR LF, VT, FF, NEL, LS, PS (Unicode Standard, section 5.8)."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Hold back a CR that a LF may follow."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return _LINE_END.sub("\n", text.removesuffix("\r"))

    def end(self) -> str:
        """Return the CR as a line feed."""
        held, self._held = self._held, ""
        return "\n" if held else ""


class Controls(TextFilter):
    """Characters that are no text are left out: C0 and C1 controls, byte order marks, lone surrogates.

    Tabs and line ends stay, of whatever kind; joiners and direction marks stay too, because scripts need them.
    """

    def feed(self, text: str) -> str:
        """Leave them out."""
        return _CONTROL.sub("", text)

    def end(self) -> str:
        """Nothing is ever held back."""
        return ""


class Normal(TextFilter):
    """A Unicode normal form (UAX #15).

    Text may be cut before a character that is a starter, and begins with one when decomposed, that composes with
    nothing before it (UAX #15, section 9: stable code points, for both sides of the cut).  The text from the last such
    character on is held back.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._held = ""

    def feed(self, text: str) -> str:
        """Hold back what begins with the last character that opens a new sequence."""
        for at in range(len(text) - 1, -1, -1):
            if opens(text[at]):
                settled, self._held = self._held + text[:at], text[at:]
                return unicodedata.normalize(self._form, settled)
        self._held += text
        return ""

    def end(self) -> str:
        """Return what is held back."""
        held, self._held = self._held, ""
        return unicodedata.normalize(self._form, held)


class Spaces(TextFilter):
    """White space is evened out.

    Within a line every run becomes one space; white space before a line end goes, indentation stays; of several empty
    lines one is left; the text neither begins nor ends with white space.
    """

    def __init__(self) -> None:
        self._held = ""
        self._begun = False

    def feed(self, text: str) -> str:
        """Hold back the white space at the end."""
        text = self._held + text
        if not self._begun:
            text = text.lstrip(_SPACES)
            self._begun = bool(text)
        body = text.rstrip(_SPACES)
        self._held = text[len(body) :]
        return _RUN.sub(_even, body)

    def end(self) -> str:
        """Leave out the white space at the end."""
        self._held = ""
        return ""


class Chain(TextFilter):
    """Stages one after the other."""

    def __init__(self, stages: Iterable[TextFilter]) -> None:
        self._stages = tuple(stages)

    def feed(self, text: str) -> str:
        """Pass a piece through all stages."""
        for stage in self._stages:
            text = stage.feed(text)
        return text

    def end(self) -> str:
        """Pass what each stage held back through those behind it."""
        text = ""
        for stage in self._stages:
            text = stage.feed(text) + stage.end()
        return text


def opens(character: str) -> bool:
    """Return whether *character* begins a sequence that nothing before it can change, in any normal form."""
    if character < "\u0300":
        return True
    first = unicodedata.normalize("NFKD", character)[0]
    return not unicodedata.combining(first) and first not in _seconds()


@cache
def _seconds() -> frozenset[str]:
    """Return what composes with a character before it: vowels and finals of Hangul, and the ends of Unicode's pairs."""
    jamo = map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)))
    pairs = (unicodedata.decomposition(chr(code)).split() for code in range(_PLANES))
    return frozenset((*jamo, *(chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and pair[0][0] != "<")))


def _even(run: re.Match[str]) -> str:
    """Return what a run of white space between two words becomes."""
    lines = run[0].count("\n")
    if not lines:
        return " "
    return "\n" * min(lines, 2) + run[0].rpartition("\n")[2]
