"""The dispatcher without threads: plans that are impossible, preemption, stalls, deadlines and farewells."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from kernel.tests.rig import build
from llmos.testing import FirstCome, VirtualClock
from llmos_kernel import Admitted, Chunk, Done, Failed, Limits, NotNow, Plan, Result, Task
from llmos_kernel._dispatch import Dispatcher, deliver
from llmos_kernel._tasks import TaskRecord
from llmos_kernel.errors import DeadlineExceeded, ExecutorCrashed, ModelUnavailable, Overloaded, PluginFailed

LIMITS = Limits(rows=2, free=2, tokens=8, chunks=1)


class Planned(FirstCome):
    """Plans what the test says next, and otherwise what comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.next: Any = None

    def plan(self, now: float, limits: Limits) -> Plan:
        """Return the next plan."""
        planned, self.next = self.next, None
        plan: Plan = planned if planned is not None else super().plan(now, limits)
        return plan


class Bench:
    """A dispatcher and its tasks, driven by hand."""

    def __init__(self, *, steps: bool = True) -> None:
        self.clock, self.scheduler = VirtualClock(), Planned()
        self.kernel = build(clock=self.clock)
        self.core = self.kernel._core
        self.dispatcher = Dispatcher(self.core, "model", "fifo", self.scheduler, self._output, steps)
        self.released: list[int] = []

    # What a driver offers to a task record.
    lent = 0

    def _output(self, rec: TaskRecord, result: Result) -> None:
        deliver(rec, result, self.clock.now())

    def note(self, what: str, rec: TaskRecord, wake_by: float = 0.0) -> None:
        """Pass a note on."""
        self.dispatcher.notes.append((what, rec))

    def task_ended(self, rec: TaskRecord) -> None:
        """Pass an end on."""
        self.note("ended", rec)

    def accept(self, prompt: int = 2, most: int = 4, **fields: Any) -> TaskRecord:
        """Let a prepared task arrive."""
        number = len(self.core.tasks) + 1
        task = Task("generate", "model", "x", **fields)
        rec = TaskRecord(number, task, self.core.seat, self, self.clock.now())  # type: ignore[arg-type]
        rec.served = SimpleNamespace(name="model", unfinished=1, used_at=0.0)  # type: ignore[assignment]
        rec.prompt, rec.max_tokens = prompt, most
        self.core.seat.account.tasks += 1
        self.core.tasks[rec.id] = rec
        self.note("accepted", rec)
        self.note("arrived", rec)
        self.hear()
        return rec

    def hear(self) -> None:
        """Let the dispatcher take in what happened."""
        self.released += self.dispatcher.hear(self.clock.now())

    def turn(self, plan: Any = None, answer: object = None, limits: Limits = LIMITS) -> Plan | None:
        """Do one quantum; each row yields a token where its prompt is done."""
        self.scheduler.next = plan
        self.hear()
        got = self.dispatcher.plan(self.clock.now(), limits)
        if got is None:
            return None
        answers = {id: Admitted() if answer is None else answer for id in got.resume + got.admit}
        self.dispatcher.begin(got, answers, self.clock.now())
        rows = got.prefill + got.decode
        left = {id: self.dispatcher.tasks[id].remaining for id, _ in got.prefill}
        results = [Result(id, tokens=(1,) if left.get(id, 0) <= n else (), text="x") for id, n in rows]
        self.dispatcher.commit(got, results, self.clock.now())
        self.hear()
        return got


def end_of(rec: TaskRecord) -> Done | Failed:
    """Return how a task ended."""
    event = rec.channel().items[-1]

    assert isinstance(event, Done | Failed)
    return event


