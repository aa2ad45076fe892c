"""Admission: what is refused, when, and what whoever is refused is told; by its own clock, and on the real kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import nan
from random import Random
from statistics import mean, median
from typing import Any

import pytest

import llmos
from llmos.testing import EchoBackend, echo_spec
from llmos_kernel import Action, Credentials, Decision, Event, Kernel, KernelConfig, Policy, Principal, Task
from llmos_kernel.errors import ConfigError, KernelError, Overloaded
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers import admission, fifo
from llmos_schedulers.admission import Admission, Options
from llmos_schedulers.quotas import Quota
from plugins.schedulers.tests.stations import Served, accepted, asks, ended, serve

PLUGINS = (("admission", admission), ("fifo", fifo))


def facts(error: KernelError) -> dict[str, Any]:
    """What the error says for programs."""
    return error.fields


def exponential(random: Random) -> float:
    """Service of mean 1 and deviation 1."""
    return random.expovariate(1.0)


def constant(_: Random) -> float:
    """Service of 1."""
    return 1.0


def uneven(random: Random) -> float:
    """Service of mean 1 and deviation 0.5: a gamma distribution."""
    return random.gammavariate(4.0, 0.25)


# --- deadlines ---------------------------------------------------------------------------------------------------


def late_part(served: list[Served]) -> list[Served]:
    """Those that came when enough was known."""
    return served[1000:]


@pytest.mark.parametrize("draw", [exponential, constant, uneven])
@pytest.mark.parametrize(("servers", "deadline"), [(1, 8.0), (4, 5.0), (16, 5.0)])
def test_deadlines_at_one_and_a_half_times_the_capacity(
    draw: Callable[[Random], float], servers: int, deadline: float
) -> None:
    """With admission 95 % of the accepted tasks meet their deadline, without it they do not; hardly less is served."""
    station: dict[str, Any] = {"servers": servers, "rate": 1.5 * servers, "draw": draw, "deadline": deadline}
    with_it, without = (late_part(serve(policy, 4000, **station)) for policy in (Admission(), None))
    taken = [task for task in with_it if task.refused is None]

    assert mean(task.met for task in taken) >= 0.95
    assert mean(task.met for task in without) <= 0.75
    assert sum(task.met for task in taken) >= 0.9 * sum(task.met for task in without)
    told = [facts(task.refused) for task in with_it if task.refused is not None]
    assert all(0 < fields["retry_after"] < 60 and fields["wait"] >= 0 for fields in told)


@pytest.mark.parametrize(("draw", "servers", "error"), [
    (constant, 1, 0.10), (constant, 4, 0.05), (uneven, 1, 0.30), (uneven, 4, 0.15), (exponential, 4, 0.20),
    (exponential, 16, 0.10),
])  # fmt: skip
def test_waits_come_as_predicted(draw: Callable[[Random], float], servers: int, error: float) -> None:
    """The predicted wait is off by this part of the mean wait on average, and by next to nothing to either side."""
    found = late_part(
        serve(Admission(), 5000, servers=servers, rate=1.5 * servers, draw=draw, deadline=10.0 if servers > 1 else 20.0)
    )
    waits = [
        (task.predicted, task.begun - task.came)
        for task in found
        if task.begun is not None and task.predicted is not None
    ]
    total = sum(wait for _, wait in waits)

    assert len(waits) > 2000
    assert sum(abs(told - wait) for told, wait in waits) <= error * total
    assert abs(sum(told - wait for told, wait in waits)) <= 0.05 * total


def test_who_comes_again_when_told_is_taken() -> None:
    """When as few are unfinished as by the fluid limit after ``retry_after``, the same task is accepted."""
    policy = Admission()
    serve(policy, 3000, servers=4, rate=3.0, draw=uneven, deadline=None)
    now = policy.fits.of("m").arrivals.intervals.at
    policy._now = lambda: now
    with pytest.raises(Overloaded) as caught:
        policy.check(asks(deadline=5.0, unfinished=60))
    flow = policy.fits.of("m")
    drained = facts(caught.value)["retry_after"] * (1 / flow.interval.mean - flow.arrivals.rate(now))

    assert Decision.ABSTAIN is policy.check(asks(deadline=5.0, unfinished=int(60 - drained)))
    with pytest.raises(Overloaded):
        policy.check(asks(deadline=5.0, unfinished=int(60 - drained) + 2))


def learnt(**options: Any) -> Admission:
    """A policy that has seen a station with four servers and services of 1 s at 90 % load."""
    policy = Admission(Options(**options))
    serve(policy, 2000, servers=4, rate=3.6, draw=uneven, deadline=None)
    at = policy.fits.of("m").arrivals.intervals.at
    policy._now = lambda: at
    return policy


def test_what_waiting_does_not_help() -> None:
    """A deadline that is too short even when nobody waits is refused without a time to come again."""
    with pytest.raises(Overloaded, match="allow more time") as caught:
        learnt().check(asks(deadline=0.3, unfinished=0))

    assert facts(caught.value)["retry_after"] is None


def test_the_message() -> None:
    """It says how long the task would wait and take, what its deadline is, and when to try again."""
    with pytest.raises(Overloaded) as caught:
        learnt().check(asks(deadline=5.0, unfinished=60))

    assert 14.0 == pytest.approx(facts(caught.value)["wait"], rel=0.1)
    assert "m cannot serve this task in time: with a wait of about 1" in caught.value.message
    assert "its deadline is 5 s; try again in " in caught.value.message


def test_without_a_deadline() -> None:
    """A task without a deadline may wait, unless a longest wait is set."""
    assert Decision.ABSTAIN is learnt().check(asks(unfinished=10_000))
    with pytest.raises(Overloaded, match="longer than the 10 s allowed") as caught:
        learnt(longest_wait=10).check(asks(unfinished=100))
    assert facts(caught.value)["retry_after"] > 5
    assert Decision.ABSTAIN is learnt(longest_wait=10).check(asks(unfinished=20))


def test_shorter_answers_may_still_come() -> None:
    """Who asks for few tokens takes less, and is accepted where a longer answer would be late."""
    policy = learnt()
    with pytest.raises(Overloaded):
        policy.check(asks(deadline=0.5))

    assert Decision.ABSTAIN is policy.check(asks(deadline=0.5, params={"max_tokens": 2}))


@pytest.mark.parametrize("odd", [0, -3, nan, "many", None, True, [1], 2.5])
def test_odd_parameters_are_left_to_the_executor(odd: object) -> None:
    """What is no number of tokens counts as if it were not said; the executor will refuse it by name."""
    policy = learnt(default={"tokens_per_minute": 1e6})

    assert Decision.ABSTAIN is policy.check(asks(deadline=50.0, params={"max_tokens": odd}))


def test_nothing_is_refused_before_enough_is_known() -> None:
    """A fit that is not to be trusted refuses nothing."""
    policy = Admission(now=lambda: 5.0)
    for task in range(10):
        policy.heard(accepted(0.0, task))
        policy.heard(ended(5.0, task, decode=5.0))

    assert Decision.ABSTAIN is policy.check(asks(deadline=0.001, unfinished=10**6))


def test_what_it_leaves_to_others() -> None:
    """Everything but scheduling is none of its business."""
    for name in ("attach", "alloc", "grant", "control.list"):
        assert Decision.ABSTAIN is Admission().check(Action(Principal(1, "a", "a"), name, "model:m"))


# --- quotas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quota", "limit", "words"), [
    ({"tokens_per_minute": 300}, 300, "300 tokens a minute; try again in 43 s"),
    ({"requests_per_minute": 1}, 1, "1 requests a minute; try again in 60 s"),
    ({"tasks": 1}, 1, "1 tasks in flight"),
])  # fmt: skip
def test_quotas_name_what_is_exceeded(quota: dict[str, float], limit: float, words: str) -> None:
    """The error names tenant, quota and limit, and when there will be room where that is known."""
    policy = Admission(Options(tenants={"free": quota}), now=lambda: 0.0)
    policy.check(asks("free", params={"max_tokens": 1}))
    with pytest.raises(Overloaded, match=words) as caught:
        policy.check(asks("free", params={"max_tokens": 1}))

    (name,) = quota
    assert ("free", name, limit) == tuple(facts(caught.value)[key] for key in ("tenant", "quota", "limit"))
    assert Decision.ABSTAIN is policy.check(asks("paying"))


def test_a_place_comes_free_as_tasks_end() -> None:
    """Who has too many tasks in flight is told when one will have ended, once that is known."""
    policy = learnt(default={"tasks": 4})
    with pytest.raises(Overloaded) as caught:
        policy.check(asks(tasks=4))

    assert 0.25 == pytest.approx(facts(caught.value)["retry_after"], rel=0.1)


@pytest.mark.parametrize(("options", "field", "words"), [
    ({"confidenc": 0.9}, "confidenc", "the nearest is 'confidence'"),
    ({"confidence": 0.2}, "confidence", "from 0.5"),
    ({"confidence": nan}, "confidence", "from 0.5"),
    ({"half_life": 0}, "half_life", "from 0.1"),
    ({"longest_wait": -1}, "longest_wait", "from 0"),
    ({"patience": "long"}, "patience", "a number"),
    ({"tenants": [1]}, "tenants", "a mapping"),
    ({"tenants": {3: {}}}, "tenants", "names of tenants"),
    ({"tenants": {"free": 3}}, "tenants.free", "a table of limits"),
    ({"tenants": {"free": {"token_per_minute": 3}}}, "token_per_minute", "the nearest is 'tokens_per_minute'"),
    ({"tenants": {"free": {"tasks": 0}}}, "tasks", "from 1"),
    ({"tenants": {"free": {"tokens_per_minute": nan}}}, "tokens_per_minute", "tenants.free"),
    ({"default": {"requests_per_minute": 0}}, "requests_per_minute", "policy:admission: default: requests"),
    ({"default": {"burst": -1}}, "burst", "a number"),
], ids=str)  # fmt: skip
def test_wrong_options(options: dict[str, Any], field: str, words: str) -> None:
    """Each wrong option is named, with its tenant, its value, and what would be right."""
    with pytest.raises(ConfigError, match=words) as caught:
        admission.llmos_policy(options)

    assert field == facts(caught.value)["field"]


def test_answers_quickly() -> None:
    """A check takes less than 20 microseconds of processor time, refused or not, with thousands of tenants."""
    policy = learnt(default={"tokens_per_minute": 1e9, "requests_per_minute": 1e9, "tasks": 2**30})
    for at in range(3000):
        policy.check(asks(f"tenant-{at}", deadline=50.0))
    for deadline, unfinished in ((50.0, 20), (5.0, 500)):
        action, times = asks("tenant-7", deadline=deadline, unfinished=unfinished), []
        for _ in range(300):
            begin = time.thread_time_ns()
            refused = False
            try:
                policy.check(action)
            except Overloaded:
                refused = True
            times.append(time.thread_time_ns() - begin)
            assert refused == (deadline == 5.0)

        assert median(times) < 100_000, f"{median(times) / 1000} us"  # slow and busy machines are no failure


# --- on the kernel -------------------------------------------------------------------------------------------------


class Witness:
    """Counts the tasks of each tenant that are in flight, in the order in which the kernel says so."""

    name = "witness"

    def __init__(self) -> None:
        self.flying: dict[str, int] = {}
        self.most: dict[str, int] = {}

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Count."""
        if event.name.startswith("task."):
            tenant = event.fields["tenant"]
            self.flying[tenant] = self.flying.get(tenant, 0) + (1 if event.name == "task.accepted" else -1)
            self.most[tenant] = max(self.most.get(tenant, 0), self.flying[tenant])


