"""Quantiles of a stream in constant memory.

DDSketch (Masson, Rim and Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees",
VLDB 2019): values are counted in buckets whose bounds grow by a constant factor, so a quantile is off by a share of
itself at most, wherever it lies and however the values are distributed.  Sketches of parts add up to that of the whole,
exactly, which sketches of ranks do not; and the same values give the same answer in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil, log

import attrs

ACCURACY = 0.002
"""How far a quantile is off at most, as a share of it."""
LEAST = 1e-9
"""Values below it count as zero."""
_FACTOR = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_FACTOR = log(_FACTOR)


@attrs.define(eq=False)
class Sketch:
    """What is known of a stream of values that are not negative; count, mean and extreme are exact."""

    count: int = 0
    total: float = 0.0
    most: float = 0.0
    _zeros: int = 0
    _buckets: Counter[int] = attrs.field(factory=Counter)

    def add(self, value: float) -> None:
        """Count *value*."""
        self.count += 1
        self.total += value
        self.most = max(self.most, value)
        if value < LEAST:
            self._zeros += 1
        else:
            self._buckets[ceil(log(value) / _LOG_FACTOR)] += 1

    def merge(self, other: Sketch) -> None:
        """Count what *other* has counted."""
        self.count += other.count
        self.total += other.total
        self.most = max(self.most, other.most)
        self._zeros += other._zeros
        self._buckets.update(other._buckets)

    @property
    def mean(self) -> float | None:
        """The mean; None of nothing."""
        return self.total / self.count if self.count else None

    def quantiles(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Return the values that *shares*, in rising order, of all values do not exceed; nothing of nothing."""
        found: list[float] = []
        for value, seen in self.distribution():
            while len(found) < len(shares) and seen > shares[len(found)] * (self.count - 1):
                found.append(value)
        return tuple(found)

    def distribution(self) -> Iterator[tuple[float, int]]:
        """Yield the values that were seen, in order, within `ACCURACY`, each with how many there were up to it."""
        seen = self._zeros
        if seen:
            yield 0.0, seen
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            yield min(2 * _FACTOR**index / (1 + _FACTOR), self.most), seen
