"""Which texts may be learned from and which are kept for the test.

Two independent lines are drawn, and a test set crosses exactly one of them:

* **combination**: what a text is about (a subject with its verb and object, a person with a place) is hashed, and one
  in eight is never generated for training;
* **phrasing**: how a request is worded; every list of wordings has some that are never generated for training.
"""

from __future__ import annotations

import enum
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

T = TypeVar("T")
HELD_IN = 8


class Split(enum.Enum):
    """The three kinds of text: to learn from, with unseen content, with unseen wording."""

    TRAIN = "train"
    COMBINATION = "combination"
    PHRASING = "phrasing"


@dataclass(frozen=True)
class Wordings:
    """Ways to say one thing: those for training and those kept for the test."""

    train: tuple[str, ...]
    held: tuple[str, ...]


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
        return self.one(wordings.held if self.split is Split.PHRASING else wordings.train)

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


def wordings(train: str, held: str) -> Wordings:
    """Build wordings from two blocks of patterns, one pattern a line."""
    first, second = (
        tuple(t for line in block.strip().splitlines() for t in expand(line.strip())) for block in (train, held)
    )
    return Wordings(first, tuple(t for t in second if t not in first))