class Chosen:
    """A plugin that brings a policy that was made before."""

    name = "chosen"

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @hookimpl
    def llmos_policy(self, config: object) -> Policy:
        """Return it."""
        return self._policy


@contextmanager
def kernel(echo: EchoBackend, *plugins: object, **options: Any) -> Iterator[Kernel]:
    """A kernel with an echo model and admission with these options."""
    config = KernelConfig(
        models=(echo_spec(),), policies=("admission",), options={"policy:admission": options}, timeout=30.0
    )
    with Kernel(config, plugins=(echo, *PLUGINS, *plugins)) as running:
        yield running


def test_no_more_in_flight_than_may() -> None:
    """Threads that schedule at once never get more tasks in flight for their tenant than its quota."""
    witness, taken, quotas = Witness(), list[int](), set[object]()

    def schedule(running: Kernel, number: int) -> None:
        with running.attach(Credentials(f"p{number}", f"tenant-{number % 2}")) as process:
            for _ in range(60):
                try:
                    with process.schedule(Task("generate", "echo", "one two three")) as handle:
                        process.recv(handle)
                        taken.append(number % 2)
                except Overloaded as error:
                    quotas.add(error.fields["quota"])

    tenants = {"tenant-0": {"tasks": 2}, "tenant-1": {"tasks": 5}}
    with kernel(EchoBackend(), witness, tenants=tenants) as running:
        threads = [threading.Thread(target=schedule, args=(running, number)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert {0, 1} == set(taken)
    assert {"tasks"} == quotas
    assert witness.most["tenant-0"] <= 2
    assert witness.most["tenant-1"] <= 5
    assert {"tenant-0": 0, "tenant-1": 0} == witness.flying


def test_tokens_through_the_kernel() -> None:
    """A client is refused with a time to come again once its tokens are used, and another tenant is not."""
    with kernel(EchoBackend(), tenants={"free": {"tokens_per_minute": 60, "burst": 600}}) as running:
        free, paying = (
            llmos.Client(kernel=running, credentials=Credentials(name, name)) for name in ("free", "paying")
        )
        with free, paying:
            with pytest.raises(Overloaded) as caught:
                free.load_model("echo").generate_text("one two three", max_tokens=400, n=3)
            assert "tokens_per_minute" == facts(caught.value)["quota"]
            retry = facts(caught.value)["retry_after"]
            assert isinstance(retry, float)
            assert 0 < retry <= 656
            assert "one" == str(paying.load_model("echo").generate_text("one", max_tokens=400))


def test_deadlines_through_the_kernel() -> None:
    """A task that would be late is refused at once, before anything is made of it."""
    echo, policy = EchoBackend(), learnt()
    policy.fits.flows["echo"] = policy.fits.flows["m"]
    config = KernelConfig(models=(echo_spec(),), policies=("chosen",), timeout=30.0)
    with Kernel(config, plugins=(echo, ("fifo", fifo), Chosen(policy))) as running, running.attach() as process:
        with pytest.raises(Overloaded, match="cannot serve this task in time"):
            process.schedule(Task("generate", "echo", "one", deadline=0.2))
        with process.schedule(Task("generate", "echo", "one", deadline=20.0)) as handle:
            process.recv(handle)

    assert 1 == len(echo.executors[0].tasks)


def test_a_stalled_observer() -> None:
    """While nothing is heard quotas hold, and what was dropped is forgotten when the kernel has said otherwise."""
    stalled, go_on = threading.Event(), threading.Event()

    class Stalled:
        """Stands still at the first task."""

        name = "stalled"

        @hookimpl
        def llmos_event(self, event: Event) -> None:
            """Wait."""
            if event.name == "task.accepted" and not go_on.is_set():
                stalled.set()
                go_on.wait(30)

    policy, now = Admission(Options(default=Quota(tasks=3), patience=60.0)), [0.0]
    policy._now = lambda: now[0]
    config = KernelConfig(models=(echo_spec(),), policies=("chosen",), timeout=30.0)
    kernel = Kernel(config, plugins=(EchoBackend(), ("fifo", fifo), Stalled(), Chosen(policy)))
    with kernel as running, running.attach() as process:

        def say() -> None:
            with process.schedule(Task("generate", "echo", "one")) as handle:
                process.recv(handle)

        try:
            for _ in range(3):
                say()
            assert stalled.wait(30)
            with pytest.raises(Overloaded):
                say()
            now[0] = 61.0
            say()
        finally:
            go_on.set()
    assert policy.quotas.tenants["local"].flying <= 3
