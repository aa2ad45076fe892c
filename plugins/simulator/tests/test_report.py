"""A report says of a stream of outcomes what sums and sorted lists say of them all."""

from __future__ import annotations

import json
import tracemalloc
from random import Random
from statistics import mean

import pytest

from llmos_simulator.records import Arrival, Outcome
from llmos_simulator.report import Collector, Report, jain
from llmos_simulator.sketch import ACCURACY

NEAR = ACCURACY * 1.01


def reported(outcomes: list[Outcome], utilisation: float | None = None, **weights: float) -> Report:
    """The report of *outcomes*."""
    collector = Collector("fifo", weights)
    for outcome in outcomes:
        collector.add(outcome)
    return collector.report(utilisation)


def outcome(
    at: float, admitted: float, first: float, ended: float, tenant: str = "me", *, tokens: int = 10, error: str = ""
) -> Outcome:
    """The outcome of a request with a prompt of 100 tokens."""
    return Outcome(
        Arrival(at, tenant, prompt=100, output=tokens), id=1, admitted=admitted, first=first, ended=ended, prompt=100,
        generated=tokens, error=error,
    )  # fmt: skip


def test_every_figure_of_a_few_requests() -> None:
    """By hand: two tenants, one request refused, one too late, one broken."""
    report = reported([
        outcome(1.0, 1.5, 2.0, 5.0, "a"),
        outcome(2.0, 4.0, 6.0, 11.0, "a", tokens=20),
        outcome(3.0, 3.0, 3.5, 4.0, "b", tokens=4, error="DeadlineExceeded"),
        outcome(3.0, 3.0, 3.5, 4.0, "b", tokens=6, error="ExecutorCrashed"),
        Outcome(Arrival(5.0, "b"), ended=5.0, error="Overloaded"),
    ], 0.8)  # fmt: skip
    a, b = report.tenants

    assert (10.0, 0.8) == (report.seconds, report.utilisation)
    assert ("a", 2, 2, 0, 0, {}) == (a.tenant, a.requests, a.done, a.missed, a.refused, a.errors)
    assert ("b", 3, 0, 1, 1, {"ExecutorCrashed": 1}) == (b.tenant, b.requests, b.done, b.missed, b.refused, b.errors)
    assert (5, 2, 1, 1) == (report.all.requests, report.all.done, report.all.missed, report.all.refused)
    assert (1.25, 2.5, 6.5) == (a.wait.mean, a.first.mean, a.total.mean)
    assert (2.0, 4.0, 9.0) == (a.wait.most, a.first.most, a.total.most)
    assert (30, 10, 40) == (a.tokens, b.tokens, report.all.tokens)
    assert (200, 200) == (a.prompt_tokens, b.prompt_tokens)
    assert (3.0, 4.0, 0.2) == pytest.approx(
        (a.tokens_per_second, report.all.tokens_per_second, report.all.requests_per_second)
    )
    assert (0.0, 0, None) == (b.wait.mean, b.total.count, b.total.mean)


def test_percentiles_of_many() -> None:
    """Those of the sorted list, within the sketch's accuracy; all together are those of both tenants."""
    random = Random(0)
    waits = {name: [random.expovariate(rate) for _ in range(5000)] for name, rate in (("a", 1.0), ("b", 0.1))}
    report = reported([
        outcome(0.0, wait, 2 * wait, 3 * wait, name) for name, found in waits.items() for wait in found
    ])  # fmt: skip
    together = sorted(wait for found in waits.values() for wait in found)

    for name, service in zip(waits, report.tenants, strict=True):
        ordered = sorted(waits[name])
        for share, found in ((0.5, service.wait.p50), (0.95, service.wait.p95), (0.99, service.wait.p99)):
            assert ordered[int(share * 4999)] == pytest.approx(found, rel=NEAR)
        assert 2 * mean(ordered) == pytest.approx(service.first.mean)
    assert 3 * together[int(0.95 * 9999)] == pytest.approx(report.all.total.p95, rel=NEAR)
    assert [together[int(point / 100 * 9999)] for point in range(101)] == pytest.approx(
        report.all.wait.quantiles, rel=NEAR
    )


def test_the_order_of_outcomes_makes_no_difference() -> None:
    """A report is that of a set, to rounding."""
    random = Random(1)
    outcomes = [outcome(at, at + 1, at + 2, at + 5, random.choice("ab")) for at in range(200)]
    shuffled = random.sample(outcomes, len(outcomes))
    one, other = reported(outcomes), reported(shuffled)

    assert one.tenants == other.tenants
    assert one.fairness == pytest.approx(other.fairness)


