"""Fair shares of tokens among tenants: the Virtual Token Counter.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, arXiv 2401.00588, algorithm 2, with weights.
Each tenant has a counter of the service it has had, divided by its weight.  The next free place goes to the tenant with
the least, and there to the task that came first.

    lift      a tenant that comes to wait when it had nothing waiting gets at least the least counter of those who wait,
              or, if nobody does, of the one who waited last: who was away has saved nothing up
    charge    `prompt_cost` for each prompt token that is not cached when the task gets its place, and `output_cost` for
              each token as it is produced, so that nobody needs to know how long an answer will be

Nobody is preempted, and no place stays free while somebody waits.  While two tenants both wait all the time, their
weighted services never differ by more than

    2 * max(prompt_cost * longest prompt, output_cost * tokens that all places hold) / least weight

(the paper's bound for backlogged clients), however many requests one of them sends.  A tenant that waits gets every
place while its counter is the least, so nothing starves: each task is passed by finitely many.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import check_number, check_type, mapping, number
from llmos_kernel.contracts import Limits, Scheduler, TaskView
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book, Entry, StepOptions, room
from llmos_schedulers.line import Line

api = 1
"""The version of the scheduler contract that this module is written for."""

LEAST, MOST = 1e-6, 1e6


def _weights(instance: object, attribute: attrs.Attribute[Any], value: Mapping[object, object]) -> None:
    mapping(instance, attribute, value)
    for tenant, weight in value.items():
        check_type(attribute.name, tenant, str, "names of tenants")
        check_number(f"{attribute.name}.{tenant}", weight, LEAST, MOST, whole=False)


@attrs.frozen(kw_only=True)
class Options(StepOptions):
    """What ``fair`` can be told."""

    weights: Mapping[str, float] = attrs.field(factory=dict, validator=_weights)
    """Shares of tenants, by name: one of weight 2 gets twice the tokens of one of weight 1."""
    weight: float = attrs.field(default=1.0, validator=number(LEAST, MOST, whole=False))
    """The share of a tenant that `weights` does not name."""
    prompt_cost: float = attrs.field(default=1.0, validator=number(0, 1000, whole=False))
    """What a prompt token is charged."""
    output_cost: float = attrs.field(default=2.0, validator=number(1e-3, 1000, whole=False))
    """What a token of output is charged.  The paper's figures, after what providers charge, are 1 and 2."""


@attrs.define(eq=False)
class Tenant:
    """Who is served, and how much it has had."""

    number: int
    """In the order of arrival; it decides between equal counters."""
    weight: float
    counter: float = 0.0
    stands: float = 0.0
    """The counter by which it stands in the lines of those who wait."""
    outside: dict[int, Line] = attrs.field(factory=dict)
    """Its tasks without a place, per length class."""
    tasks: int = 0
    """Those that have not ended."""


