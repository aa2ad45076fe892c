"""Tests that a plugin's author inherits: subclass, give one fixture, and the contract is tested.

They need pytest and hypothesis (``pip install llmos-sdk[testing]``)::

    class TestMine(SchedulerConformance):
        @pytest.fixture
        def make_scheduler(self) -> Callable[[], Scheduler]:
            return MyScheduler
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from random import Random
from types import BuiltinFunctionType, FunctionType, ModuleType

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from llmos.testing.routing import Question, make_events, make_models, make_question, make_random
from llmos.testing.simulated import Simulation, missing
from llmos_kernel.api import Auto
from llmos_kernel.contracts import Scheduler
from llmos_kernel.services import Event, Router

MakeScheduler = Callable[[], Scheduler]
MakeRouter = Callable[[], Router]

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
        _expect([], sorted(self.sim.tasks), "tasks that never end")
        _expect(len(self.sim.admitted), len(set(self.sim.admitted)), "tasks that are admitted twice")
        _expect(list(range(1, self.count + 1)), sorted(self.sim.done), "tasks that end once")
        _expect(self.sim.plans, self.sim.replay(), "plans of the same calls")


class SchedulerConformance:
    """What every scheduler owes.  Subclass it, and give it a fixture ``make_scheduler``.

    The fixture returns a function without arguments that makes a new scheduler, as ``llmos_scheduler`` does.
    """

    def test_contract(self, make_scheduler: MakeScheduler) -> None:
        """Whatever happens to tasks, no plan is impossible, every task ends, and equal calls give equal plans."""
        run_state_machine_as_test(type("Made", (Workload,), {"make": staticmethod(make_scheduler)}), settings=SETTINGS)

    def test_nothing_to_do(self, make_scheduler: MakeScheduler) -> None:
        """Without tasks the plan is empty, and asks for no wake-up."""
        plan = Simulation(make=make_scheduler).turn()
        found = (plan.admit, plan.resume, plan.preempt, plan.shed, plan.prefill, plan.decode, plan.wake_at)
        _expect(((),) * 6 + (None,), found, "a plan without tasks")

    def test_run_executor(self, make_scheduler: MakeScheduler) -> None:
        """Tasks that their executor runs from start to end are admitted as places come free, all of them."""
        sim = Simulation(make=make_scheduler, places=(2,))
        for id in range(1, 8):
            sim.arrive(id, float(id), 0, 0)
        for _ in range(8):
            sim.turn()
            for task in sim.in_state("running"):
                sim.end(task.id)
        _expect(list(range(1, 8)), sorted(sim.admitted), "tasks that were admitted")

    def test_forgets(self, make_scheduler: MakeScheduler) -> None:
        """What has ended is forgotten: a scheduler that served thousands is no larger than one that served hundreds."""
        sim = Simulation(make=make_scheduler)
        sizes = []
        for served in range(0, 1600, 400):
            for id in range(served, served + 400):
                sim.arrive(id, sim.now, 3, 2, tenant="ab"[id % 2], deadline=sim.now + 1e6)
            for id in range(served, served + 400, 7):
                sim.end(id)
            while sim.tasks:
                sim.turn()
            sizes.append(_size(sim.scheduler))
        if sizes[-1] > sizes[0] + 400:
            raise AssertionError(f"the scheduler grows with what it has served; objects after each round: {sizes}")


class RouterConformance:
    """What every router owes.  Subclass it, and give it a fixture ``make_router``.

    The fixture returns a function without arguments that makes a new router, as ``llmos_router`` does.
    """

    def test_chooses_what_will_do(self, make_router: MakeRouter) -> None:
        """The answer is the name of a candidate that has all that is wanted, or a typed error."""
        for seed in range(40):
            for question, answer in _asked(make_router(), make_random(seed)):
                allowed = question.suited | {"NotFound", "ModelUnavailable"}
                _expect(True, answer in allowed, f"choosing {answer!r} for {question}; {sorted(allowed)} would do")

    def test_finds_what_will_do(self, make_router: MakeRouter) -> None:
        """As long as nothing has failed, a model that will do is found; where none will, that is `NotFound`."""
        for seed in range(200):
            random = make_random(seed)
            question = make_question(random, make_models(random, random.randint(0, 5)))
            answer = question.asked_of(make_router())
            _expect(bool(question.suited), answer != "NotFound", f"finding one for {question}; the answer is {answer}")

    def test_same_calls_same_answers(self, make_router: MakeRouter) -> None:
        """Two routers that are asked and told the same, in the same order, choose the same."""
        for seed in range(20):
            first, second = ([answer for _, answer in _asked(make_router(), make_random(seed))] for _ in range(2))
            _expect(first, second, "answers to the same questions")

    def test_any_event(self, make_router: MakeRouter) -> None:
        """Events that a router does not know, or that say less than it hoped, are no reason to fail."""
        router = make_router()
        for name in ("task.done", "task.failed", "task.accepted", "step", "model.loaded", "model.failed", "new.event"):
            router.heard(Event(name, 1.0, {}))
            router.heard(Event(name, 2.0, {"model": "nobody", "task": 10**9, "error": "NoSuchError"}))

    def test_many_threads(self, make_router: MakeRouter) -> None:
        """Each of many threads that ask at the same time gets an answer to its own question."""
        router, failures = make_router(), list[str]()

        def ask(number: int) -> None:
            random = make_random(number)
            models = make_models(random, 4, f"of-thread-{number}")
            for at in range(60):
                question = make_question(random, models)
                try:
                    answer = question.asked_of(router)
                    for event in make_events(random, float(at), at, models[0].name):
                        router.heard(event)
                except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
                    answer = repr(error)
                if answer not in question.suited | {"NotFound", "ModelUnavailable"}:
                    failures.append(f"{answer} of {sorted(question.suited)}")

        interval = sys.getswitchinterval()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        _expect([], failures, "answers that are none")

    def test_router_forgets(self, make_router: MakeRouter) -> None:
        """What has ended is forgotten: a router that routed thousands is no larger than one that routed hundreds."""
        router, random = make_router(), make_random(0)
        models, sizes = make_models(random, 3), []
        for begin in range(0, 1600, 400):
            for number in range(begin, begin + 400):
                question = make_question(random, models)
                Question(question.kind, Auto(affinity=f"word {number}"), question.candidates).asked_of(router)
                for event in make_events(random, float(number), number, models[number % 3].name):
                    router.heard(event)
            sizes.append(_size(router))
        if sizes[-1] > sizes[0] + 400:
            raise AssertionError(f"the router grows with what it has routed; objects after each round: {sizes}")


def _asked(router: Router, random: Random) -> list[tuple[Question, str]]:
    """Ask and tell *router* this and that, and return the questions with their answers."""
    models, asked = make_models(random, random.randint(1, 6)), list[tuple[Question, str]]()
    for number in range(40):
        question = make_question(random, models)
        asked.append((question, question.asked_of(router)))
        for event in make_events(random, float(number), number, random.choice(models).name):
            router.heard(event)
    return asked


def _expect(expected: object, found: object, what: str) -> None:
    if expected != found:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def _size(root: object) -> int:
    """Return how many objects can be reached from *root*, those of programs not counted."""
    seen: dict[int, object] = {}
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType | BuiltinFunctionType):
            seen[id(one)] = one
            todo += gc.get_referents(one)
            todo += one if isinstance(one, dict) else ()  # keys that are strings are not among the referents
    return len(seen)
