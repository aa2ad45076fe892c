"""What sets each policy apart: the rules that its paper states, its bounds, and its options."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest

from llmos.testing.simulated import Simulation, missing
from llmos_kernel.contracts import API, Limits, Plan, TaskView
from llmos_kernel.errors import ConfigError
from llmos_schedulers import edf, fair, mlfq, priority, round_robin, sjf
from llmos_schedulers.book import StepOptions
from llmos_schedulers.expected import REMEMBERED, Expected
from plugins.schedulers.tests.policies import MODULES, policy

LIMITS = Limits(rows=4, free=1)


def view(id: int, **fields: Any) -> TaskView:
    """A waiting task that arrived at the time *id*."""
    known: dict[str, Any] = {
        "prompt": 10,
        "max_tokens": 4,
        "arrival": float(id),
        "tenant": "t",
        "priority": 0,
        "deadline": None,
    }
    return TaskView(id=id, kind="generate", **(known | fields))


# --- places that change hands


def test_urgent_task_takes_a_place() -> None:
    """The least urgent running task is swapped out, and has no row in that step; the urgent one comes in."""
    made = priority.Priority()
    for id, urgency in ((1, 2), (2, 1)):
        made.changed(view(id, priority=urgency, state="running", cached=10))
    made.arrived(view(3, priority=5))

    expected = Plan(admit=(3,), preempt=((2, "swap"),), decode=((1, 4),))
    assert expected == made.plan(3.0, attrs.evolve(LIMITS, free=0))


def test_free_places_first() -> None:
    """While a place is free nobody yields one."""
    made = priority.Priority()
    made.changed(view(1, state="running", cached=10))
    made.arrived(view(3, priority=5))

    assert () == made.plan(3.0, LIMITS).preempt


def test_a_place_of_the_right_class() -> None:
    """Who yields is of the length class that the place is needed for."""
    made = priority.Priority()
    for id, length_class in ((1, 0), (2, 1)):
        made.changed(view(id, state="running", cached=10, length_class=length_class))
    made.arrived(view(3, priority=5, length_class=0))

    assert ((1, "swap"),) == made.plan(3.0, Limits(4, 0, pools=((128, 0), (1024, 0)))).preempt


def test_equals_do_not_displace() -> None:
    """A task that is as urgent as a running one waits."""
    made = priority.Priority(options=priority.Options(ageing=1.0))
    made.changed(view(1, state="running", cached=10))
    made.arrived(view(2, priority=1))

    assert () == made.plan(2.0, attrs.evolve(LIMITS, free=0)).preempt


def test_changed_priority_counts() -> None:
    """An operator raises a priority, and the task moves."""
    made = priority.Priority()
    for id in (1, 2):
        made.arrived(view(id))
    made.changed(view(2, priority=9))

    assert (2,) == made.plan(2.0, LIMITS).admit


def test_turn_ends_after_its_quantum() -> None:
    """Who has produced a quantum yields to who waits, not before; the prompt is not counted."""
    made = round_robin.RoundRobin(options=round_robin.Options(quantum=2))
    made.changed(view(1, state="running"))
    made.arrived(view(2))
    made.charged(1, 10, 1)
    full = attrs.evolve(LIMITS, free=0)

    assert () == made.plan(2.0, full).preempt
    assert ((1, 1),) == made.plan(2.0, full).decode  # alone, but no further than its turn goes
    made.charged(1, 0, 1)
    assert Plan(admit=(2,), preempt=((1, "swap"),)) == made.plan(3.0, full)


# --- feedback


@pytest.mark.parametrize(("prompt", "level"), [(0, 0), (60, 0), (61, 1), (140, 1), (141, 2), (10**6, 3)])
def test_joins_where_its_first_token_fits(prompt: int, level: int) -> None:
    """A task skips the levels in which it would be demoted before its first token; the lowest takes all."""
    made = mlfq.Feedback(options=mlfq.Options(quantum=4, levels=4, prompt_cost=0.05))

    assert level == made.joins(view(1, prompt=prompt))
    assert 0 == made.joins(view(1, prompt=prompt, cached=prompt))


def test_demoted_when_its_quantum_is_used() -> None:
    """It goes to the end of the next level and begins to count anew, down to the lowest, where it stays."""
    made = mlfq.Feedback(options=mlfq.Options(quantum=2, ratio=3, levels=3, prompt_cost=0.0))
    made.changed(view(1, max_tokens=100, cached=10, state="running"))

    levels = []
    for _ in range(12):
        made.charged(1, 0, 1)
        levels.append(made.seats[1].level)
    assert [0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2] == levels


def test_starving_task_is_promoted() -> None:
    """Who was not served for that long goes to level 0; who is served does not."""
    made = mlfq.Feedback(options=mlfq.Options(quantum=1, starvation=5.0))
    made.changed(view(1, arrival=0.0, max_tokens=100, cached=10, state="running"))
    made.arrived(view(2, arrival=0.0, prompt=100))
    full = attrs.evolve(LIMITS, free=0)
    for now in range(5):
        made.plan(float(now), full)
        made.charged(1, 0, 1)

    assert (2, 3) == (made.seats[1].level, made.seats[2].level)
    assert ((1, "swap"),) == made.plan(5.0, full).preempt
    assert (2, 0) == (made.seats[1].level, made.seats[2].level)


# --- lengths


def test_learns_how_long_a_tenant_asks() -> None:
    """The mean of what a tenant's tasks of a kind produced orders the next ones; at most what the request allows."""
    made = sjf.ShortestJobFirst(options=sjf.Options(ageing=1000.0))
    for id, (tenant, tokens) in enumerate([("brief", 3), ("long", 90)], 1):
        made.changed(view(id, tenant=tenant, max_tokens=100, cached=10, state="running"))
        made.charged(id, 0, tokens)
        made.finished(id)
    for id, (tenant, most) in enumerate([("long", 100), ("long", 50), ("brief", 100), ("other", 60)], 3):
        made.arrived(view(id, arrival=0.0, tenant=tenant, max_tokens=most))

    assert (5, 4, 6, 3) == made.plan(9.0, Limits(rows=4, free=4)).admit


