"""Fits of queues against the parameters that arrivals and service were drawn with."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from math import sqrt
from random import Random
from statistics import mean, stdev
from typing import Any

import pytest

from llmos_kernel.services import Event
from llmos_schedulers.fitting import ENOUGH, Arrivals, Fading, Fits, Flow, Prediction

Draw = Callable[[Random], float]
SEEDS, STUDENT = 30, 2.756
"""Replications, and Student's quantile for them: the interval of the mean holds in 99 of 100 cases."""


def exponential(random: Random) -> float:
    """Service of mean 2 and deviation 2."""
    return random.expovariate(0.5)


def constant(_: Random) -> float:
    """Service of mean 2 and deviation 0."""
    return 2.0


def inside(found: Sequence[float], expected: float) -> bool:
    """Whether *expected* lies in the 99 % interval of the mean of independent *found* values."""
    return abs(mean(found) - expected) <= STUDENT * stdev(found) / sqrt(len(found)) + 1e-9


def accepted(at: float, task: int, model: str = "m", **fields: Any) -> Event:
    """The event of a task that came."""
    return Event("task.accepted", at, {"task": task, "model": model, "kind": "generate", "tenant": "t"} | fields)


def ended(at: float, task: int, queued: float, decode: float, how: str = "done", **fields: Any) -> Event:
    """The event of a task that ended."""
    facts = {
        "task": task, "model": "m", "kind": "generate", "tenant": "t", "prompt": 10, "cached": 0, "generated": 20,
        "queued": queued, "prefill": 0.0, "decode": decode, "error": "",
    }  # fmt: skip
    return Event(f"task.{how}", at, facts | fields)


def station(random: Random, rate: float, draw: Draw, servers: int, count: int) -> list[Event]:
    """Events of tasks that come at random and are served by several servers, in order of arrival."""
    free, now, events = [0.0] * servers, 0.0, []
    for task in range(count):
        now += random.expovariate(rate)
        start = max(now, heapq.heappop(free))
        service = draw(random)
        heapq.heappush(free, start + service)
        events += [accepted(now, task), ended(start + service, task, start - now, service)]
    return sorted(events, key=lambda event: event.at)


def fitted(events: Sequence[Event], half_life: float = 300.0) -> Flow:
    """What is known after these events."""
    fits = Fits(half_life)
    for event in events:
        fits.heard(event)
    return fits.of("m")


@pytest.mark.parametrize(("draw", "deviation"), [(exponential, 2.0), (constant, 0.0)])
@pytest.mark.parametrize(("servers", "busy"), [(1, 0.8), (4, 0.85), (16, 0.9)])
def test_parameters(draw: Draw, deviation: float, servers: int, busy: float) -> None:
    """Rate, service, servers and the time between ends lie in the intervals around what they were drawn with."""
    rate = busy * servers / 2
    flows = [fitted(station(Random(seed), rate, draw, servers, 1500)) for seed in range(SEEDS)]
    last = [max(flow.arrivals.intervals.at, 0.0) for flow in flows]

    assert inside([flow.arrivals.rate(at) for flow, at in zip(flows, last, strict=True)], rate)
    assert inside([flow.services["generate"].seconds.mean for flow in flows], 2.0)
    assert inside([flow.services["generate"].seconds.deviation ** 2 for flow in flows], deviation**2)
    assert [pytest.approx(servers)] * SEEDS == [flow.servers.mean for flow in flows]
    if deviation:  # ends of constant services come in the rhythm of their beginnings
        assert 2 / servers == pytest.approx(mean(flow.interval.mean for flow in flows), rel=0.05)


@pytest.mark.parametrize(("draw", "squared"), [(lambda random: random.expovariate(1.0), 1.0), (lambda _: 1.0, 0.0)])
def test_arrivals(draw: Draw, squared: float) -> None:
    """The rate and the variability of arrivals, for chance and for a clock."""
    found = []
    for seed in range(SEEDS):
        random, arrivals, now = Random(seed), Arrivals(200.0), 0.0
        for _ in range(2000):
            now += draw(random)
            arrivals.add(now)
        found.append((arrivals.rate(now), arrivals.variability))

    assert inside([rate for rate, _ in found], 1.0) or squared == 0.0
    assert mean(rate for rate, _ in found) == pytest.approx(1.0, rel=0.03)
    assert mean(variability for _, variability in found) == pytest.approx(squared, abs=0.05)


def test_stated_error_of_a_mean() -> None:
    """The mean lies within two of its stated errors of the truth as often as a normal variable does."""
    hits = 0
    for seed in range(400):
        random, fading = Random(seed), Fading(50.0)
        for at in range(300):
            fading.add(float(at), random.gauss(5.0, 2.0))
        hits += abs(fading.mean - 5.0) <= 1.96 * fading.error

    assert 0.95 == pytest.approx(hits / 400, abs=0.03)


