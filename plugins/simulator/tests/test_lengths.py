"""Lengths are drawn as their distributions say."""

from __future__ import annotations

from collections import Counter
from math import exp, log
from random import Random
from statistics import mean, median, stdev
from typing import Any

import pytest

from llmos_kernel.errors import InvalidArgument
from llmos_simulator.lengths import KINDS, Empirical, Exponential, Fixed, Lengths, LogNormal, Uniform

COUNT = 40_000
NAN, INFINITE = float("nan"), float("inf")


def draws(lengths: Lengths, seed: int = 0) -> list[int]:
    """`COUNT` lengths."""
    random = Random(seed)
    return [lengths.draw(random) for _ in range(COUNT)]


def test_fixed() -> None:
    """Always the same."""
    assert {7} == set(draws(Fixed(value=7)))


def test_uniform() -> None:
    """Each length of the range, its ends included, about as often."""
    found = Counter(draws(Uniform(low=3, high=6)))

    assert {3, 4, 5, 6} == set(found)
    assert [0.25] * 4 == pytest.approx([found[length] / COUNT for length in sorted(found)], abs=0.02)


def test_exponential() -> None:
    """The mean, the deviation and the tail."""
    found = draws(Exponential(mean=200.0))

    assert 200 == pytest.approx(mean(found), rel=0.03)
    assert 200 == pytest.approx(stdev(found), rel=0.03)
    assert exp(-2) == pytest.approx(sum(length > 400 for length in found) / COUNT, abs=0.01)


def test_lognormal() -> None:
    """The mean and the deviation are those of the lengths; the median is below the mean as it has to be."""
    found = draws(LogNormal(mean=200.0, deviation=150.0))

    assert 200 == pytest.approx(mean(found), rel=0.03)
    assert 150 == pytest.approx(stdev(found), rel=0.08)
    assert 200 / (1 + 0.75**2) ** 0.5 == pytest.approx(median(found), rel=0.03)
    assert log(1 + 0.75**2) ** 0.5 == pytest.approx(stdev(log(length) for length in found), rel=0.03)


def test_empirical() -> None:
    """As often as weights say, and without them each as often."""
    weighted = Counter(draws(Empirical(values=[10, 20, 30], weights=[1, 3, 0])))
    even = Counter(draws(Empirical(values=[10, 20, 20])))

    assert {10: 0.25, 20: 0.75} == pytest.approx({length: weighted[length] / COUNT for length in weighted}, abs=0.01)
    assert 2 / 3 == pytest.approx(even[20] / COUNT, abs=0.01)


@pytest.mark.parametrize(
    "lengths",
    [Exponential(mean=5.0, most=8), LogNormal(mean=5.0, deviation=50.0, most=8), LogNormal(mean=1e-6, deviation=1e9)],
)
def test_a_length_is_at_least_one_and_at_most_what_was_said(lengths: Any) -> None:
    """However far the distribution reaches."""
    found = draws(lengths)

    assert 1 == min(found)
    assert max(found) <= lengths.most


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        *[("fixed", {"value": value}, "value") for value in (0, -1, 1.5, NAN, INFINITE, "7", True, 2**40)],
        *[("uniform", {"low": value, "high": 9}, "low") for value in (0, NAN, "1", None)],
        *[("uniform", {"low": 5, "high": value}, "high") for value in (4, NAN, 2**40)],
        *[("exponential", {"mean": value}, "mean") for value in (0, -1.0, NAN, INFINITE, "5", 1e300)],
        *[("exponential", {"mean": 5.0, "most": value}, "most") for value in (0, 1.5, NAN)],
        *[("lognormal", {"mean": value, "deviation": 1.0}, "mean") for value in (0, NAN, -3.0)],
        *[("lognormal", {"mean": 1.0, "deviation": value}, "deviation") for value in (0, NAN, -3.0)],
        *[("empirical", {"values": value}, "values") for value in ([], "123", 5, [0], [1, NAN], [1.5])],
        *[
            ("empirical", {"values": [1, 2], "weights": value}, "weights")
            for value in ([1], [0, 0], [1, -1], [1, NAN], "12", 3)
        ],
    ],
)
def test_a_wrong_value_is_refused_by_name(kind: str, values: dict[str, Any], field: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidArgument) as caught:
        KINDS[kind](**values)

    assert field == caught.value.fields["field"]
