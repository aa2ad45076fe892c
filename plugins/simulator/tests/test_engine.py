"""Simulations do what the kernel, the scheduler and the profile say, at the very times that follow from them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llmos import StepProfile
from llmos.testing import FirstCome
from llmos_kernel import Action, Auto, Candidate, Decision, KernelConfig, Limits, ModelSpec, Plan, Policy, Router
from llmos_kernel.api import Budget
from llmos_kernel.errors import ConfigError, InvalidArgument, Overloaded, PluginMissing
from llmos_simulator import Arrival, Outcome, simulate

PROFILE = StepProfile(fixed=1.0, per_row=0.125, per_prompt_token=0.25, places=2, rows=2, tokens=8, context=64)
"""Sums of its terms are exact in binary."""


def outcomes(arrivals: list[Arrival], **settings: Any) -> list[Outcome]:
    """Return what becomes of *arrivals*, in their order."""
    found = list(simulate(arrivals, **{"scheduler": FirstCome, "profile": PROFILE, **settings}))

    assert len(arrivals) == len(found)
    return sorted(found, key=lambda outcome: arrivals.index(outcome.arrival))


def times(outcome: Outcome) -> tuple[float | None, float | None, float]:
    """Return when it began, when its first token was there, and when it ended."""
    return outcome.admitted, outcome.first, outcome.ended


def test_one_task_takes_what_the_profile_says() -> None:
    """A prompt of four tokens is one step, and each further token another."""
    (outcome,) = outcomes([Arrival(2.0, prompt=4, output=3)])

    assert (2.0, 2.0 + 2.125, 2.0 + 2.125 + 2 * 1.125) == times(outcome)
    assert ("", 4, 3, "model") == (outcome.error, outcome.prompt, outcome.generated, outcome.model)


def test_prompts_are_cut_by_the_budget_of_a_step() -> None:
    """A prompt of twenty tokens takes three steps of at most eight."""
    (outcome,) = outcomes([Arrival(0.0, prompt=20, output=1)])

    assert (0.0, 2 * (1.125 + 2.0) + 1.125 + 1.0, 2 * (1.125 + 2.0) + 1.125 + 1.0) == times(outcome)


def test_who_comes_during_a_step_begins_when_it_has_ended() -> None:
    """It is accepted at its own time, is given its place with the plan of the next step, and begins after that."""
    first, second = outcomes([Arrival(0.0, prompt=4, output=2), Arrival(0.5, "late", prompt=4, output=1)])

    assert (0.0, 2.125) == times(first)[:2]
    assert 2.125 + 1.125 == first.ended == second.admitted
    assert 2.125 + 1.125 + 2.125 == second.first == second.ended


def test_who_comes_together_begins_together() -> None:
    """No step begins between two arrivals of the same time."""
    found = outcomes([Arrival(1.0, tenant) for tenant in "ab"])

    assert [(1.0, 1.0 + 1.0 + 2 * (0.125 + 0.25))] * 2 == [times(outcome)[:2] for outcome in found]


def test_no_more_than_the_places() -> None:
    """The third task gets its place when one of two has ended, with the other's next step."""
    first, second, third = outcomes([Arrival(0.0, prompt=1, output=output) for output in (2, 5, 1)])

    assert first.ended + 1.125 == third.admitted
    assert first.ended < third.ended < second.ended


def test_steps_of_two_models_overlap() -> None:
    """Each model takes its own time; the later one is not held up by the longer step of the other."""
    slow = StepProfile(fixed=10.0)
    found = outcomes(
        [Arrival(0.0, model="slow"), Arrival(1.0, model="fast"), Arrival(4.0, model="fast")],
        profile={"slow": slow, "fast": PROFILE},
    )

    assert [10.0, 1.0 + 1.375, 4.0 + 1.375] == [outcome.ended for outcome in found]
    assert ["slow", "fast", "fast"] == [outcome.model for outcome in found]