def test_weighs_like_the_plain_formulas() -> None:
    """Mean and deviation are those of numpy's reading: sums with the weights written out."""
    random, fading = Random(3), Fading(7.0)
    samples = [(float(at) + random.random(), random.expovariate(1.0)) for at in range(50)]
    for at, value in samples:
        fading.add(at, value)
    weights = [0.5 ** ((samples[-1][0] - at) / 7.0) for at, _ in samples]
    total = sum(weights)
    average = sum(weight * value for weight, (_, value) in zip(weights, samples, strict=True)) / total
    squares = sum(weight * (value - average) ** 2 for weight, (_, value) in zip(weights, samples, strict=True))

    assert average == pytest.approx(fading.mean)
    assert sqrt(squares / (total - sum(weight**2 for weight in weights) / total)) == pytest.approx(fading.deviation)
    assert total == pytest.approx(fading.weight(samples[-1][0]))
    assert total / 2 == pytest.approx(fading.weight(samples[-1][0] + 7.0))


def test_forgets() -> None:
    """After a change, what was before counts half after each half-life; a fit without news is trusted no longer."""
    fading = Fading(10.0)
    for at in range(1000):
        fading.add(at / 10, 1.0)
    for at in range(100):
        fading.add(100 + at / 10, 3.0)

    assert 2.0 == pytest.approx(fading.mean, abs=0.02)

    flow = fitted(station(Random(0), 0.9, exponential, 2, 2000), half_life=60.0)
    now = flow.arrivals.intervals.at
    assert flow.predict(now, 5, "generate").trusted
    assert not flow.predict(now + 600.0, 5, "generate").trusted


def test_few_samples_are_not_trusted() -> None:
    """Nothing is trusted before enough tasks have ended, and no wait before enough have waited."""
    fits = Fits()
    for task in range(200):
        fits.heard(accepted(10.0 * task, task))
        fits.heard(ended(10.0 * task + 1, task, 0.0, 1.0))
        trusted = fits.of("m").predict(10.0 * task + 1, 0, "generate").trusted
        assert not trusted or task >= ENOUGH - 1
    flow = fits.of("m")

    assert Prediction(0.0, 0.0, 1.0, 0.0, trusted=True) == flow.predict(1991.0, 0, "generate")
    assert not flow.predict(1991.0, 1, "generate").trusted
    assert not flow.predict(1991.0, 0, "embed").trusted


@pytest.mark.parametrize(("draw", "servers", "busy"), [
    (exponential, 1, 0.9), (exponential, 8, 0.9), (constant, 1, 0.9), (constant, 4, 0.95), (exponential, 4, 1.3),
])  # fmt: skip
def test_predictions(draw: Draw, servers: int, busy: float) -> None:
    """Waits are predicted without bias, and the stated time holds for the stated share of tasks."""
    fits, errors, waits, late = Fits(), [], [], []
    waiting: set[int] = set()
    known: dict[int, tuple[Prediction, float]] = {}
    for event in station(Random(1), busy * servers / 2, draw, servers, 6000):
        task = event.fields["task"]
        if event.name == "task.accepted":
            prediction = fits.of("m").predict(event.at, len(waiting), "generate")
            waiting.add(task)
            if prediction.trusted:
                known[task] = (prediction, event.at)
        else:
            waiting.remove(task)
            if task in known and event.fields["queued"] > 0:
                prediction, came = known[task]
                waits.append(event.fields["queued"])
                errors.append(prediction.wait - event.fields["queued"])
                late.append(event.at - came > prediction.within(0.95))
        fits.heard(event)

    assert len(waits) > 500
    assert 0.0 == pytest.approx(mean(errors) / mean(waits), abs=0.06)
    if busy < 1:  # a line that grows without bound is predicted farther than any was seen to last
        assert mean(map(float, late)) <= 0.08


def test_shorter_answers_take_less() -> None:
    """A task that may generate a quarter of what is usual is expected to decode for a quarter of the time."""
    flow = Flow()
    for task in range(40):
        flow.accepted(float(task), task)
        flow.ended(task + 0.9, ended(0.0, task, 0.0, 0.8, prefill=0.1, generated=40).fields, well=True)

    assert 0.9 == pytest.approx(flow.predict(40.0, 0, "generate").service)
    assert 0.3 == pytest.approx(flow.predict(40.0, 0, "generate", 10).service)
    assert 0.9 == pytest.approx(flow.predict(40.0, 0, "generate", 400).service)


def test_kinds_that_take_no_step_wait_for_nobody() -> None:
    """What is answered while it is prepared is not told to wait for what runs."""
    fits = Fits()
    for event in station(Random(0), 0.9, exponential, 2, 500):
        fits.heard(event)
    for task in range(1000, 1040):
        fits.heard(accepted(600.0, task, kind="tokenize"))
        fits.heard(ended(600.0, task, 0.0, 0.0, kind="tokenize"))

    assert 0.0 == fits.of("m").predict(600.0, 50, "tokenize").time


def test_remembers_no_more_than_it_needs() -> None:
    """Ends that are never heard of, and ends that are heard of without a beginning, leave nothing behind."""
    fits = Fits()
    for task in range(3000):
        fits.heard(accepted(100.0 * task, task))
        fits.heard(ended(100.0 * task, task + 10**6, 0.0, 1.0, "cancelled"))
    flow = fits.of("m")

    assert 86_400 / 100 + 1 >= len(flow._open)


def test_equal_events_give_equal_fits() -> None:
    """A fit depends on its events alone."""
    events = station(Random(5), 1.7, exponential, 4, 800)

    assert fitted(events) == fitted(events)
