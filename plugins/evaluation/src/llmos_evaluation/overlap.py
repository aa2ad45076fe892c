"""How alike two texts are by the words that they share: exact match, F1 of SQuAD, and ROUGE.  Each is from 0 to 1."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_EAST_ASIAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_EAST_ASIAN}]|(?:(?![{_EAST_ASIAN}])[^\W_])+")


def exact(answer: str, reference: str) -> float:
    """Return 1 where both are the same in Unicode's normal form NFC without the white space at their ends."""
    return float(unicodedata.normalize("NFC", answer).strip() == unicodedata.normalize("NFC", reference).strip())


def normalized(text: str) -> str:
    """Return *text* as SQuAD's evaluation compares it: small letters, no ASCII punctuation, no articles, one space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_normalized(answer: str, reference: str) -> float:
    """Return 1 where both are the same when `normalized` (Rajpurkar et al. 2016)."""
    return float(normalized(answer) == normalized(reference))


def f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of words, both texts `normalized` (Rajpurkar et al. 2016).

    Words are what white space separates.  Of two texts, one without words, it is 1 where both have none (SQuAD 2.0).
    """
    said, right = normalized(answer).split(), normalized(reference).split()
    if not said or not right:
        return float(said == right)
    return _f1(sum((Counter(said) & Counter(right)).values()), len(said), len(right))


def words(text: str) -> list[str]:
    """Return what ROUGE counts: runs of letters and digits in small letters, and each East Asian character by itself.

    Of ASCII these are the tokens of the package rouge-score without its stemmer.
    """
    return _WORD.findall(text.lower())


def rouge_n(answer: str, reference: str, n: int) -> float:
    """Return the F1 of the runs of *n* words that both have (Lin 2004)."""
    said, right = (_runs(words(text), n) for text in (answer, reference))
    return _f1(sum((said & right).values()), sum(said.values()), sum(right.values()))


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of words (Lin 2004, of whole texts)."""
    said, right = words(answer), words(reference)
    return _f1(_longest_common(said, right), len(said), len(right))


def _runs(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[at:] for at in range(n)), strict=False))


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    before = [0] * (len(second) + 1)
    for one in first:
        row = [0]
        for at, other in enumerate(second):
            row.append(before[at] + 1 if one == other else max(row[at], before[at + 1]))
        before = row
    return before[-1]


def _f1(shared: int, said: int, right: int) -> float:
    return 2 * shared / (said + right) if shared else 0.0