@attrs.define
class Fair(Book):
    """The least served first."""

    options: Options = attrs.field(factory=Options)
    tenants: dict[str, Tenant] = attrs.field(factory=dict, init=False)
    """Those with tasks, and those whose counter would not be lifted if they came back."""
    waiting: dict[int, Line] = attrs.field(factory=dict, init=False)
    """Tenants with tasks outside, by counter, per length class."""
    _by_number: dict[int, Tenant] = attrs.field(factory=dict, init=False)
    _last: Tenant | None = attrs.field(default=None, init=False)
    """Who was the last to have a task outside."""
    _moved: dict[int, Tenant] = attrs.field(factory=dict, init=False)
    """Those whose counter is no longer the one by which they stand."""
    _count: int = attrs.field(default=0, init=False)
    _most: int = attrs.field(default=64, init=False)
    """Tenants beyond which it is worth looking whom to forget."""

    # --- counters

    def floor(self) -> float:
        """Return the counter that nobody who comes back falls below."""
        self._settle()
        least = [line.first(1)[0][0][0] for line in self.waiting.values() if line]
        return min(least) if least else self._last.counter if self._last else 0.0

    def charge(self, tenant: Tenant, cost: float) -> None:
        """Count service.  The tenant moves in its lines before they are looked at: a step charges many rows."""
        tenant.counter += cost / tenant.weight
        self._moved[tenant.number] = tenant

    def _settle(self) -> None:
        for tenant in self._moved.values():
            before, after = ((tenant.stands,), tenant.number), ((tenant.counter,), tenant.number)
            for kind, line in tenant.outside.items():
                if line:
                    self.waiting[kind].leave(before)
                    self.waiting[kind].join(after)
            tenant.stands = tenant.counter
        self._moved.clear()

    # --- what is heard

    def changed(self, task: TaskView) -> None:
        """Enter what is now known of a task; one that gets its first place is charged for its prompt."""
        known = self.tasks.get(task.id)
        placed = known is not None and known.view.state == "waiting" and task.state == "running"
        tenant = self._tenant(task.tenant)
        tenant.tasks += known is None
        waited = any(tenant.outside.values())
        floor = self.floor()
        super().changed(task)
        if not waited and any(tenant.outside.values()) and tenant.counter < floor:
            tenant.counter = floor
            self._moved[tenant.number] = tenant
        if placed:
            self.charge(tenant, self.options.prompt_cost * max(task.prompt - task.cached, 0))

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Charge what was produced to the tenant."""
        entry = self.tasks.get(id)
        super().charged(id, prefilled, generated)
        if entry is not None and generated:
            self.charge(self.tenants[entry.view.tenant], self.options.output_cost * generated)

    def finished(self, id: int) -> None:
        """Forget the task, and tenants about whom nothing need be remembered."""
        entry = self.tasks.get(id)
        super().finished(id)
        if entry is not None:
            self.tenants[entry.view.tenant].tasks -= 1
            if len(self.tenants) > self._most:
                self._forget()

    def _forget(self) -> None:
        floor = self.floor()
        for name, tenant in list(self.tenants.items()):
            if not tenant.tasks and tenant.counter <= floor:
                del self.tenants[name], self._by_number[tenant.number]
        self._most = 2 * len(self.tenants) + 64

    # --- who is next

    def placements(self, limits: Limits) -> tuple[list[int], tuple[int, ...]]:
        """Give each free place to the tenant that has had least, those of this plan counted."""
        self._settle()
        places = {kind: min(room(limits, kind), limits.free) for kind in self.waiting}
        heaps = {kind: line.first(len(line)) for kind, line in self.waiting.items() if line and places[kind] > 0}
        counters: dict[int, float] = {}
        taken: dict[tuple[int, int], int] = {}
        chosen: list[int] = []
        while heaps and len(chosen) < limits.free:
            kind = min(heaps, key=lambda kind: (heaps[kind][0], kind))
            heap = heaps[kind]
            (counter,), number = heap[0]
            tenant = self._by_number[number]
            known = counters.setdefault(number, tenant.counter)
            at = taken.get((number, kind), 0)
            if counter < known:  # it got a place in another class
                heapq.heapreplace(heap, ((known,), number))
            elif at == len(tenant.outside[kind]):
                heapq.heappop(heap)
            else:
                ((_, id),) = tenant.outside[kind].first(1, at)
                chosen.append(id)
                taken[number, kind] = at + 1
                counters[number] = known + self._entry_cost(id) / tenant.weight
                heapq.heapreplace(heap, ((counters[number],), number))
                places[kind] -= 1
            if not heap or not places[kind]:
                del heaps[kind]
        return chosen, ()

    def _entry_cost(self, id: int) -> float:
        entry = self.tasks[id]
        return self.options.prompt_cost * entry.remaining if entry.view.state == "waiting" else 0.0

    # --- lines

    def waits_in(self, task: TaskView) -> tuple[Line, ...]:
        """Return the tenant's own line."""
        return (self.tenants[task.tenant].outside.setdefault(task.length_class, Line()),)

    def line_up(self, entry: Entry) -> None:
        """Stand a task in its lines, and its tenant among those who wait."""
        super().line_up(entry)
        kind, tenant = entry.view.length_class, self.tenants[entry.view.tenant]
        line = tenant.outside.get(kind)
        if line is not None and entry.lines == (line,) and len(line) == 1:
            self.waiting.setdefault(kind, Line()).join(((tenant.stands,), tenant.number))

    def step_out(self, entry: Entry) -> None:
        """Take a task out of its lines, and its tenant from among those who wait if it was the last one."""
        kind, tenant = entry.view.length_class, self.tenants[entry.view.tenant]
        line = tenant.outside.get(kind)
        waited = line is not None and entry.lines == (line,)
        super().step_out(entry)
        if waited and not line:
            self.waiting[kind].leave(((tenant.stands,), tenant.number))
            self._last = tenant

    def _tenant(self, name: str) -> Tenant:
        if name not in self.tenants:
            self._count += 1
            tenant = Tenant(self._count, self.options.weights.get(name, self.options.weight))
            self.tenants[name] = self._by_number[tenant.number] = tenant
        return self.tenants[name]


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a scheduler that is fair to tenants; *config* holds `Options`.  Raises `ConfigError`."""
    return Fair(options=read_options(Options, config, "scheduler:fair"))