def test_nothing_is_learned_from_who_said_nothing() -> None:
    """A task that was cancelled while it waited does not make its tenant's tasks look short."""
    expected = Expected()
    expected.learn(view(1), 0)

    assert 4 == expected.tokens(view(2))
    assert 3 == expected.tokens(view(2, predicted=3))


def test_estimates_do_not_grow() -> None:
    """Tenants that were not heard of for long are forgotten."""
    expected = Expected()
    for at in range(REMEMBERED + 1):
        expected.learn(view(1, tenant=f"tenant-{at}"), 1)

    assert 4 == expected.tokens(view(2, tenant="tenant-0"))
    assert 1 == expected.tokens(view(2, tenant="tenant-1"))


# --- deadlines


def test_sheds_what_can_no_longer_be_met_and_nothing_else() -> None:
    """A waiting task is refused by the first plan after the last moment at which it could begin, never sooner."""
    random = Random(3)
    made = policy("edf", step_seconds=1.0, chunk=8, predict="max_tokens")
    sim = Simulation(make=made, places=(2,), rows=2)
    for id in range(300):
        size = random.randint(0, 30), random.randint(1, 9)
        deadline = None if id % 7 == 0 else sim.now + random.randint(0, 40) + 0.5
        sim.arrive(id, sim.now, *size, deadline=deadline)
        for _ in range(random.randint(0, 5)):
            late = {
                task.id
                for task in sim.in_state("waiting")
                if task.deadline is not None
                and sim.now + -(-task.prompt // 8) + task.max_tokens - (task.prompt > 0) > task.deadline
            }
            assert late == set(sim.turn().shed)
            for task in sim.in_state("running"):
                if missing(task) == 0 and task.generated == task.max_tokens:
                    sim.end(task.id)
    assert 20 < len(sim.shed) < 200


def test_wakes_to_shed() -> None:
    """While nothing else happens, the plan asks to be made again when the first task can no longer be met."""
    made = edf.EarliestDeadlineFirst(options=edf.Options(step_seconds=1.0))
    made.arrived(view(1, deadline=10.0))  # a step for the prompt and its token, three for the others
    full = attrs.evolve(LIMITS, free=0)

    plan = made.plan(1.0, full)
    assert plan.wake_at == pytest.approx(6.0)
    assert () == made.plan(6.0, full).shed
    assert plan.wake_at is not None
    assert (1,) == made.plan(plan.wake_at, full).shed


def test_measures_its_steps() -> None:
    """Without being told, a step is as long as steps have been; idle time is not one."""
    made = edf.EarliestDeadlineFirst()
    made.changed(view(1, max_tokens=50, cached=10, state="running"))
    for now in (0.0, 0.25, 0.5):
        made.plan(now, LIMITS)
        made.charged(1, 0, 1)
    assert 0.25 == made.step

    made.finished(1)
    made.arrived(view(2, arrival=90.0, deadline=91.0))
    made.plan(90.0, attrs.evolve(LIMITS, free=0))
    assert 0.25 == made.step
    assert () == made.plan(90.2, attrs.evolve(LIMITS, free=0)).shed  # three tokens, as many as the tenant's last
    assert (2,) == made.plan(90.3, attrs.evolve(LIMITS, free=0)).shed


def test_sheds_nobody_if_told() -> None:
    """With `shed` off late tasks are served late."""
    made = edf.EarliestDeadlineFirst(options=edf.Options(shed=False, step_seconds=1.0))
    made.arrived(view(1, deadline=2.0))

    assert Plan(admit=(1,)) == made.plan(50.0, LIMITS)


# --- nobody waits for ever


@attrs.define
class Flood:
    """A stream that hurts whom it can: short urgent tasks keep the places full, with long ones of low standing."""

    name: str
    count: int
    options: dict[str, Any]
    sim: Simulation = attrs.field(init=False)
    ended: dict[int, float] = attrs.field(factory=dict)
    gaps: dict[int, float] = attrs.field(factory=dict)
    """The longest time that a task was not served."""
    served: dict[int, float] = attrs.field(factory=dict)
    most: int = 0
    """Most tasks at once."""

    def run(self) -> list[TaskView]:
        """Run the stream to its end and return the tasks as they came."""
        random = Random(11)
        self.sim = Simulation(make=policy(self.name, **self.options), places=(2,), rows=2)
        came: list[TaskView] = []
        while len(came) < self.count or self.sim.tasks:
            for _ in range(random.choice((0, 0, 0, 1, 2)) if len(came) < self.count else 0):
                low = len(came) % 10 == 0
                who: dict[str, Any] = {"tenant": "low" if low else "high", "priority": 0 if low else 5}
                deadline = None if low else self.sim.now + random.randint(2, 9)
                self.sim.arrive(len(came), self.sim.now, 4, 20 if low else 2, deadline=deadline, **who)
                came.append(self.sim.tasks[len(came)])
                self.served[came[-1].id] = self.sim.now
            self._turn()
        return came

    def _turn(self) -> None:
        before, now = set(self.sim.tasks), self.sim.now
        self.most = max(self.most, len(before))
        plan = self.sim.turn()
        for id, _ in plan.prefill + plan.decode:
            self.gaps[id] = max(self.gaps.get(id, 0.0), now - self.served[id])
            self.served[id] = now
        self.ended |= dict.fromkeys(before - set(self.sim.tasks), now)


COUNTS = [400, pytest.param(10_000, marks=pytest.mark.nightly)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("name", "options", "age"),
    [
        ("fifo", {}, lambda task: 0.0),
        ("priority", {"ageing": 8.0}, lambda task: -8.0 * task.priority),
        ("sjf", {"ageing": 0.25, "predict": "max_tokens", "prompt_cost": 0.0}, lambda task: task.max_tokens / 0.25),
        ("edf", {"patience": 30.0, "shed": False}, lambda task: (task.deadline or task.arrival + 30.0) - task.arrival),
    ],
)
def test_passed_only_by_those_before_it(name: str, options: dict[str, Any], age: Any, count: int) -> None:
    """Each task ends within the time that those ahead of it take one after the other, once the last of them has come.

    Ahead are those whose arrival, moved by their age, is before its own: finitely many, whoever comes later.
    """
    flood = Flood(name, count, options)
    came = flood.run()
    assert len(came) == len(flood.ended)

    order = sorted(came, key=lambda task: (task.arrival + age(task), task.id))
    work, last, longest = 0.0, 0.0, 24.0
    for task in order:
        # A turn for each token, and those in which it came in, or went out for somebody ahead of it.
        work += task.max_tokens + 4
        last = max(last, task.arrival)

        assert flood.ended[task.id] <= last + work + longest


@pytest.mark.parametrize("count", COUNTS)
def test_one_turn_each(count: int) -> None:
    """Under round-robin a task is served again when everybody else, two at a time, has had one turn at most."""
    flood = Flood("round-robin", count, {"quantum": 2})
    assert len(flood.run()) == len(flood.ended)

    turn = 2 + 1  # a quantum, and the step in which the place changes hands
    assert max(flood.gaps.values()) <= (flood.most / 2 + 1) * turn


@pytest.mark.parametrize("count", COUNTS)
def test_served_again_after_starvation(count: int) -> None:
    """Under mlfq a task is promoted when it starves, and served when level 0, as it was then, has had its quanta."""
    flood = Flood("mlfq", count, {"quantum": 2, "starvation": 20.0})
    assert len(flood.run()) == len(flood.ended)

    turn = 2 + 1
    assert max(flood.gaps.values()) <= 20.0 + (flood.most / 2 + 1) * turn


# --- options


@pytest.mark.parametrize("name", MODULES)
def test_modules_state_the_contract(name: str) -> None:
    """Each is written for the kernel's version of the contract, and takes the options of a step."""
    assert API["scheduler"] == MODULES[name].api
    assert isinstance(MODULES[name].llmos_scheduler({"chunk": 7}).options, StepOptions)
    assert 7 == MODULES[name].llmos_scheduler({"chunk": 7}).options.chunk


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "options", "field", "words"),
    [
        ("fair", {"weights": {"a": 0}}, "weights.a", "from 1e-06"),
        ("fair", {"weights": {"a": NAN}}, "weights.a", "a number"),
        ("fair", {"weights": {"a": -1.0}}, "weights.a", "a number"),
        ("fair", {"weights": {"a": float("inf")}}, "weights.a", "a number"),
        ("fair", {"weights": {1: 1.0}}, "weights", "names of tenants"),
        ("fair", {"weights": [1.0]}, "weights", "a mapping"),
        ("fair", {"weight": 0}, "weight", "a number"),
        ("fair", {"wieghts": {}}, "wieghts", "'weights'"),
        ("fair", {"output_cost": 0}, "output_cost", "from 0.001"),
        ("round-robin", {"quantum": -1}, "quantum", "from 1"),
        ("round-robin", {"quantum": 1.5}, "quantum", "whole number"),
        ("round-robin", {"quantun": 1}, "quantun", "'quantum'"),
        ("priority", {"ageing": 0}, "ageing", "a number"),
        ("priority", {"ageing": NAN}, "ageing", "a number"),
        ("mlfq", {"levels": 0}, "levels", "from 1"),
        ("mlfq", {"ratio": 1}, "ratio", "from 2"),
        ("mlfq", {"starvation": "1"}, "starvation", "a number"),
        ("sjf", {"predict": "guess"}, "predict", "'mean' or 'max_tokens'"),
        ("sjf", {"ageing": NAN}, "ageing", "a number"),
        ("edf", {"shed": 1}, "shed", "true or false"),
        ("edf", {"step_seconds": -1}, "step_seconds", "from 0"),
        ("edf", {"patience": NAN}, "patience", "a number"),
    ],
)
def test_wrong_option(name: str, options: dict[str, Any], field: str, words: str) -> None:
    """A wrong option is an error that names it, the plugin, the value, and what would be right."""
    with pytest.raises(ConfigError, match=words) as caught:
        MODULES[name].llmos_scheduler(options)

    assert (field, f"scheduler:{name}") == (caught.value.fields["field"], caught.value.fields["source"])
    assert "value" in caught.value.fields


def test_every_policy_is_tested_here() -> None:
    """The modules that this file is about are those that can be chosen."""
    assert {edf, fair, mlfq, priority, round_robin, sjf} == set(MODULES.values()) - {MODULES["fifo"]}
