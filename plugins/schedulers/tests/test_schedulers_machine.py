"""Every policy keeps the scheduler's contract, whatever happens to tasks and in whatever order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.testing.conformance import SchedulerConformance
from llmos.testing.simulated import Simulation
from llmos_kernel.contracts import Scheduler
from plugins.schedulers.tests.policies import policy

POLICIES = {
    "fifo": policy("fifo"),
    "fifo, small chunks": policy("fifo", chunk=7),
    "fifo, one prompt a step": policy("fifo", chunk=16, batch_prompts=False),
    "round-robin": policy("round-robin", quantum=3),
    "priority": policy("priority", ageing=2.0),
    "fair": policy("fair", weights={"a": 3.0}),
    "mlfq": policy("mlfq", quantum=2, starvation=4.0),
    "sjf": policy("sjf"),
    "edf": policy("edf", patience=5.0),
    "edf, known steps": policy("edf", step_seconds=1.0, chunk=7),
}


class TestPolicies(SchedulerConformance):
    """All policies, with options that make much happen."""

    @pytest.fixture(params=POLICIES)
    def make_scheduler(self, request: pytest.FixtureRequest) -> Callable[[], Scheduler]:
        """One policy after the other."""
        return POLICIES[request.param]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    tasks=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(0, 1)), min_size=1, max_size=12),
    places=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    rows=st.integers(1, 6),
    tokens=st.integers(6, 40),
    refusals=st.lists(st.booleans(), max_size=10),
)
def test_fifo_serves_in_order_of_arrival(
    tasks: list[tuple[int, int, int]], places: tuple[int, int], rows: int, tokens: int, refusals: list[bool]
) -> None:
    """Within a length class, places and prompts are given in order of arrival."""
    sim = Simulation(make=POLICIES["fifo"], places=places, rows=rows, tokens=tokens)
    for id, (prompt, max_tokens, length_class) in enumerate(tasks):
        sim.arrive(id, float(id), prompt, max_tokens, length_class)
    first: dict[int, None] = {}
    while sim.tasks:
        sim.refuse = 9 if refusals and refusals.pop() else 0  # all that are proposed in this turn, or none
        first.update(dict.fromkeys(id for id, _ in sim.turn().prefill))

    for length_class in (0, 1):
        members = [id for id, task in enumerate(tasks) if task[2] == length_class]
        assert [id for id in sim.admitted if id in members] == members
        assert [id for id in first if id in members] == members
