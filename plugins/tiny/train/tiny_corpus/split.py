"""Which texts may be learned from and which are kept for the test.

Two independent lines are drawn, and a test set crosses exactly one of them:

* **combination**: what a text is about (a subject with its verb and object, a person with a place) is hashed, and one
  in eight is never generated for training;
* **phrasing**: how a request is worded; every list of wordings has some that are never generated for training.

A training has two phases. The first knows few wordings; the second is *wide*: it adds many more, put together from
parts. What the test keeps is the same in both, and nothing that the second adds may hold a wording of the test inside.
"""

from __future__ import annotations

import enum
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

T = TypeVar("T")
HELD_IN = 8
PLAIN = 0.3
"""How many of the wordings of a wide training are those of the first phase."""

_CHOICE = re.compile(r"\(([^()]*)\)")


class Split(enum.Enum):
    """The three kinds of text: to learn from, with unseen content, with unseen wording."""

    TRAIN = "train"
    COMBINATION = "combination"
    PHRASING = "phrasing"


@dataclass(frozen=True)
class Wordings:
    """Ways to say one thing: those for training, those kept for the test, and patterns of more for a wide training."""

    train: tuple[str, ...]
    held: tuple[str, ...]
    more: tuple[str, ...] = ()
    kept: tuple[str, ...] = field(init=False)
    """What no wording made of `more` may hold inside: the wordings of the test without what adds nothing to them."""

    def __post_init__(self) -> None:
        """Strip the wordings of the test once."""
        object.__setattr__(self, "kept", tuple(skeleton(text) for text in self.held))

    def gives_away(self, text: str) -> bool:
        """Return whether *text* holds a wording of the test inside."""
        stripped = skeleton(text)
        return any(kept in stripped for kept in self.kept)


_EMPTY = re.compile(r"\b(?:a|an|the)\b|\{[xyz]\}|一只|[^\w{}<>\[\]]+")


@cache
def skeleton(text: str) -> str:
    """Strip a wording of capitals, punctuation, articles and slots of adjectives.

    Blanks stand at both ends of English, so that only whole words are found in it, and nowhere in Chinese.
    """
    words = _EMPTY.sub(" ", text.lower()).split()
    return f" {' '.join(words)} " if text.isascii() else "".join(words)


@cache
def is_held(*key: str) -> bool:
    """Say whether a combination of content words is kept for the test."""
    digest = hashlib.blake2b("\x1f".join(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_IN == 0


@dataclass(frozen=True)
class Draw:
    """A source of random choices that respects a split."""

    rng: random.Random
    split: Split
    difficulty: float = 1.0
    """From 0 (shortest passages) to 1 (the passages of the test)."""

    wide: bool = False
    """Whether texts to learn from have the many more wordings of the second phase."""

    def one(self, items: Sequence[T]) -> T:
        """Choose one of *items*."""
        return items[int(self.rng.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Choose *count* different items."""
        return self.rng.sample(items, count)

    def chance(self, probability: float) -> bool:
        """Return True with *probability*."""
        return self.rng.random() < probability

    def wording(self, wordings: Wordings) -> str:
        """Choose a wording that this split may use."""
        if self.split is Split.PHRASING:
            return self.one(wordings.held)
        if not wordings.more or not self.wide or self.chance(PLAIN):
            return self.one(wordings.train)
        while wordings.gives_away(text := self.spell(self.one(wordings.more))):
            pass
        return text

    def spell(self, pattern: str) -> str:
        """Choose one alternative of each ``(a|b)`` in *pattern*; alternatives may nest."""
        while choices := _CHOICE.search(pattern):
            pattern = pattern[: choices.start()] + self.one(choices[1].split("|")) + pattern[choices.end() :]
        return pattern

    def combination(self, make: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        """Repeat *make* until it gives a combination that this split may use."""
        while is_held(*(key := make())) is not (self.split is Split.COMBINATION):
            pass
        return key


def expand(pattern: str) -> tuple[str, ...]:
    """Expand ``(a|b) c`` to every text that it stands for; alternatives do not nest."""
    start = pattern.find("(")
    if start < 0:
        return (pattern,)
    end = pattern.index(")", start)
    rests = expand(pattern[end + 1 :])
    return tuple(pattern[:start] + choice + rest for choice in pattern[start + 1 : end].split("|") for rest in rests)


def lines(block: str) -> tuple[str, ...]:
    """Split a block of patterns, one a line."""
    return tuple(line.strip() for line in block.strip().splitlines())


def wordings(train: str, held: str, more: str = "") -> Wordings:
    """Build wordings from blocks of patterns, one pattern a line."""
    first, second = (tuple(t for line in lines(block) for t in expand(line)) for block in (train, held))
    return Wordings(first, tuple(t for t in second if t not in first), lines(more) if more else ())
