"""A small simulated kernel and executor, to drive a scheduler through every situation that its contract names.

`Simulation` plays both: it tells the scheduler what happens, asks for plans, checks each plan against the contract,
and carries it out on counters.  Nothing in it knows a policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from llmos_kernel.contracts import Limits, Plan, Scheduler, TaskView

Call = tuple[str, tuple[Any, ...]]


@attrs.define(kw_only=True)
class Simulation:
    """An executor with *places* per length class, and the kernel that serves it.

    `refuse` answers so many coming admissions with `NotNow`; `log` keeps every call and `plans` every answer.
    """

    make: Callable[[], Scheduler]
    places: tuple[int, ...] = (4,)
    rows: int = 4
    tokens: int = 2**30
    chunks: int = 2**30
    now: float = 0.0
    refuse: int = 0
    scheduler: Scheduler = attrs.field(init=False)
    tasks: dict[int, TaskView] = attrs.field(factory=dict, init=False)
    log: list[Call] = attrs.field(factory=list, init=False)
    plans: list[Plan] = attrs.field(factory=list, init=False)
    admitted: list[int] = attrs.field(factory=list, init=False)
    done: list[int] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.scheduler = self.make()

    # --- what happens to tasks

    def arrive(self, id: int, arrival: float, prompt: int, max_tokens: int, length_class: int = 0) -> None:
        """Let a task come to wait."""
        self.tasks[id] = TaskView(
            id, "generate", "tenant", 0, None, arrival, prompt, max_tokens, length_class=length_class
        )  # fmt: skip
        self._tell("arrived", self.tasks[id])

    def become(self, id: int, **fields: Any) -> None:
        """Change a task, and tell the scheduler."""
        self.tasks[id] = attrs.evolve(self.tasks[id], **fields)
        self._tell("changed", self.tasks[id])

    def end(self, id: int) -> None:
        """End a task, for whatever reason."""
        del self.tasks[id]
        self.done.append(id)
        self._tell("finished", id)

    def in_state(self, *states: str) -> list[TaskView]:
        """Return the tasks in one of *states*, in order of arrival."""
        found = [task for task in self.tasks.values() if task.state in states]
        return sorted(found, key=lambda task: (task.arrival, task.id))

    # --- a turn of the dispatcher

    @property
    def limits(self) -> Limits:
        """What the executor publishes."""
        placed = [task.length_class for task in self.in_state("running", "stalled")]
        free = [places - placed.count(kind) for kind, places in enumerate(self.places)]
        pools = tuple((128 * 2**kind, count) for kind, count in enumerate(free))
        return Limits(self.rows, sum(free), self.tokens, self.chunks, pools=pools if len(pools) > 1 else ())

    def turn(self, *, interrupted: bool = False, cached: int = 0) -> Plan:
        """Ask for a plan, check it, carry it out.  An interrupted step produces nothing for any row."""
        limits = self.limits
        plan: Plan = self._tell("plan", self.now, limits)
        self.plans.append(plan)
        self.check(plan, limits)
        for id in (*plan.admit, *plan.resume):
            self._admit(id, cached)
        for id, count in plan.prefill:
            self._charge(id, *((0, 0) if interrupted else (count, self._first_token(id, count))))
        for id, _ in plan.decode:
            self._charge(id, 0, 0 if interrupted else 1)
        self.now += 1.0
        return plan

    def _admit(self, id: int, cached: int) -> None:
        if self.refuse > 0:
            self.refuse -= 1
            return
        task = self.tasks[id]
        if task.state == "preempted":
            self.become(id, state="running")
        else:
            self.admitted.append(id)
            self.become(id, state="running", cached=min(cached, task.prompt))

    def _first_token(self, id: int, count: int) -> int:
        task = self.tasks[id]
        return int(missing(task) == count and task.max_tokens > 0)

    def _charge(self, id: int, prefilled: int, generated: int) -> None:
        task = self.tasks[id]
        task = attrs.evolve(task, prefilled=task.prefilled + prefilled, generated=task.generated + generated)
        self.tasks[id] = task
        self._tell("charged", id, prefilled, generated)
        if missing(task) == 0 and task.generated == task.max_tokens:
            self.end(id)

    def _tell(self, name: str, *args: Any) -> Any:
        self.log.append((name, args))
        return getattr(self.scheduler, name)(*args)

    # --- what the contract says of a plan

    def check(self, plan: Plan, limits: Limits) -> None:
        """Fail unless *plan* is possible: known ids, once, in the right state, within *limits*, and not idle."""
        prefill, decode, preempt = dict(plan.prefill), dict(plan.decode), dict(plan.preempt)
        for field in (plan.admit, plan.resume, plan.shed, plan.prefill, plan.decode, plan.preempt):
            assert len(field) == len(set(field))
        assert len(prefill) == len(plan.prefill)
        assert len(decode) == len(plan.decode)
        assert not (prefill.keys() & decode.keys())
        assert not (set(plan.admit) & set(plan.shed))
        self._check_states(plan)
        for id, count in prefill.items():
            assert 1 <= count <= missing(self.tasks[id])
        for id, count in decode.items():
            assert missing(self.tasks[id]) == 0
            assert 1 <= count <= self.tasks[id].max_tokens - self.tasks[id].generated
        assert len(prefill) + len(decode) <= limits.rows
        assert sum(prefill.values()) + sum(decode.values()) <= limits.tokens
        assert len(prefill) <= limits.chunks
        self._check_places(plan, limits)
        idle = not (plan.admit or plan.resume or prefill or decode or preempt or plan.shed or plan.wake_at)
        assert not (idle and self._runnable(limits))

    def _check_states(self, plan: Plan) -> None:
        state = {id: task.state for id, task in self.tasks.items()}
        assert all(state[id] == "waiting" for id in (*plan.admit, *plan.shed))
        assert all(state[id] == "preempted" for id in plan.resume)
        assert all(state[id] in ("running", "stalled") for id, _ in plan.preempt)
        assert all(state[id] == "running" for id, _ in (*plan.prefill, *plan.decode))

    def _check_places(self, plan: Plan, limits: Limits) -> None:
        taken = [self.tasks[id].length_class for id in (*plan.admit, *plan.resume)]
        assert len(taken) <= limits.free
        for kind, (_, free) in enumerate(limits.pools):
            assert taken.count(kind) <= free

    def _runnable(self, limits: Limits) -> bool:
        steps = any(missing(task) or task.generated < task.max_tokens for task in self.in_state("running"))
        pools = limits.pools or ((0, limits.free),)
        return steps or any(pools[task.length_class][1] > 0 for task in self.in_state("waiting", "preempted"))

    def replay(self) -> list[Plan]:
        """Make the same calls again on a new scheduler, and return its plans."""
        scheduler = self.make()
        answers = [(name, getattr(scheduler, name)(*args)) for name, args in self.log]
        return [answer for name, answer in answers if name == "plan"]


def missing(task: TaskView) -> int:
    """Prompt tokens that are still to be computed."""
    return task.prompt - task.cached - task.prefilled
