"""A small simulated kernel and executor, to drive a scheduler through every situation that its contract names.

`Simulation` plays both: it tells the scheduler what happens, asks for plans, checks each plan against the contract,
and carries it out on counters.  Nothing in it knows a policy, and it needs nothing but the kernel's contract.
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

    `refuse` answers so many coming admissions with `NotNow`, a decode gives at most `burst` tokens, and a turn takes
    `seconds`; `log` keeps every call and `plans` every answer.
    """

    make: Callable[[], Scheduler]
    places: tuple[int, ...] = (4,)
    rows: int = 4
    tokens: int = 2**30
    chunks: int = 2**30
    now: float = 0.0
    refuse: int = 0
    burst: int = 1
    seconds: float = 1.0
    scheduler: Scheduler = attrs.field(init=False)
    tasks: dict[int, TaskView] = attrs.field(factory=dict, init=False)
    prompts: dict[int, int] = attrs.field(factory=dict, init=False)
    shed: list[int] = attrs.field(factory=list, init=False)
    log: list[Call] = attrs.field(factory=list, init=False)
    plans: list[Plan] = attrs.field(factory=list, init=False)
    admitted: list[int] = attrs.field(factory=list, init=False)
    done: list[int] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.scheduler = self.make()

    # --- what happens to tasks

    def arrive(
        self,
        id: int,
        arrival: float,
        prompt: int,
        max_tokens: int,
        length_class: int = 0,
        **who: Any,  # noqa: ANN401 - fields of a TaskView
    ) -> None:
        """Let a task come to wait; *who* are further fields of its `TaskView`."""
        known: dict[str, Any] = {"kind": "generate", "tenant": "tenant", "priority": 0, "deadline": None} | who
        self.prompts[id] = prompt
        self.tasks[id] = TaskView(
            id, arrival=arrival, prompt=prompt, max_tokens=max_tokens, length_class=length_class, **known
        )
        self.tell("arrived", self.tasks[id])

    def become(self, id: int, **fields: Any) -> None:  # noqa: ANN401 - fields of a TaskView
        """Change a task, and tell the scheduler."""
        self.tasks[id] = attrs.evolve(self.tasks[id], **fields)
        self.tell("changed", self.tasks[id])

    def end(self, id: int) -> None:
        """End a task, for whatever reason."""
        del self.tasks[id], self.prompts[id]
        self.done.append(id)
        self.tell("finished", id)

    def in_state(self, *states: str) -> list[TaskView]:
        """Return the tasks in one of *states*, in order of arrival."""
        found = [task for task in self.tasks.values() if task.state in states]
        return sorted(found, key=lambda task: (task.arrival, task.id))

    # --- a turn of the dispatcher

    @property
    def limits(self) -> Limits:
        """What the executor publishes."""
        placed = [task.length_class for task in self.tasks.values() if task.placed]
        free = [places - placed.count(kind) for kind, places in enumerate(self.places)]
        pools = tuple((128 * 2**kind, count) for kind, count in enumerate(free))
        return Limits(self.rows, sum(free), self.tokens, self.chunks, pools=pools if len(pools) > 1 else ())

    def turn(self, *, interrupted: bool = False, cached: int = 0) -> Plan:
        """Ask for a plan, check it, carry it out.  An interrupted step produces nothing for any row."""
        limits = self.limits
        plan: Plan = self.tell("plan", self.now, limits)
        self.plans.append(plan)
        self.check(plan, limits)
        for id in plan.shed:
            self.shed.append(id)
            self.end(id)
        for id, how in plan.preempt:
            self._preempt(id, how)
        for id in (*plan.admit, *plan.resume):
            self._admit(id, cached)
        for id, count in plan.prefill:
            self._charge(id, *((0, 0) if interrupted else (count, self._first_token(id, count))))
        for id, count in plan.decode:
            task = self.tasks[id]
            self._charge(id, 0, 0 if interrupted else min(count, self.burst, task.max_tokens - task.generated))
        self.now += self.seconds
        return plan

    def _preempt(self, id: int, how: str) -> None:
        task = self.tasks[id]
        state = "preempted" if task.state == "running" else task.state
        fields: dict[str, Any] = {"state": state, "placed": how == "keep"}
        if how == "drop":
            fields |= {"prompt": self.prompts[id] + task.generated, "cached": 0, "prefilled": 0}
        self.become(id, **fields)

    def _admit(self, id: int, cached: int) -> None:
        if self.refuse > 0:
            self.refuse -= 1
            return
        task = self.tasks[id]
        if task.state == "preempted":
            self.become(id, state="running", placed=True)
        else:
            self.admitted.append(id)
            self.become(id, state="running", placed=True, cached=min(cached, task.prompt))

    def _first_token(self, id: int, count: int) -> int:
        task = self.tasks[id]
        return int(missing(task) == count and task.max_tokens > 0)

    def _charge(self, id: int, prefilled: int, generated: int) -> None:
        task = self.tasks[id]
        task = attrs.evolve(task, prefilled=task.prefilled + prefilled, generated=task.generated + generated)
        self.tasks[id] = task
        self.tell("charged", id, prefilled, generated)
        if missing(task) == 0 and task.generated == task.max_tokens:
            self.end(id)

    def tell(self, name: str, *args: Any) -> Any:  # noqa: ANN401 - any call of a scheduler
        """Call the scheduler, and keep the call."""
        self.log.append((name, args))
        return getattr(self.scheduler, name)(*args)

    # --- what the contract says of a plan

    def check(self, plan: Plan, limits: Limits) -> None:
        """Raise `AssertionError` unless *plan* is possible: known ids, once, in the right state, within *limits*."""
        moved = [*plan.admit, *plan.resume, *plan.shed, *(id for id, _ in plan.preempt)]
        rows = [id for id, _ in (*plan.prefill, *plan.decode)]
        demand(set(moved) | set(rows) <= self.tasks.keys(), "unknown ids", plan)
        demand(len(set(moved) | set(rows)) == len(moved) + len(rows), "a task twice", plan)
        self._check_states(plan)
        self._check_rows(plan, limits)
        self._check_places(plan, limits)
        idle = not (moved or rows or plan.wake_at is not None)
        demand(not (idle and self._runnable(limits)), "nothing, although tasks could run", plan)

    def _check_states(self, plan: Plan) -> None:
        state = {id: task.state for id, task in self.tasks.items()}
        demand(all(state[id] == "waiting" for id in (*plan.admit, *plan.shed)), "not waiting", plan)
        demand(all(state[id] == "preempted" for id in plan.resume), "not preempted", plan)
        demand(all(self.tasks[id].placed for id, _ in plan.preempt), "preempts who has no place", plan)
        demand(all(how in ("keep", "swap", "drop") for _, how in plan.preempt), "preempts in no known way", plan)
        demand(all(state[id] == "running" for id, _ in (*plan.prefill, *plan.decode)), "not running", plan)

    def _check_rows(self, plan: Plan, limits: Limits) -> None:
        for id, count in plan.prefill:
            demand(1 <= count <= missing(self.tasks[id]), f"{count} prompt tokens of task {id}", plan)
        for id, count in plan.decode:
            demand(count >= 1 and missing(self.tasks[id]) == 0, f"decodes task {id}", plan)
        demand(len(plan.prefill) + len(plan.decode) <= limits.rows, "more than the rows", plan)
        tokens = sum(count for _, count in plan.prefill) + len(plan.decode)
        demand(tokens <= limits.tokens, "more than the tokens", plan)
        demand(len(plan.prefill) <= limits.chunks, "more than the chunks", plan)

    def _check_places(self, plan: Plan, limits: Limits) -> None:
        comes = [task for task in (self.tasks[id] for id in (*plan.admit, *plan.resume)) if not task.placed]
        goes = [self.tasks[id].length_class for id, how in plan.preempt if how != "keep"]
        taken = [task.length_class for task in comes]
        demand(len(taken) <= limits.free + len(goes), "more than the places", plan)
        for kind, (_, free) in enumerate(limits.pools):
            demand(taken.count(kind) <= free + goes.count(kind), f"more than the places of class {kind}", plan)

    def _runnable(self, limits: Limits) -> bool:
        steps = any(missing(task) or task.generated < task.max_tokens for task in self.in_state("running"))
        pools = limits.pools or ((0, limits.free),)
        return steps or any(pools[task.length_class][1] > 0 for task in self.in_state("waiting", "preempted"))

    def replay(self) -> list[Plan]:
        """Make the same calls again on a new scheduler, and return its plans."""
        scheduler = self.make()
        answers = [(name, getattr(scheduler, name)(*args)) for name, args in self.log]
        return [answer for name, answer in answers if name == "plan"]


def demand(holds: object, what: str, plan: Plan) -> None:
    """Raise `AssertionError` with *what* is wrong with *plan* unless it *holds*."""
    if not holds:
        raise AssertionError(f"impossible plan: {what}: {plan}")


def missing(task: TaskView) -> int:
    """Prompt tokens that are still to be computed."""
    return task.prompt - task.cached - task.prefilled
