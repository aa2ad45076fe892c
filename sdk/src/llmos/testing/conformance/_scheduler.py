"""What a scheduler owes."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from llmos.testing.conformance._base import (
    NAME, Conformance, expect, kernel_with, plugin_of, reach, take,
)  # fmt: skip
from llmos.testing.simulated import Simulation, missing
from llmos_kernel.api import Done, Task
from llmos_kernel.contracts import Scheduler

MakeScheduler = Callable[[], Scheduler]

SETTINGS = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
)
"""How long `SchedulerConformance` looks for a workload that breaks the contract; the same ones each time."""


class Workload(RuleBasedStateMachine):
    """Tasks arrive, stall, are preempted, cancelled and refused, in any order; then all run to their end."""

    make: MakeScheduler

    @initialize(
        places=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        rows=st.integers(1, 6),
        tokens=st.one_of(st.integers(6, 40), st.just(2**30)),
        chunks=st.one_of(st.integers(1, 3), st.just(2**30)),
        burst=st.sampled_from([1, 1, 4]),
    )
    def start(self, places: list[int], rows: int, tokens: int, chunks: int, burst: int) -> None:
        """Begin with an executor of some size."""
        make = type(self).make
        self.sim = Simulation(make=make, places=tuple(places), rows=rows, tokens=tokens, chunks=chunks, burst=burst)
        self.count = 0

    @rule(
        size=st.tuples(st.integers(0, 50), st.integers(0, 10)),
        length_class=st.integers(0, 2),
        late=st.sampled_from([0.0, 0.0, 3.0]),
        who=st.tuples(st.sampled_from("abc"), st.sampled_from(["generate", "embed"]), st.integers(-3, 3)),
        seconds=st.sampled_from([None, None, 0.5, 5.0, 50.0]),
    )
    def arrive(
        self, size: tuple[int, int], length_class: int, late: float, who: tuple[str, str, int], seconds: float | None
    ) -> None:
        """A task comes to wait; some took longer to prepare than others that were accepted later."""
        self.count += 1
        arrival = self.sim.now - late
        tenant, kind, priority = who
        self.sim.arrive(
            self.count, arrival, *size, length_class % len(self.sim.places), tenant=tenant, kind=kind,
            priority=priority, deadline=None if seconds is None else arrival + seconds,
        )  # fmt: skip

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
        self.sim.become(task.id, state=state, placed=state == "stalled")

    @precondition(lambda self: self.sim.in_state("stalled"))
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """A reader catches up."""
        self._unstall(data.draw(st.sampled_from(self.sim.in_state("stalled"))).id)

    @precondition(lambda self: self.sim.tasks)
    @rule(data=st.data(), priority=st.integers(-5, 5))
    def reprioritise(self, data: st.DataObject, priority: int) -> None:
        """An operator changes a priority."""
        self.sim.become(data.draw(st.sampled_from(sorted(self.sim.tasks))), priority=priority)

    @precondition(lambda self: self.sim.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A task ends before its time, wherever it is; what its last step did is charged after its end."""
        id = data.draw(st.sampled_from(sorted(self.sim.tasks)))
        self.sim.end(id)
        self.sim.tell("charged", id, 0, 1)

    @rule()
    def end_unknown(self) -> None:
        """A task ends before the scheduler has heard of it."""
        self.sim.tell("finished", 10**9)

    def finish_without_output(self) -> None:
        """End running tasks of which there is nothing to step: run by their executor, or cached and without output."""
        for task in self.sim.in_state("running"):
            if missing(task) == 0 and task.generated == task.max_tokens:
                self.sim.end(task.id)

    def _unstall(self, id: int) -> None:
        self.sim.become(id, state="running" if self.sim.tasks[id].placed else "preempted")

    def teardown(self) -> None:
        """Every task ends in time, was admitted once at most, and the same calls give the same plans."""
        if not hasattr(self, "sim"):
            return
        for task in self.sim.in_state("stalled"):
            self._unstall(task.id)
        self.sim.refuse = 0
        # A token may cost a turn that moves its task in, one that moves it out, and one that computes it.
        turns = sum(3 * (missing(task) + task.max_tokens - task.generated + 2) for task in self.sim.tasks.values())
        for _ in range(turns):
            self.sim.turn()
            self.finish_without_output()
        expect([], sorted(self.sim.tasks), "tasks that never end")
        expect(len(self.sim.admitted), len(set(self.sim.admitted)), "tasks that are admitted twice")
        expect(list(range(1, self.count + 1)), sorted(self.sim.done), "tasks that end once")
        expect(self.sim.plans, self.sim.replay(), "plans of the same calls")


class SchedulerConformance(Conformance):
    """What every scheduler owes.  Subclass it, and give it a fixture ``make_scheduler``.

    The fixture returns a function without arguments that makes a new scheduler, as ``llmos_scheduler`` does.
    """

    def test_is_taken(self, make_scheduler: MakeScheduler) -> None:
        """`llmos_scheduler`: "return a new scheduler": a kernel whose models it serves starts, and its tasks end."""
        take("scheduler", make_scheduler)
        with kernel_with(plugin_of("scheduler", make_scheduler), scheduler=NAME) as kernel:
            process = kernel.attach()
            tasks = [process.schedule(Task("generate", "echo", f"one two {number}")) for number in range(12)]
            ends = [type(process.recv(task).body) for task in tasks]
        expect([Done] * 12, ends, "the ends of tasks that it schedules")

    def test_contract(self, make_scheduler: MakeScheduler) -> None:
        """`Scheduler`: "`plan` depends only on the calls received before it and on its arguments".

        Whatever happens to tasks, no plan is impossible, every task ends, and equal calls give equal plans.
        """
        run_state_machine_as_test(type("Made", (Workload,), {"make": staticmethod(make_scheduler)}), settings=SETTINGS)

    def test_nothing_to_do(self, make_scheduler: MakeScheduler) -> None:
        """`Plan`: "What happens in one quantum": without tasks nothing does, and no wake-up is asked for."""
        plan = Simulation(make=make_scheduler).turn()
        found = (plan.admit, plan.resume, plan.preempt, plan.shed, plan.prefill, plan.decode, plan.wake_at)
        expect(((),) * 6 + (None,), found, "a plan without tasks")

    def test_run_executor(self, make_scheduler: MakeScheduler) -> None:
        """`Scheduler`: "For a `RunExecutor` only `Plan.admit`, `Plan.shed` and `Plan.wake_at` have an effect".

        Tasks that their executor runs from start to end are admitted as places come free, all of them.
        """
        sim = Simulation(make=make_scheduler, places=(2,))
        for id in range(1, 8):
            sim.arrive(id, float(id), 0, 0)
        for _ in range(8):
            sim.turn()
            for task in sim.in_state("running"):
                sim.end(task.id)
        expect(list(range(1, 8)), sorted(sim.admitted), "tasks that were admitted")

    def test_forgets(self, make_scheduler: MakeScheduler) -> None:
        """`Scheduler.finished`: "The task ended, however": it is forgotten.

        A scheduler that served thousands is no larger than one that served hundreds.
        """
        sim = Simulation(make=make_scheduler)
        sizes = []
        for served in range(0, 1600, 400):
            for id in range(served, served + 400):
                sim.arrive(id, sim.now, 3, 2, tenant="ab"[id % 2], deadline=sim.now + 1e6)
            for id in range(served, served + 400, 7):
                sim.end(id)
            while sim.tasks:
                sim.turn()
            sizes.append(reach(sim.scheduler))
        if sizes[-1] > sizes[0] + 400:
            raise AssertionError(f"the scheduler grows with what it has served; objects after each round: {sizes}")
