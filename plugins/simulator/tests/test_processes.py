"""Arrivals come as their processes say: rates, spread and time of day, against closed forms."""

from __future__ import annotations

from itertools import islice, pairwise, takewhile
from math import exp, pi, sqrt
from random import Random
from statistics import mean, stdev

import pytest

from llmos_kernel.errors import InvalidArgument
from llmos_simulator.processes import KINDS, Bursty, Closed, Constant, Diurnal, Poisson, Process

COUNT = 40_000


def pauses(process: Process, seed: int = 0) -> list[float]:
    """The times between `COUNT` arrivals."""
    times = [0.0, *islice(process.times(Random(seed)), COUNT)]
    return [later - sooner for sooner, later in pairwise(times)]


@pytest.mark.parametrize(
    ("process", "variation"),
    [
        (Constant(rate=4.0), 0.0),
        (Poisson(rate=4.0), 1.0),
        (Bursty(rate=4.0, variation=3.0), 3.0),
        (Bursty(rate=4.0, variation=0.5), 0.5),
        (Bursty(rate=4.0, variation=1.0), 1.0),
    ],
    ids=repr,
)
def test_pauses_have_the_mean_and_the_variation_that_was_asked_for(process: Process, variation: float) -> None:
    """The mean of so many pauses lies within five standard errors of 1/rate."""
    found = pauses(process)

    assert 0.25 == pytest.approx(mean(found), abs=5 * 0.25 * variation / sqrt(COUNT) + 1e-9)
    assert variation == pytest.approx(stdev(found) / mean(found), rel=0.05, abs=1e-6)
    assert all(pause >= 0 for pause in found)


def test_poisson_pauses_are_exponential() -> None:
    """The share of pauses longer than t is exp(-rate t)."""
    found = pauses(Poisson(rate=4.0))
    for t in (0.05, 0.25, 1.0):
        assert exp(-4 * t) == pytest.approx(sum(pause > t for pause in found) / COUNT, abs=0.01)


def test_the_rate_rises_and_falls_with_the_day() -> None:
    """The share of arrivals in each quarter of a period is the integral of the rate over it."""
    process = Diurnal(rate=2.0, swing=0.8, period=100.0)
    times = list(takewhile(lambda at: at < 20_000, process.times(Random(1))))
    quarters = [sum(int(at % 100.0 // 25) == quarter for at in times) / len(times) for quarter in range(4)]
    expected = [0.25 * (1 + side * 0.8 * 2 / pi) for side in (1, 1, -1, -1)]

    assert 2.0 == pytest.approx(len(times) / 20_000, rel=0.03)
    assert expected == pytest.approx(quarters, abs=0.01)


def test_without_a_swing_a_day_is_poisson() -> None:
    """Then nothing is thinned out."""
    assert 1.0 == pytest.approx(stdev(pauses(Diurnal(rate=4.0, swing=0.0))) * 4, rel=0.05)


@pytest.mark.parametrize("process", [Constant(rate=1.0), Poisson(rate=1.0), Bursty(rate=1.0), Diurnal(rate=1.0)])
def test_equal_seeds_equal_times(process: Process) -> None:
    """And other seeds other times, except where nothing is drawn."""
    assert pauses(process, 3)[:100] == pauses(process, 3)[:100]
    assert isinstance(process, Constant) == (pauses(process, 3)[:100] == pauses(process, 4)[:100])


def test_users_think() -> None:
    """Exponentially, with the mean that was asked for; one who thinks for no time asks at once."""
    random, closed = Random(0), Closed(users=2, think=5.0)

    assert 5.0 == pytest.approx(mean(closed.pause(random) for _ in range(COUNT)), rel=0.03)
    assert 0.0 == Closed(users=2, think=0.0).pause(random)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, "fast", None, True, 1e300])
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        *((kind, "rate") for kind in KINDS if kind != "closed"),
        ("bursty", "variation"),
        ("diurnal", "swing"),
        ("diurnal", "period"),
        ("closed", "users"),
        ("closed", "think"),
    ],
)
def test_a_wrong_value_is_refused_by_name(kind: str, field: str, value: object) -> None:
    """Whatever is no number in range, for each field of each process."""
    right = {"users": 2, "think": 1.0} if kind == "closed" else {"rate": 1.0}
    with pytest.raises(InvalidArgument) as caught:
        KINDS[kind](**{**right, field: value})  # type: ignore[arg-type]

    assert field == caught.value.fields["field"]
