"""Every policy keeps the scheduler's contract, whatever happens to tasks and in whatever order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from llmos_kernel.contracts import Scheduler
from llmos_schedulers import fifo
from plugins.schedulers.tests.simulated import Simulation, missing

POLICIES: dict[str, Callable[[], Scheduler]] = {
    "fifo": lambda: fifo.llmos_scheduler({}),
    "fifo, small chunks": lambda: fifo.llmos_scheduler({"chunk": 7}),
    "fifo, one prompt a step": lambda: fifo.llmos_scheduler({"chunk": 16, "batch_prompts": False}),
}
SETTINGS = settings(
    max_examples=40, stateful_step_count=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
)


class Life(RuleBasedStateMachine):
    """Tasks arrive, stall, are preempted, cancelled and refused, in any order; then all run to their end."""

    make: Callable[[], Scheduler]

    @initialize(
        places=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        rows=st.integers(1, 6),
        tokens=st.one_of(st.integers(6, 40), st.just(2**30)),
        chunks=st.one_of(st.integers(1, 3), st.just(2**30)),
    )
    def start(self, places: list[int], rows: int, tokens: int, chunks: int) -> None:
        """Begin with an executor of some size."""
        make = type(self).make
        self.sim = Simulation(make=make, places=tuple(places), rows=rows, tokens=tokens, chunks=chunks)
        self.count = 0

    @rule(
        prompt=st.integers(0, 50),
        max_tokens=st.integers(0, 10),
        length_class=st.integers(0, 2),
        late=st.sampled_from([0.0, 0.0, 3.0]),
    )
    def arrive(self, prompt: int, max_tokens: int, length_class: int, late: float) -> None:
        """A task comes to wait; some took longer to prepare than others that were accepted later."""
        self.count += 1
        length_class %= len(self.sim.places)
        self.sim.arrive(self.count, self.sim.now - late, prompt, max_tokens, length_class)

    @rule(data=st.data(), cached=st.sampled_from([0, 0, 5, 100]), interrupted=st.booleans())
    def turn(self, data: st.DataObject, cached: int, *, interrupted: bool) -> None:
        """The dispatcher turns once; some steps are cut short, some admissions refused, some prompts partly cached."""
        self.sim.refuse = data.draw(st.sampled_from([0, 0, 0, 1, 9]))
        self.sim.turn(interrupted=interrupted, cached=cached)
        self.finish_without_output()

    @precondition(lambda self: self.sim.in_state("running"))
    @rule(data=st.data(), state=st.sampled_from(["stalled", "preempted"]))
    def stop(self, data: st.DataObject, state: str) -> None:
        """A reader falls behind, or somebody preempts a task."""
        task = data.draw(st.sampled_from(self.sim.in_state("running")))
        self.sim.become(task.id, state=state)

    @precondition(lambda self: self.sim.in_state("stalled"))
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """A reader catches up."""
        self.sim.become(data.draw(st.sampled_from(self.sim.in_state("stalled"))).id, state="running")

    @precondition(lambda self: self.sim.tasks)
    @rule(data=st.data(), priority=st.integers(-5, 5))
    def reprioritise(self, data: st.DataObject, priority: int) -> None:
        """An operator changes a priority."""
        self.sim.become(data.draw(st.sampled_from(sorted(self.sim.tasks))), priority=priority)

    @precondition(lambda self: self.sim.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A task ends before its time, wherever it is."""
        self.sim.end(data.draw(st.sampled_from(sorted(self.sim.tasks))))

    def finish_without_output(self) -> None:
        """End running tasks of which there is nothing to step: run by their executor, or cached and without output."""
        for task in self.sim.in_state("running"):
            if missing(task) == 0 and task.generated == task.max_tokens:
                self.sim.end(task.id)

    def teardown(self) -> None:
        """Every task ends within as many turns as it has tokens, was admitted once, and a replay agrees."""
        if not hasattr(self, "sim"):
            return
        for task in self.sim.in_state("stalled"):
            self.sim.become(task.id, state="running")
        self.sim.refuse = 0
        turns = sum(missing(task) + task.max_tokens - task.generated + 2 for task in self.sim.tasks.values())
        for _ in range(turns):
            self.sim.turn()
            self.finish_without_output()
        assert not self.sim.tasks
        assert len(self.sim.admitted) == len(set(self.sim.admitted))
        assert sorted(self.sim.done) == list(range(1, self.count + 1))
        assert self.sim.replay() == self.sim.plans


@pytest.mark.parametrize("policy", POLICIES)
def test_contract(policy: str) -> None:
    """No impossible plan, no lost task, no second admission, the same calls give the same plans."""
    run_state_machine_as_test(type("Machine", (Life,), {"make": staticmethod(POLICIES[policy])}), settings=SETTINGS)


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