def backlogged(shares: dict[str, float], seconds: int = 200) -> list[Outcome]:
    """Tenants of whom each always waits and is served so many tokens per second."""
    return [
        outcome(max(0.0, begin - 5.0), begin, begin, begin + 1.0, name, tokens=int(share))
        for name, share in shares.items()
        for begin in map(float, range(seconds))
    ]


def test_fairness_is_jains_index_of_what_those_got_who_competed() -> None:
    """Ten times as much for one of two: (1 + 10)² / (2 · (1 + 100)), prompts counted as well."""
    a, b = 100 + 2 * 1000, 100 + 2 * 100
    report = reported(backlogged({"a": 1000, "b": 100}))

    assert (a + b) ** 2 / (2 * (a * a + b * b)) == pytest.approx(report.fairness, abs=0.005)
    assert report.contested == pytest.approx(1.0, abs=0.05)


def test_fairness_is_measured_against_weights() -> None:
    """Who weighs as much more as it got was served fairly."""
    outcomes = backlogged({"a": 1000, "b": 100})
    weights = {"a": 2100.0, "b": 300.0}

    assert 1.0 == pytest.approx(reported(outcomes, **weights).fairness, abs=1e-3)


def test_who_does_not_wait_is_not_wronged() -> None:
    """A tenant whose requests are served at once does not compete, and alone nobody does."""
    idle = [outcome(float(at), float(at), float(at), at + 1.0, "idle") for at in range(200)]

    assert None is reported([*backlogged({"a": 10}), *idle]).fairness
    assert None is reported(backlogged({"a": 10})).fairness
    assert 0.0 == reported(idle).contested


def test_sets_of_competitors_are_weighted_by_time() -> None:
    """a and b compete all the time and share evenly; c, who gets next to nothing, competes in the second half."""
    late = [
        outcome(100.0 + begin - 5.0, 100.0 + begin, 100.0 + begin, 101.0 + begin, "c", tokens=1)
        for begin in map(float, range(5, 100))
    ]
    third = jain([2100, 2100, 102])
    report = reported([*backlogged({"a": 1000, "b": 1000}), *late])

    assert 0.5 * 1 + 0.5 * third == pytest.approx(report.fairness, abs=0.02)


@pytest.mark.parametrize(
    ("shares", "expected"), [([1, 1, 1], 1.0), ([5, 0, 0, 0], 0.25), ([0, 0], 1.0), ([1, 3], 16 / 20)]
)
def test_jain(shares: list[float], expected: float) -> None:
    """Its definition."""
    assert expected == pytest.approx(jain(shares))


def test_tokens_over_time() -> None:
    """Output is where it was produced."""
    report = reported([outcome(0.0, 0.0, 10.0, 20.0, tokens=100), outcome(0.0, 0.0, 30.0, 40.0, tokens=50)])
    (rates,) = report.served.values()
    at = [rates[int(seconds / report.window)] for seconds in (5, 15, 25, 35)]

    assert [0.0, 10.0, 0.0, 5.0] == pytest.approx(at, abs=1e-9)


def test_nothing_came() -> None:
    """A report of nothing is empty, and still one."""
    report = reported([])

    assert (0.0, 0, (), None) == (report.seconds, report.all.requests, report.tenants, report.fairness)


def test_what_takes_no_time_has_no_rate() -> None:
    """Nothing is divided by zero."""
    assert 0.0 == reported([outcome(1.0, 1.0, 1.0, 1.0)]).all.tokens_per_second


@pytest.mark.parametrize("outcomes", [[], [outcome(0.0, 1.0, 2.0, 3.0), outcome(1.0, 1.0, 2.0, 9.0, "you", error="X")]])
def test_a_report_survives_json(outcomes: list[Outcome]) -> None:
    """What is read is what was written."""
    report = reported(outcomes, 0.5)

    assert report == Report.from_plain(json.loads(json.dumps(report.plain(), allow_nan=False)))


def test_a_million_outcomes_take_no_memory() -> None:
    """What comes again and again makes nothing grow."""
    collector = Collector("fifo")

    def hear() -> None:
        random = Random(0)
        for _ in range(3000):
            at, wait = random.uniform(0, 900), random.expovariate(1.0)
            collector.add(outcome(at, at + wait, at + 2 * wait, at + 9 * wait, random.choice("ab")))

    hear()
    tracemalloc.start()
    try:
        hear()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert grown < 20_000
