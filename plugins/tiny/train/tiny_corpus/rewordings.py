"""More ways to ask the questions of a conversation, for the second phase of the training: put together from parts.

A question is asked directly, or as a clause (*what llmos is*) or a noun (*the kernel*) that one of many phrases
introduces.  A phrase with which a wording of the test begins never introduces that question in training.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from .split import lines, skeleton

_PARTS = ("CLAUSES", "NOUNS")
_PHRASES = ("before clause", "before noun")


@cache
def _sections() -> dict[str, tuple[str, ...]]:
    """Read the file of patterns: lines by the name of their section, words in capitals replaced by their lists."""
    text = Path(__file__).with_name("rewordings.txt").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found = re.findall(r"^\[(.+)\]\n([^\[]+)", text, re.MULTILINE)
    for name, body in found:
        if name.isupper():
            text = re.sub(rf"\b{name}\b(?!\])", body.strip(), text)
    return {name: lines(body) for name, body in re.findall(r"^\[(.+)\]\n([^\[]+)", text, re.MULTILINE)}


def reword(name: str, held: tuple[str, ...]) -> tuple[str, ...]:
    """Return patterns of more ways to ask *name*, half of them direct, none beginning as one of *held* does."""
    begins = [skeleton(text) for text in held]
    parts = dict(line.split(" ", 1) for line in _sections()[name] if line.startswith(_PARTS))
    direct = tuple(line for line in _sections()[name] if not line.startswith(_PARTS))
    introduced = tuple(
        phrase.replace("{}", f"({parts[part]})")
        for part, phrases in zip(_PARTS, _PHRASES, strict=True)
        for phrase in _sections()[phrases]
        if part in parts and not _starts(begins, phrase)
    )
    return introduced + direct * max(1, len(introduced) // len(direct))


def _starts(begins: list[str], phrase: str) -> bool:
    """Return whether one of *begins* begins with what *phrase* puts first."""
    first = skeleton(phrase.split("{}", maxsplit=1)[0])
    return bool(first.strip()) and any(b.startswith(first) for b in begins)