IMPOSSIBLE: dict[str, Any] = {
    "no plan": "plan",
    "unknown": Plan(admit=(9,)),
    "twice": Plan(admit=(2, 2)),
    "admit what runs": Plan(admit=(1,)),
    "resume what waits": Plan(resume=(2,)),
    "shed what runs": Plan(shed=(1,)),
    "preempt what waits": Plan(preempt=((2, "keep"),)),
    "preempt in no way": Plan(preempt=((1, "burn"),)),  # type: ignore[arg-type]
    "more than is free": Plan(admit=(2, 3, 4)),
    "too many rows": Plan(prefill=((1, 1),), decode=((2, 1), (3, 1))),
    "a row twice": Plan(prefill=((1, 1), (1, 1))),
    "a row that is moved": Plan(admit=(2,), prefill=((2, 1),)),
    "too many chunks": Plan(prefill=((1, 1), (2, 1))),
    "too many tokens": Plan(prefill=((1, 9),)),
    "more than the prompt": Plan(prefill=((1, 3),)),
    "nothing of the prompt": Plan(prefill=((1, 0),)),
    "prefill what waits": Plan(prefill=((2, 1),)),
    "decode before the prompt": Plan(decode=((1, 1),)),
    "decode nothing": Plan(decode=((1, 0),)),
    "decode the unknown": Plan(decode=((9, 1),)),
    "nothing": Plan(),
    "never": Plan(wake_at=float("inf")),
    "no time": Plan(wake_at=float("nan")),
    "no ids": Plan(admit=(("a",),)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_plans(what: str) -> None:
    """An impossible plan ends the scheduler: waiting tasks fail once, naming it, and what runs goes on without it."""
    bench = Bench()
    running = bench.accept()
    bench.turn(Plan(admit=(1,)))
    waiting = [bench.accept() for _ in range(3)]

    assert None is bench.turn(IMPOSSIBLE[what])
    assert isinstance(bench.dispatcher.broken, PluginFailed)
    bench.hear()
    for rec in waiting:
        assert bench.dispatcher.broken is end_of(rec).error  # type: ignore[union-attr]
    assert sorted(rec.id for rec in waiting) == sorted(bench.released)

    plan = bench.turn()

    assert Plan(prefill=((1, 2),)) == plan
    assert Plan(decode=((1, 1),)) == bench.turn()
    late = bench.accept()

    assert "failed" == late.state
    assert "running" == running.state


@pytest.mark.parametrize(("how", "placed", "redone"), [("keep", True, 0), ("swap", False, 0), ("drop", False, 1)])
def test_preempt(how: Any, placed: bool, redone: int) -> None:
    """A preempted task keeps its place or not, and only after ``drop`` is its text prompt again."""
    bench = Bench()
    rec = bench.accept()
    bench.turn(Plan(admit=(1,)))
    bench.turn(Plan(prefill=((1, 2),)))
    bench.turn(Plan(preempt=((1, how),)))

    assert ("preempted", placed, redone) == (rec.state, rec.placed, rec.redone)
    bench.turn(Plan(resume=(1,)))

    assert ("running", 3 if how == "drop" else 0) == (rec.state, rec.remaining)


def test_preemption_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Observers hear when a running task loses its place, and when it has one again."""
    bench, told = Bench(), []
    monkeypatch.setattr(bench.core.events, "emit", lambda name, /, **fields: told.append((name, fields["task"])))
    bench.accept()
    for plan in (Plan(admit=(1,)), Plan(prefill=((1, 2),)), Plan(preempt=((1, "swap"),)), Plan(resume=(1,))):
        bench.turn(plan)

    assert [("task.preempted", 1), ("task.resumed", 1)] == told


def test_dropped_cache_that_is_found_again() -> None:
    """What the executor still has of a cache that was dropped counts as cached when the task comes back."""
    bench = Bench()
    rec = bench.accept()
    bench.turn(Plan(admit=(1,)))
    bench.turn(Plan(prefill=((1, 2),)))
    bench.turn(Plan(preempt=((1, "drop"),)))

    assert (0, 3) == (rec.cached, rec.remaining)
    bench.turn(Plan(resume=(1,)), answer=Admitted(cached=2))

    assert (2, 1) == (rec.cached, rec.remaining)


@pytest.mark.parametrize(("how", "state"), [("keep", "running"), ("swap", "preempted")])
def test_preempt_what_is_stalled(how: Any, state: str) -> None:
    """A stalled task that gives its place up stays stalled, and is preempted once there is room on its port."""
    bench = Bench()
    rec = bench.accept(stream=True, capacity=1)
    bench.turn(Plan(admit=(1,)))
    bench.turn(Plan(prefill=((1, 2),)))
    bench.turn(Plan(preempt=((1, how),)))

    assert "stalled" == rec.state
    rec.channel().items.clear()
    bench.note("room", rec)
    bench.hear()

    assert {state} == {rec.state}


@pytest.mark.parametrize(("pools", "broken"), [((), True), (((8, 1),), True), (((8, 0),), False)])
def test_plan_of_nothing(pools: tuple[tuple[int, int], ...], broken: bool) -> None:
    """A scheduler may leave a task waiting only while no place of its class is free."""
    bench = Bench()
    rec = bench.accept()

    assert None is bench.turn(Plan(), limits=attrs.evolve(LIMITS, pools=pools))
    assert ("failed" if broken else "waiting") == rec.state


def test_schedulers_see_who_has_a_place() -> None:
    """The view of a task says whether it has a place with the executor, whatever its state."""
    bench = Bench()
    rec = bench.accept()

    assert not rec.view().placed
    bench.turn(Plan(admit=(1,)))

    assert bench.scheduler._views[1].placed
    bench.turn(Plan(prefill=((1, 2),)))
    bench.turn(Plan(preempt=((1, "keep"),)))

    assert ("preempted", True) == (bench.scheduler._views[1].state, bench.scheduler._views[1].placed)
    bench.turn(Plan(resume=(1,)))
    bench.turn(Plan(preempt=((1, "swap"),)))

    assert ("preempted", False) == (bench.scheduler._views[1].state, bench.scheduler._views[1].placed)


def test_ended_on_the_way_to_the_executor() -> None:
    """A task that ends between its plan and the executor's answer stays ended."""
    bench = Bench()
    rec = bench.accept()
    plan = bench.dispatcher.plan(bench.clock.now(), LIMITS)

    assert Plan(admit=(1,)) == plan
    rec.end(bench.clock.now())
    bench.dispatcher.begin(plan, {1: Admitted()}, bench.clock.now())

    assert ("done", False) == (rec.state, rec.placed)


def test_task_left_open_at_its_last_token() -> None:
    """An executor that does not finish a task with its last token has crashed, for this task; its text is kept."""
    bench = Bench()
    rec = bench.accept(most=1)
    bench.turn(Plan(admit=(1,)))
    bench.turn(Plan(prefill=((1, 2),)))
    end = end_of(rec)

    assert isinstance(end, Failed)
    assert "x" == end.text
    assert isinstance(end.error, ExecutorCrashed)
    assert "did not finish task 1 with its last token" in str(end.error)


def test_pieces_join_where_the_port_is_full() -> None:
    """A piece that an executor makes while the port is full is joined to the last one, token by token."""
    bench = Bench()
    rec = bench.accept(stream=True, capacity=1)
    bench.turn(Plan(admit=(1,)))
    bench.scheduler.next = Plan(prefill=((1, 2),))
    for number in range(2):
        plan = bench.dispatcher.plan(bench.clock.now(), LIMITS)
        assert plan is not None
        piece = Result(1, tokens=(number,), text="ab"[number], logprobs=(f"log {number}",))
        bench.dispatcher.commit(plan, [piece], bench.clock.now())

    assert [Chunk(1, "ab", (0, 1), ("log 0", "log 1"))] == [*rec.channel().items]
    rec.end(bench.clock.now())

    assert ("log 0", "log 1") == end_of(rec).logprobs  # type: ignore[union-attr]


def test_shed() -> None:
    """A shed task fails with `Overloaded`."""
    bench = Bench()
    rec = bench.accept()
    bench.turn(Plan(shed=(1,)))

    assert isinstance(end_of(rec), Failed)
    assert isinstance(end_of(rec).error, Overloaded)  # type: ignore[union-attr]


@pytest.mark.parametrize("back", ["admit", "resume"])
def test_not_now(back: str) -> None:
    """What was answered NotNow is not asked again until something changed; alone it fails."""
    bench = Bench()
    first, second = bench.accept(), bench.accept()
    bench.turn(Plan(admit=(1, 2)))
    bench.turn(Plan(preempt=((2, "swap"),)))
    plan = Plan(resume=(2,)) if back == "resume" else Plan(admit=(3,))
    if back == "admit":
        second = bench.accept()
    bench.turn(plan, answer=NotNow())

    assert None is bench.turn(plan)
    bench.core.tasks[1].end(bench.clock.now())
    bench.hear()

    assert plan == bench.turn(plan)
    assert ("done", "running") == (first.state, second.state)
    alone = Bench()
    rec = alone.accept()
    alone.turn(Plan(admit=(1,)), answer=NotNow())

    assert isinstance(end_of(rec).error, ModelUnavailable)  # type: ignore[union-attr]


@pytest.mark.parametrize("answer", [ValueError("no"), SystemExit(), None, "yes"])
def test_wrong_admission(answer: object) -> None:
    """Whatever an executor answers besides `Admitted` and `NotNow` is its crash, for this task."""
    bench = Bench()
    rec = bench.accept()
    bench.scheduler.next = Plan(admit=(1,))
    plan = bench.dispatcher.plan(bench.clock.now(), LIMITS)
    assert plan is not None
    bench.dispatcher.begin(plan, {1: answer}, bench.clock.now())

    assert isinstance(end_of(rec).error, ExecutorCrashed)  # type: ignore[union-attr]


def test_stall_and_room() -> None:
    """A task whose port is full is stalled until there is room, then goes on; the wait for it is in `wake_at`."""
    bench = Bench()
    rec = bench.accept(stream=True, capacity=1)
    bench.turn(Plan(admit=(1,)))
    bench.turn(Plan(prefill=((1, 2),)))

    assert "stalled" == rec.state
    assert bench.clock.now() + 60 == bench.dispatcher.wake_at()
    assert None is bench.turn(Plan())
    rec.channel().items.clear()
    bench.note("room", rec)
    bench.hear()

    assert {"running"} == {rec.state}


@pytest.mark.parametrize("what", ["read", "ended"])
def test_stall_that_is_over_when_it_is_heard_of(what: str) -> None:
    """A task whose port was full for a moment, or that has ended, is not stalled."""
    bench = Bench()
    rec = bench.accept(stream=True, capacity=1)
    bench.turn(Plan(admit=(1,)))
    bench.scheduler.next = Plan(prefill=((1, 2),))
    plan = bench.dispatcher.plan(bench.clock.now(), LIMITS)
    assert plan is not None
    bench.dispatcher.commit(plan, [Result(1, tokens=(1,), text="x")], bench.clock.now())

    assert rec.full
    if what == "read":
        rec.channel().items.clear()
    else:
        rec.end(bench.clock.now())
    bench.hear()

    assert ("running" if what == "read" else "done") == rec.state
    assert None is rec.stalled


def test_deadlines() -> None:
    """A deadline ends its task wherever it is, and `wake_at` is the earliest of those that count."""
    bench = Bench()
    late, early = bench.accept(deadline=9.0), bench.accept(deadline=3.0)

    assert bench.clock.now() + 3 == bench.dispatcher.wake_at()
    bench.clock.advance(3)
    bench.hear()

    assert isinstance(end_of(early).error, DeadlineExceeded)  # type: ignore[union-attr]
    late.end(bench.clock.now())
    bench.hear()

    assert None is bench.dispatcher.wake_at()


def test_wake_at_of_a_plan() -> None:
    """A plan may ask to be made again at a time."""
    bench = Bench()
    bench.accept()

    assert None is bench.turn(Plan(wake_at=bench.clock.now() + 5))
    assert bench.clock.now() + 5 == bench.dispatcher.wake_at()


def test_patrol() -> None:
    """Preparing that takes too long fails; each has its own time."""
    bench = Bench()
    recs = []
    for number in (1, 2):
        rec = TaskRecord(number, Task("generate"), bench.core.seat, bench, bench.clock.now())  # type: ignore[arg-type]
        rec.served = SimpleNamespace(name="model", unfinished=1, used_at=0.0)  # type: ignore[assignment]
        rec.state = "preparing"
        bench.core.tasks[number] = rec
        bench.note("accepted", rec)
        bench.hear()
        bench.clock.advance(20)
        recs.append(rec)
    bench.hear()

    assert ["failed", "preparing"] == [rec.state for rec in recs]
    assert [] == bench.released  # whoever prepares it has it still
    bench.note("arrived", recs[0])
    bench.hear()

    assert [1] == bench.released


def test_results_that_do_not_fit() -> None:
    """A result for a task that was not in the step is a crash, and a row without a result is one for that row."""
    bench = Bench()
    first, second = bench.accept(1), bench.accept(1)
    bench.turn(Plan(admit=(1, 2)))
    bench.scheduler.next = Plan(prefill=((1, 1),))
    plan = bench.dispatcher.plan(bench.clock.now(), LIMITS)
    assert plan is not None
    with pytest.raises(ExecutorCrashed, match="not in the step"):
        bench.dispatcher.commit(plan, [Result(2)], bench.clock.now())
    bench.dispatcher.commit(plan, [], bench.clock.now())

    assert isinstance(end_of(first).error, ExecutorCrashed)  # type: ignore[union-attr]
    assert "running" == second.state


def test_farewell_within_the_limits() -> None:
    """Without its scheduler the dispatcher plans no more than an executor takes, and brings back what was away."""
    bench = Bench()
    recs = [bench.accept(4) for _ in range(3)]
    bench.turn(Plan(admit=(1, 2)))
    bench.turn(Plan(preempt=((1, "swap"),)))
    bench.turn(Plan(admit=(3,)))
    bench.turn("nonsense")
    bench.hear()
    for tokens in (1, 2, 5):
        plan = bench.turn(limits=Limits(rows=2, free=1, tokens=tokens, chunks=2))
        assert plan is not None
        assert sum(n for _, n in plan.prefill) + len(plan.decode) <= tokens
    assert {"running"} == {rec.state for rec in recs}


def test_run_executors_are_only_admitted() -> None:
    """Of a plan for a run executor only admissions count; there is nothing to do while they run."""
    bench = Bench(steps=False)
    bench.accept(0)

    assert Plan(admit=(1,)) == bench.turn()
    assert None is bench.turn()


def _raises(bench: Bench) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise SystemExit

    return fail


def test_scheduler_that_leaves() -> None:
    """`SystemExit` from a scheduler is its failure, and no more is asked of it."""
    bench = Bench()
    bench.scheduler.arrived = _raises(bench)  # type: ignore[method-assign]
    rec = bench.accept()
    bench.hear()

    assert isinstance(end_of(rec).error, PluginFailed)  # type: ignore[union-attr]
    assert None is bench.turn()
