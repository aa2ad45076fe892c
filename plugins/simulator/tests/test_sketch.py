"""A sketch's quantiles are those of the sorted values, within what it promises."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, strategies as st

from llmos_simulator.sketch import ACCURACY, Sketch

SHARES = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


def sketched(values: list[float]) -> Sketch:
    """A sketch of *values*."""
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


def exact(values: list[float], share: float) -> float:
    """The quantile by definition: the value whose rank, counted from 0, is the whole part of share * (n - 1)."""
    return sorted(values)[int(share * (len(values) - 1))]


@given(values=st.lists(st.floats(1e-6, 1e8) | st.just(0.0), min_size=1, max_size=200))
def test_quantiles_are_right_within_the_accuracy(values: list[float]) -> None:
    """Of any values; count, mean and extreme are exact."""
    sketch = sketched(values)

    for share, found in zip(SHARES, sketch.quantiles(SHARES), strict=True):
        right = exact(values, share)
        assert abs(found - right) <= right * ACCURACY * 1.0001
    assert (len(values), max(values)) == (sketch.count, sketch.most)
    assert sum(values) / len(values) == pytest.approx(sketch.mean)


@given(first=st.lists(st.floats(0, 1e6), max_size=50), second=st.lists(st.floats(0, 1e6), max_size=50))
def test_parts_add_up_to_the_whole(first: list[float], second: list[float]) -> None:
    """Merging is the same as having seen everything, in whatever order."""
    merged, whole = sketched(first), sketched([*second, *first])
    merged.merge(sketched(second))

    assert list(whole.distribution()) == list(merged.distribution())
    assert whole.count == merged.count


def test_nothing_has_no_mean() -> None:
    """And no quantile."""
    assert (None, ()) == (Sketch().mean, Sketch().quantiles([0.5]))


def test_memory_does_not_grow_with_the_values() -> None:
    """Values over nine decades take as many buckets as the accuracy needs, however many they are."""
    random = Random(0)
    sketch = sketched([10 ** random.uniform(-3, 6) for _ in range(100_000)])

    assert len(list(sketch.distribution())) <= 9 * 2.303 / (2 * ACCURACY) + 2
