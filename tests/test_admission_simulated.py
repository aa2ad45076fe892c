"""Admission and capacity on the real kernel in virtual time: what was promised, and what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from statistics import mean, quantiles
from typing import Any

import attrs
import pytest

from llmos import StepProfile
from llmos_kernel import Action, Budget, Decision, Event, KernelConfig, Policy
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.admission import Admission, Options
from llmos_schedulers.capacity import Batching, Usage, capacity
from llmos_schedulers.fitting import Prediction
from llmos_simulator.engine import Run, simulate
from llmos_simulator.records import Arrival, Outcome

SMALL = StepProfile(
    model="small", fixed=0.006, per_row=0.0015, prompt_fixed=0.0025, per_prompt_token=0.0006, per_context_token=4e-6,
    per_prompt_context=5e-7, places=16, rows=16, tokens=256, context=2048,
)  # fmt: skip
"""About what a model of 135 million parameters takes on two cores."""
Draw = Callable[[Random], float]


@attrs.define(eq=False)
class Watched(Policy):
    """Admission on the clock of a simulation; it keeps what each task was told."""

    name = "watched"

    admission: Admission
    told: list[Prediction] = attrs.field(factory=list)
    """In order of the tasks that were accepted."""

    @hookimpl
    def llmos_policy(self, config: object) -> Policy:
        """Return it."""
        return self

    def check(self, action: Action) -> Decision:
        """Ask admission, and keep what it knew."""
        decision = self.admission.check(action)
        if action.name == "schedule":
            detail, flow = action.detail, self.admission.fits.of("model")
            most = detail["params"]["max_tokens"]
            self.told.append(flow.predict(self.admission._now(), detail["unfinished"], detail["kind"], most))
        return decision

    def heard(self, event: Event) -> None:
        """Pass it on."""
        self.admission.heard(event)


def exponential(random: Random) -> float:
    """Service of mean 1 s and deviation 1 s."""
    return random.expovariate(1.0)


def uneven(random: Random) -> float:
    """Service of mean 1 s and deviation 0.5 s."""
    return random.gammavariate(4.0, 0.25)


def coming(count: int, rate: float, make: Callable[[Random, float], Arrival]) -> Iterator[Arrival]:
    """Tasks that come at random."""
    random, now = Random(7), 0.0
    for _ in range(count):
        now += random.expovariate(rate)
        yield make(random, now)


def run(
    arrivals: Iterator[Arrival], *, admitted: bool, confidence: float = 0.95, **how: Any
) -> tuple[list[Outcome], list[Prediction]]:
    """What became of the arrivals in order, and what those that were accepted were told."""
    runs: list[Run] = []
    watched = Watched(Admission(Options(confidence=confidence), now=lambda: runs[0].now if runs else 0.0))
    budget = Budget(tasks=2**30, tokens_per_minute=2**40)
    config = KernelConfig(policies=("watched",) if admitted else (), budget=budget)
    plugins = (watched,) if admitted else ()
    with simulate(arrivals, scheduler="fifo", config=config, plugins=plugins, **how) as running:
        runs.append(running)
        outcomes = sorted(running, key=lambda outcome: outcome.arrival.at)
    return outcomes, watched.told


def met(outcome: Outcome) -> bool:
    """Whether it ended well, and so before its deadline."""
    return outcome.error == ""


@pytest.mark.parametrize(("draw", "rows", "deadline", "error"), [
    (uneven, 4, 5.0, 0.15), (exponential, 4, 5.0, 0.35), (exponential, 16, 5.0, 0.20),
])  # fmt: skip
def test_deadlines_and_predictions(draw: Draw, rows: int, deadline: float, error: float) -> None:
    """At 150 % load 95 % of the accepted tasks meet their deadline, others are refused at once; waits are as told."""

    def make(random: Random, at: float) -> Arrival:
        return Arrival(at, service=draw(random), deadline=deadline)

    rate = 1.5 * rows
    found, told = run(coming(4000, rate, make), admitted=True, rows=rows)
    without, _ = run(coming(4000, rate, make), admitted=False, rows=rows)
    accepted = [outcome for outcome in found if outcome.id is not None]
    later = [outcome for outcome in accepted if outcome.arrival.at > 400 / rate * 2]
    pairs = [
        (prediction.wait, outcome.admitted - outcome.arrival.at)
        for prediction, outcome in zip(told, accepted, strict=True)
        if prediction.trusted and outcome.admitted is not None
    ]
    refused = [outcome for outcome in found if outcome.id is None]

    assert mean(map(met, later)) >= 0.95
    assert mean(map(met, without)) <= 0.75
    assert sum(map(met, found)) >= 0.9 * sum(map(met, without))
    assert {("Overloaded", 0.0)} == {(outcome.error, outcome.ended - outcome.arrival.at) for outcome in refused}
    assert sum(abs(wait - had) for wait, had in pairs) <= error * sum(had for _, had in pairs)


def test_deadlines_of_a_model_that_batches() -> None:
    """The same for an executor that steps, whose services depend on how many there are, with a little to spare."""

    def make(random: Random, at: float) -> Arrival:
        output = min(max(1, round(random.expovariate(1 / 60))), 400)
        return Arrival(at, prompt=100, output=output, max_tokens=400, deadline=12.0)

    rate = 1.5 * Batching(profile=SMALL, usage=Usage(prompt=100, output=60, think=1)).most
    found, _ = run(coming(2500, rate, make), admitted=True, confidence=0.97, profile=SMALL)
    without, _ = run(coming(2500, rate, make), admitted=False, profile=SMALL)
    later = [outcome for outcome in found[500:] if outcome.id is not None]

    assert mean(map(met, later)) >= 0.95
    assert mean(map(met, without[500:])) <= 0.75


@pytest.mark.parametrize("usage", [
    Usage(prompt=200, output=100, think=30), Usage(prompt=50, output=60, requests_per_minute=2.0),
], ids=["think", "requests"])  # fmt: skip
def test_capacity(usage: Usage) -> None:
    """On the simulated kernel a tenth fewer users than the answer wait less than the limit, a tenth more longer."""
    best = capacity(Batching(profile=SMALL, usage=usage), 2.0)
    assert best is not None
    fewer, more = (waits(usage, users) for users in (round(0.9 * best.users), round(1.1 * best.users)))

    assert quantiles(fewer, n=20)[-1] <= 2.0 <= quantiles(more, n=20)[-1]


def waits(usage: Usage, users: int) -> list[float]:
    """The waits of tasks of so many users."""
    random, count = Random(3), 5000
    pause = usage.think or 60 / (usage.requests_per_minute or 1.0) / users

    def asked(at: float) -> Arrival:
        output = max(1, min(round(random.expovariate(1 / usage.output)), 1500))
        return Arrival(at + random.expovariate(1 / pause), prompt=round(usage.prompt), output=output)

    def again(outcome: Outcome) -> Arrival | None:
        return asked(outcome.ended) if len(found) < count and usage.think is not None else None

    def one_after_the_other() -> Iterator[Arrival]:
        at = 0.0
        for _ in range(count):
            yield (one := asked(at))
            at = one.at

    found: list[float] = []
    arrivals = one_after_the_other()
    if usage.think is not None:
        arrivals = iter(sorted((asked(0.0) for _ in range(users)), key=lambda one: one.at))
    with simulate(arrivals, scheduler="fifo", profile=SMALL, ended=again) as running:
        for outcome in running:
            assert outcome.admitted is not None
            found.append(outcome.admitted - outcome.arrival.at)
    return found[count // 5 : count]