class Turns(Router):
    """Chooses one after the other."""

    name = "turns"

    def __init__(self) -> None:
        self.heard_of: list[str] = []
        self._next = 0

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the next."""
        self._next += 1
        return sorted(candidate.spec.name for candidate in candidates)[self._next % 2]

    def heard(self, event: Any) -> None:
        """Keep the names."""
        self.heard_of.append(event.name)


def test_routers_choose_among_models() -> None:
    """A configured router gets the tasks that name no model, and hears how they end."""
    router = Turns()
    found = outcomes(
        [Arrival(float(number)) for number in range(4)], profile={"a": PROFILE, "b": PROFILE},
        config=KernelConfig(router="turns"), plugins=[router],
    )  # fmt: skip

    assert ["b", "a", "b", "a"] == [outcome.model for outcome in found]
    assert 4 == router.heard_of.count("task.done")


def test_users_who_think() -> None:
    """What `ended` returns comes at its time; the simulation ends when nobody comes any more."""
    heard: list[Outcome] = []

    def again(outcome: Outcome) -> Arrival | None:
        heard.append(outcome)
        return Arrival(outcome.ended + 3.0, outcome.arrival.tenant) if len(heard) < 5 else None

    found = list(simulate([Arrival(1.0, "user")], scheduler=FirstCome, profile=PROFILE, ended=again))

    assert heard == found
    assert [1.0 + number * (1.375 + 3.0) for number in range(5)] == [outcome.arrival.at for outcome in found]


def test_deadlines() -> None:
    """A task whose time runs out fails at that time, or when the step that it is in has ended."""
    waiting, running = (
        outcomes([Arrival(0.0, output=9), Arrival(0.0, output=9), Arrival(0.0, deadline=5.0)])[2],
        outcomes([Arrival(0.0, output=9, deadline=2.0)])[0],
    )

    assert ("DeadlineExceeded", None, None) == (waiting.error, waiting.admitted, waiting.first)
    assert 5.0 <= waiting.ended < 5.0 + 1.25
    assert ("DeadlineExceeded", 0.0, 1.375, 1.375 + 1.125) == (running.error, *times(running))
    assert 2 == running.generated


def test_refusals() -> None:
    """What a policy refuses ends at once, without an id; what the scheduler sheds ends in its queue."""

    class Full(Policy):
        name = "full"

        def check(self, action: Action) -> Decision:
            if action.name == "schedule" and action.detail["tasks"] > 0:
                raise Overloaded("full", retry_after=1.0)
            return Decision.ABSTAIN

    refused = outcomes([Arrival(0.0, output=5), Arrival(1.5)], plugins=[Full()])[1]
    (shed,) = outcomes([Arrival(0.0, output=50, deadline=1.0)], scheduler="edf", options={"step_seconds": 1.0})

    assert ("Overloaded", None, None, 1.5) == (refused.error, refused.id, refused.admitted, refused.ended)
    assert "Overloaded" == shed.error
    assert shed.id is not None


def test_budgets_hold_arrivals_back() -> None:
    """Who may hold one task at once gets the next in when the first has ended."""
    budget = Budget(tasks=1)
    found = outcomes(
        [Arrival(0.0, "a"), Arrival(0.0, "a", output=2), Arrival(0.0, "b")], config=KernelConfig(budget=budget)
    )

    assert 1.75 == found[0].ended == found[2].ended == found[1].admitted


@pytest.mark.parametrize("policy", ["edf", "fair", "fifo", "mlfq", "priority", "round-robin", "sjf"])
def test_everything_ends_under_every_policy(policy: str) -> None:
    """Preempted or not, each task produces exactly its output, once."""
    rng, now, arrivals = random.Random(policy), 0.0, []
    for _ in range(300):
        now += rng.expovariate(1 / 6)
        output = rng.randint(1, 12)
        arrivals.append(
            Arrival(
                now, rng.choice("abc"), priority=rng.randint(0, 5), prompt=rng.randint(1, 40), output=output,
                max_tokens=output + rng.randint(0, 9),
            )
        )  # fmt: skip
    found = outcomes(arrivals, scheduler=policy)

    assert [(one.prompt, one.output) for one in arrivals] == [(one.prompt, one.generated) for one in found]
    assert {""} == {outcome.error for outcome in found}
    assert 300 == len({outcome.id for outcome in found})


def test_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is started, not even one that would end at once."""

    def start(thread: threading.Thread) -> None:
        raise AssertionError(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    assert 20 == len(outcomes([Arrival(float(number)) for number in range(20)], scheduler="fair"))
    assert 20 == len(outcomes([Arrival(0.0, service=1.0) for _ in range(20)], scheduler="fifo", profile=None, rows=3))


def test_loads_take_their_time() -> None:
    """Nobody is served before the model is loaded, as long as its options say."""
    spec = ModelSpec(name="model", backend="any", options={"load_seconds": 7.0})
    (outcome,) = outcomes([Arrival(8.0)], config=KernelConfig(models=(spec,)))
    (early,) = outcomes([Arrival(0.0)], config=KernelConfig(models=(spec,)))

    assert (7.0, 8.0) == (early.admitted, outcome.admitted)


def test_a_scheduler_that_fails_ends_all_that_wait() -> None:
    """However many they are: no outcome is lost, although the kernel drops events when too many come at once."""

    class Failing(FirstCome):
        def plan(self, now: float, limits: Limits) -> Plan:
            if now > 10.0:
                raise ZeroDivisionError
            return super().plan(now, limits)

    arrivals = [Arrival(5.0, "many", output=1, max_tokens=60, prompt=1) for _ in range(6000)]
    found = list(simulate(arrivals, scheduler=Failing, profile=PROFILE))
    errors = [outcome.error for outcome in found]

    assert 6000 == len(errors)
    assert {"", "PluginFailed"} == set(errors)
    assert 5900 < errors.count("PluginFailed")


def test_figures_of_a_run() -> None:
    """Steps, requests, time and utilisation."""
    run = simulate([Arrival(1.0), Arrival(1.0 + 2.75)], scheduler=FirstCome, profile=PROFILE)
    list(run)

    assert (2, 2, 1.0 + 2.75 + 1.375) == (run.steps, run.requests, run.now)
    assert {"model": 2 * 1.375 / 5.125} == run.utilisation()


def test_a_run_can_be_left() -> None:
    """Arrivals without end are drawn as they are needed, and `close` ends the kernel."""

    def endless() -> Iterator[Arrival]:
        now = 0.0
        while True:
            now += 1.5
            yield Arrival(now)

    with simulate(endless(), scheduler="fifo", profile=PROFILE) as run:
        first = [next(run) for _ in range(100)]

    assert 100 == len(first)
    assert run.requests <= 102
    assert "stopped" == run.kernel.state
    with pytest.raises(StopIteration):
        next(run)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"profile": None}, "profile"),
        ({"profile": {}}, "profile"),
        ({"profile": 3}, "profile"),
        ({"profile": {"a": 3}}, "profile"),
        ({"profile": {3: PROFILE}}, "profile"),
        ({"rows": 2}, "profile"),
        ({"profile": None, "rows": 0}, "rows"),
        ({"profile": None, "rows": 1.5}, "rows"),
        ({"scheduler": 3}, "scheduler"),
        ({"options": {"chunk": 3}}, "options"),
        ({"config": 3}, "config"),
        ({"config": KernelConfig(models=(ModelSpec(name="other", backend="echo"),))}, "models"),
        ({"arrivals": [3]}, "arrivals"),
        ({"arrivals": 3}, "arrivals"),
    ],
)
def test_arguments_that_are_wrong(settings: dict[str, Any], field: str) -> None:
    """The error names the argument, what it was and what would be right, before anything is simulated."""
    with pytest.raises(InvalidArgument) as caught:
        simulate(**{"arrivals": [], "scheduler": FirstCome, "profile": PROFILE, **settings})

    assert field == caught.value.fields["field"]
    assert caught.value.fields["expected"]


