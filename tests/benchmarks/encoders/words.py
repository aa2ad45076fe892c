"""Sentences of mixed lengths, made up."""

from __future__ import annotations

import random

_WORDS = (
    "the a of and to in is it that for was on are with as his they at be this have from or one had by word but not "
    "what all were we when your can said there use an each which she do how their if will up other about out many then "
    "them these so some her would make like him into time has look two more write go see number no way could people my "
    "than first water been call who oil its now find long down day did get come made may part river mountain engine "
    "market computer language music history science government weather kitchen window garden holiday doctor teacher"
).split()
_MOST = 180
"""Words of the longest: it fits 256 tokens."""


def sentences(chance: random.Random, count: int) -> list[str]:
    """Return *count* sentences: half have at most about 16 words, one in twenty more than 80."""
    lengths = [max(3, min(_MOST, round(chance.lognormvariate(2.8, 1.0)))) for _ in range(count)]
    return [" ".join(chance.choices(_WORDS, k=length)).capitalize() + "." for length in lengths]
