"""Each policy serves whom a plain reading of its paper serves, turn by turn."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.testing.simulated import Simulation
from plugins.schedulers.tests.policies import policy
from plugins.schedulers.tests.reference_orders import Circle, Counters, Job, Levels, Order, serve

# Powers of two, so that both sides of a comparison are exact.
ORDERS: dict[str, tuple[dict[str, Any], Any]] = {
    "fifo": ({}, Order),
    "round-robin": ({"quantum": 3}, lambda: Circle(quantum=3)),
    "priority": (
        {"ageing": 4.0},
        lambda: Order(preempts=True, key=lambda job, now: -(job.priority + (now - job.arrival) / 4.0)),
    ),
    "sjf": (
        {"ageing": 0.5, "prompt_cost": 0.25, "predict": "max_tokens"},
        lambda: Order(key=lambda job, now: job.output + 0.25 * job.prompt - 0.5 * (now - job.arrival)),
    ),
    "edf": (
        {"patience": 8.0, "shed": False},
        lambda: Order(preempts=True, key=lambda job, now: (job.deadline or job.arrival + 8.0) - now),
    ),
    "mlfq": (
        {"quantum": 2, "ratio": 2, "levels": 3, "prompt_cost": 0.25, "starvation": 6.0},
        lambda: Levels(quanta=[2.0, 4.0, 8.0], prompt_cost=0.25, starvation=6.0),
    ),
    "fair, as published": (
        {"weights": {"a": 4.0, "b": 0.5}, "preempt": False},
        lambda: Counters(weights={"a": 4.0, "b": 0.5}),
    ),
    "fair": ({"weights": {"a": 4.0, "b": 0.5}}, lambda: Counters(weights={"a": 4.0, "b": 0.5}, takes=True)),
}

jobs = st.lists(
    st.builds(
        Job,
        id=st.just(0),
        arrival=st.integers(0, 20).map(float),
        prompt=st.integers(1, 20),
        output=st.integers(1, 12),
        tenant=st.sampled_from("abc"),
        priority=st.integers(-3, 3),
        deadline=st.one_of(st.none(), st.integers(1, 40).map(float)),
    ),
    min_size=1,
    max_size=14,
)


def served(name: str, options: dict[str, Any], work: list[Job], places: int) -> list[set[int]]:
    """Return who had a row in each turn under a policy of ours."""
    sim = Simulation(make=policy(name.partition(",")[0], **options), places=(places,), rows=places)
    coming = sorted(work, key=lambda job: (job.arrival, job.id))
    turns = []
    while coming or sim.tasks:
        while coming and coming[0].arrival <= sim.now:
            job = coming.pop(0)
            who: dict[str, Any] = {"tenant": job.tenant, "priority": job.priority, "deadline": job.deadline}
            sim.arrive(job.id, job.arrival, job.prompt, job.output, **who)
        plan = sim.turn()
        turns.append({id for id, _ in (*plan.prefill, *plan.decode)})
    return turns


@pytest.mark.parametrize("name", ORDERS)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(work=jobs, places=st.integers(1, 4))
def test_serves_as_the_paper_says(name: str, work: list[Job], places: int) -> None:
    """The same tasks have a row in every turn, to the end."""
    options, order = ORDERS[name]
    for at, job in enumerate(work, 1):
        job.id, job.done = at, 0
    expected = serve(order(), work, places)

    assert expected == served(name, options, work, places)