def test_policies_that_are_wrong() -> None:
    """An unknown policy is an error with the nearest names, and so is an option that it has not."""
    with pytest.raises(PluginMissing, match="'fifo'"):
        simulate([], scheduler="fif", profile=PROFILE)
    with pytest.raises(ConfigError, match="nearest is 'chunk'"):
        simulate([], scheduler="fifo", options={"chunks": 3}, profile=PROFILE)


@pytest.mark.parametrize(
    ("arrivals", "field"),
    [
        ([Arrival(2.0), Arrival(1.0)], "at"),
        ([Arrival(1.0, model="unknown")], "model"),
        ([Arrival(1.0), "arrival"], "arrivals"),
        ([Arrival(1.0, kind="call")], "kind"),
    ],
)
def test_arrivals_that_are_wrong(arrivals: list[Any], field: str) -> None:
    """They end the simulation with an error that names the field."""
    with pytest.raises(InvalidArgument) as caught:
        list(simulate(arrivals, scheduler=FirstCome, profile=PROFILE))

    assert field == caught.value.fields["field"]


@pytest.mark.parametrize(("answer", "field"), [(3, "ended"), (Arrival(0.5), "at")])
def test_answers_that_are_wrong(answer: Any, field: str) -> None:
    """What `ended` returns is an arrival that is still to come, or None."""
    with pytest.raises(InvalidArgument) as caught:
        list(simulate([Arrival(1.0)], scheduler=FirstCome, profile=PROFILE, ended=lambda outcome: answer))

    assert field == caught.value.fields["field"]


def test_tasks_that_cannot_be_fail_alone() -> None:
    """A prompt that does not fit, and a task without a duration, are errors of that task."""
    large, small = outcomes([Arrival(0.0, prompt=60, output=5), Arrival(0.0)])
    missing, drawn = outcomes([Arrival(0.0), Arrival(0.0, service=2.0)], profile=None, rows=2, scheduler="fifo")

    assert ["InvalidArgument", "", "InvalidArgument", ""] == [one.error for one in (large, small, missing, drawn)]
