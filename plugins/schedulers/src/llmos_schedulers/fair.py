"""Fair shares of tokens among tenants: the Virtual Token Counter.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, arXiv 2401.00588, algorithm 2, with weights.
Each tenant has a counter of the service it has had, divided by its weight.  The next free place goes to the tenant with
the least, and there to the task that came first.

    lift      a tenant that comes to wait when it had nothing waiting gets at least the least counter of those who wait,
              or, if nobody does, of the one who waited last: who was away has saved nothing up
    charge    `prompt_cost` for each prompt token that is not cached when the task gets its place, and `output_cost` for
              each token as it is produced, so that nobody needs to know how long an answer will be

    preempt   a tenant that holds fewer places than its share, and has had no more than one that holds more, takes one
              of that tenant's: so who asks for little need not wait until a long answer of somebody else ends.  The
              paper preempts nobody; `preempt` off is its algorithm

Shares of places are by weight: a place changes hands only if the tenant that gets it still holds, for its weight, no
more than the other then does.  So it is not taken back, and tenants that all wait for long come to hold their shares
and exchange nothing more.

No place stays free while somebody waits.  While two tenants both wait all the time, their weighted services never
differ by more than

    2 * max(prompt_cost * longest prompt, output_cost * tokens that all places hold) / least weight

(the paper's bound for backlogged clients), however many requests one of them sends.  Its proof needs only that who
gets a place has the least counter of those who wait, and that who has none is not charged; both hold with `preempt`.
A tenant that waits gets every place while its counter is the least, so nothing starves: each task is passed by
finitely many.

Prompts are computed in the order of the counters too, those of the tenant that was served least first.
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
from llmos_schedulers.line import Line, Rank
from llmos_schedulers.options import flag

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
    preempt: bool = attrs.field(default=True, validator=flag)
    """Let tenants that hold less than their share of the places take places of those that hold more."""


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
    inside: dict[int, Line] = attrs.field(factory=dict)
    """Its running tasks, per length class."""
    tasks: int = 0
    """Those that have not ended."""


@attrs.define(eq=False)
class Draft:
    """What a plan has given and taken so far."""

    free: int
    """Places that nobody holds."""
    places: dict[int, int]
    """How many of them are left, per length class."""
    counters: dict[int, float] = attrs.field(factory=dict)
    """What tenants have had, by number, with what they get in this plan."""
    taken: dict[tuple[int, int], int] = attrs.field(factory=dict)
    """Places that tenants got, by number and length class."""
    given: dict[tuple[int, int], int] = attrs.field(factory=dict)
    """Places that tenants yielded."""
    refused: dict[int, float] = attrs.field(factory=dict)
    """The counter of who was first and got no place, per length class: nobody may pass who has had more."""
    chosen: list[int] = attrs.field(factory=list)
    yielding: list[int] = attrs.field(factory=list)

    most: dict[int, float] = attrs.field(factory=dict)
    """What the tenant that holds most for its weight would hold without one place, at least; empty for no exchanges."""

    def open(self, kind: int) -> bool:
        """Say whether a place of that class is free."""
        return self.free > 0 and self.places[kind] > 0

    def held(self, tenant: Tenant, kind: int) -> int:
        """Return how many places a tenant holds in a length class."""
        key, inside = (tenant.number, kind), tenant.inside.get(kind)
        return (len(inside) if inside else 0) + self.taken.get(key, 0) - self.given.get(key, 0)


@attrs.define
class Fair(Book):
    """The least served first."""

    options: Options = attrs.field(factory=Options)
    tenants: dict[str, Tenant] = attrs.field(factory=dict, init=False)
    """Those with tasks, and those whose counter would not be lifted if they came back."""
    waiting: dict[int, Line] = attrs.field(factory=dict, init=False)
    """Tenants with tasks outside, by counter, per length class."""
    holders: dict[int, dict[int, Tenant]] = attrs.field(factory=dict, init=False)
    """Tenants with running tasks, by number, per length class."""
    _heaviest: float = attrs.field(default=0.0, init=False)
    """The greatest weight of a tenant so far."""
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
        """Give each place to the tenant that has had least, those of this plan counted."""
        self._settle()
        draft = Draft(limits.free, {kind: min(room(limits, kind), limits.free) for kind in self.waiting})
        heaps = {kind: line.first(len(line)) for kind, line in self.waiting.items() if self._may_change(draft, kind)}
        while heaps:
            kind = min(heaps, key=lambda kind: (heaps[kind][0], kind))
            if not self._place(draft, kind, heaps[kind]):
                del heaps[kind]
        return draft.chosen, tuple(draft.yielding)

    def _may_change(self, draft: Draft, kind: int) -> bool:
        """Say whether anybody could get a place of this class: most plans find all taken, and as they should be."""
        if not self.waiting[kind]:
            return False
        if self.options.preempt:
            holders = self.holders.get(kind, {}).values()
            draft.most[kind] = max([(len(one.inside[kind]) - 1) / one.weight for one in holders], default=0.0)
        return draft.open(kind) or draft.most.get(kind, 0.0) * self._heaviest >= 1

    def _place(self, draft: Draft, kind: int, heap: list[Rank]) -> bool:
        """Give a place to the first of those who wait, or let the next one be first; False if nobody can get one."""
        (counter,), number = heap[0]
        if counter > draft.refused.get(kind, counter):
            return False
        tenant = self._by_number[number]
        known = draft.counters.setdefault(number, tenant.counter)
        at = draft.taken.get((number, kind), 0)
        if counter < known:  # it got a place in another class
            heapq.heapreplace(heap, ((known,), number))
            return True
        if at == len(tenant.outside[kind]):
            heapq.heappop(heap)
            return bool(heap)
        if draft.open(kind):
            draft.free -= 1
            draft.places[kind] -= 1
        elif not self._yield(draft, kind, tenant):
            draft.refused[kind] = counter
            heapq.heappop(heap)
            return bool(heap) and draft.most.get(kind, 0.0) * self._heaviest >= 1
        ((_, id),) = tenant.outside[kind].first(1, at)
        draft.chosen.append(id)
        draft.taken[number, kind] = at + 1
        if kind in draft.most:
            draft.most[kind] = max(draft.most[kind], (draft.held(tenant, kind) - 1) / tenant.weight)
        draft.counters[number] = known + self._entry_cost(id) / tenant.weight
        heapq.heapreplace(heap, ((draft.counters[number],), number))
        return True

    def _yield(self, draft: Draft, kind: int, taker: Tenant) -> bool:
        """Let who holds most, for its weight, yield its latest task's place to *taker*; False if nobody should."""
        share = (draft.held(taker, kind) + 1) / taker.weight
        if draft.most.get(kind, 0.0) < share:
            return False
        least = draft.counters[taker.number]
        most = [
            ((draft.held(one, kind) - 1) / one.weight, one.number)
            for one in self.holders.get(kind, {}).values()
            if draft.counters.get(one.number, one.counter) >= least
            and draft.given.get((one.number, kind), 0) < len(one.inside[kind])
        ]
        left, number = max(most, default=(-1.0, 0))
        if number == taker.number or left < share:
            draft.most[kind] = left  # whoever is next has had as much as the taker: nobody else would yield to it
            return False
        given = draft.given.get((number, kind), 0)
        draft.yielding.append(self._by_number[number].inside[kind].last(given + 1)[given][1])
        draft.given[number, kind] = given + 1
        return True

    def _entry_cost(self, id: int) -> float:
        entry = self.tasks[id]
        return self.options.prompt_cost * entry.remaining if entry.view.state == "waiting" else 0.0

    def prompts(self, most: int) -> list[int]:
        """Return those of the tenants that have had least, in order of arrival."""
        ranks = self.prefilling.first(len(self.prefilling))
        return [id for _, id in sorted(ranks, key=lambda rank: (self._tenant_of(rank[1]).counter, rank))[:most]]

    # --- lines

    def waits_in(self, task: TaskView) -> tuple[Line, ...]:
        """Return the tenant's own line."""
        return (self.tenants[task.tenant].outside.setdefault(task.length_class, Line()),)

    def line_up(self, entry: Entry) -> None:
        """Stand a task in its lines, and its tenant among those who wait or hold places."""
        super().line_up(entry)
        kind, tenant = entry.view.length_class, self.tenants[entry.view.tenant]
        line = tenant.outside.get(kind)
        if entry.view.state == "running":
            tenant.inside.setdefault(kind, Line()).join(entry.rank)
            self.holders.setdefault(kind, {})[tenant.number] = tenant
        elif line is not None and entry.lines == (line,) and len(line) == 1:
            self.waiting.setdefault(kind, Line()).join(((tenant.stands,), tenant.number))

    def step_out(self, entry: Entry) -> None:
        """Take a task out of its lines, and its tenant from among those who wait or hold places if it was the last."""
        kind, tenant = entry.view.length_class, self.tenants[entry.view.tenant]
        line = tenant.outside.get(kind)
        waited = line is not None and entry.lines == (line,)
        super().step_out(entry)
        if entry.view.state == "running":
            tenant.inside[kind].leave(entry.rank)
            if not tenant.inside[kind]:
                del self.holders[kind][tenant.number]
        elif waited and not line:
            self.waiting[kind].leave(((tenant.stands,), tenant.number))
            self._last = tenant

    def _tenant_of(self, id: int) -> Tenant:
        return self.tenants[self.tasks[id].view.tenant]

    def _tenant(self, name: str) -> Tenant:
        if name not in self.tenants:
            self._count += 1
            tenant = Tenant(self._count, self.options.weights.get(name, self.options.weight))
            self.tenants[name] = self._by_number[tenant.number] = tenant
            self._heaviest = max(self._heaviest, tenant.weight)
        return self.tenants[name]


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a scheduler that is fair to tenants; *config* holds `Options`.  Raises `ConfigError`."""
    return Fair(options=read_options(Options, config, "scheduler:fair"))
