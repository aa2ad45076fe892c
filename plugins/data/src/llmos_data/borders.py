"""Where a text can be cut: headings, paragraphs, lines, sentences, words.  A border is the place of the next piece."""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEADING = re.compile(r"(?:^|\n)(?=#{1,6} )")
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n+")
_WORD = re.compile(r"\S+")
_SENTENCE = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+(?=\S)|[。！？]+[」』”’）]*(?=[^」』”’）])")
_LAST_WORD = re.compile(r"(\S+?)\.[\"'”’»)\]]*\s+$")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc e.g i.e cf fig no vol approx ca bzw usw z.b d.h u.a nr str s.o s.u vgl bspw "
    "evtl inkl m p.ex av mme mlle sig sra т.е т.д др".split()
)


def headings(text: str) -> Iterator[int]:
    """Yield where headings of Markdown begin."""
    return (match.end() for match in _HEADING.finditer(text))


def paragraphs(text: str) -> Iterator[int]:
    """Yield where text begins after an empty line."""
    return (match.end() for match in _PARAGRAPH.finditer(text))


def lines(text: str) -> Iterator[int]:
    """Yield where text begins after a line's end."""
    return (match.end() for match in _LINE.finditer(text))


def sentences(text: str) -> Iterator[int]:
    """Yield where sentences begin: after an end mark, unless it ends an abbreviation or a small letter follows.

    A simplification of Unicode's rules (UAX #29, sentence boundaries SB6 to SB11) with a list of abbreviations.
    """
    for match in _SENTENCE.finditer(text):
        end = match.end()
        if match[0][-1].isspace():
            before = _LAST_WORD.search(text, max(0, match.start() - 20), end)
            word = before[1].lower().lstrip("(\"'“„«[") if before else ""
            if text[end].islower() or word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()):
                continue
        yield end


def words(text: str) -> Iterator[int]:
    """Yield where words begin."""
    return (match.start() for match in _WORD.finditer(text))
