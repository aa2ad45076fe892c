"""Intervals by resampling: they cover what they should, and are the same each time."""

from __future__ import annotations

import random

import pytest

from llmos_evaluation.bootstrap import Part, interval, paired, ratio


def coins(rng: random.Random, count: int, chance: float) -> list[Part]:
    """Return the scores of so many records of which each is right with that chance."""
    return [(float(rng.random() < chance), 1.0) for _ in range(count)]


def test_ratio() -> None:
    """Of sums, not of records; of nothing it is 0."""
    assert (1.75, 0.0) == (ratio([(4.0, 1.0), (3.0, 3.0)]), ratio([]))


def test_interval_of_a_mean() -> None:
    """Of 400 records, half of them right, it is the normal approximation's: 0.5 ± 1.96 * 0.5 / 20."""
    low, high = interval([(float(n % 2), 1.0) for n in range(400)], float, samples=4000)

    assert (0.451, 0.549) == pytest.approx((low, high), abs=0.005)


def test_the_same_seed_the_same_interval() -> None:
    """Another seed gives another one, near it."""
    rng = random.Random(3)
    parts = [(rng.random(), 1.0) for _ in range(50)]
    first, again, other = (interval(parts, float, seed) for seed in (1, 1, 2))

    assert first == again != other
    assert first == pytest.approx(other, rel=0.1)


def test_coverage() -> None:
    """About 95 of 100 intervals hold the chance that the records were made with."""
    rng = random.Random(0)
    found = [interval(coins(rng, 60, 0.4), float, seed, samples=200) for seed in range(300)]

    assert 0.90 <= sum(low <= 0.4 <= high for low, high in found) / 300 <= 0.98


def test_pairs_see_what_single_intervals_do_not() -> None:
    """A small difference on every record is certain, however much the records differ from each other."""
    rng = random.Random(0)
    first = [(rng.random() * 100, 1.0) for _ in range(40)]
    low, high, p = paired([(one, (one[0] + 1, 1.0)) for one in first], float)

    assert pytest.approx((1.0, 1.0)) == (low, high)
    assert p < 0.01


def test_no_difference() -> None:
    """Of the same records the probability is 1, and of chance alone it is evenly spread."""
    rng = random.Random(0)
    same = [(one, one) for one in coins(rng, 30, 0.5)]
    pairs = [[*zip(coins(rng, 40, 0.5), coins(rng, 40, 0.5), strict=True)] for _ in range(200)]
    found = [paired(one, float, samples=200)[2] for one in pairs]

    assert (0.0, 0.0, 1.0) == paired(same, float)
    assert sum(p < 0.05 for p in found) <= 24  # 10 are expected; 24 is beyond one in ten thousand
