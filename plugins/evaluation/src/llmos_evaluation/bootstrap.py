"""Intervals of means and of their differences by resampling the records (Efron and Tibshirani 1993).

A figure is a ratio of two sums over the records: for a mean each record gives its score and 1, for a perplexity its
log-likelihood and its tokens.  A resample draws as many records as there are, with replacement.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

Part = tuple[float, float]
"""What one record gives to the two sums."""
SAMPLES = 1000
SEED = 12345
"""The one that sacrebleu begins with as well."""
_TAIL = 0.025


def ratio(parts: Sequence[Part]) -> float:
    """Return the one sum over the other; 0 where the other is 0."""
    below = sum(part[1] for part in parts)
    return sum(part[0] for part in parts) / below if below else 0.0


def interval(
    parts: Sequence[Part], finish: Callable[[float], float], seed: int = SEED, samples: int = SAMPLES
) -> tuple[float, float]:
    """Return the bounds that 95 of 100 resampled figures lie between (the percentile interval)."""
    rng = random.Random(seed)  # noqa: S311 - the same intervals each time
    return _bounds([finish(ratio(rng.choices(parts, k=len(parts)))) for _ in range(samples)])


def paired(
    parts: Sequence[tuple[Part, Part]], finish: Callable[[float], float], seed: int = SEED, samples: int = SAMPLES
) -> tuple[float, float, float]:
    """Return the bounds of the second figure less the first, and the probability of a difference of the other sign.

    Both figures are of the same resampled records (Koehn 2004).  The probability is two-sided and never 0: a resample
    is added to those that speak against the difference.
    """
    rng = random.Random(seed)  # noqa: S311 - the same
    found = [*_differences(parts, finish, rng, samples)]
    against = min(sum(one <= 0 for one in found), sum(one >= 0 for one in found))
    return *_bounds(found), min(1.0, 2 * (against + 1) / (samples + 1))


def _differences(
    parts: Sequence[tuple[Part, Part]], finish: Callable[[float], float], rng: random.Random, samples: int
) -> Iterator[float]:
    for _ in range(samples):
        first, second = zip(*rng.choices(parts, k=len(parts)), strict=True)
        yield finish(ratio(second)) - finish(ratio(first))


def _bounds(found: list[float]) -> tuple[float, float]:
    found.sort()
    cut = int(_TAIL * len(found))
    return found[cut], found[-1 - cut]
