"""The policies once more, as plainly as their papers say them: every turn looks at everybody and sorts.

`serve` is an executor with *places*, one row per place, that computes a prompt in one step.  An `Order` says who stands
before whom *now*: ages are computed from the time, queues are lists, counters are looked through.  Nothing is shared
with the policies, and nothing is kept sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


@attrs.define(eq=False)
class Job:
    """A task."""

    id: int
    arrival: float
    prompt: int
    output: int
    tenant: str = "a"
    priority: int = 0
    deadline: float | None = None
    done: int = 0
    """Tokens produced."""


@attrs.define
class Order:
    """First come, first served, unless `key` says otherwise."""

    preempts: bool = False
    key: Callable[[Job, float], Any] = lambda job, now: job.arrival

    def arrive(self, job: Job, outside: list[Job]) -> None:
        """Hear of a task, before it joins those *outside*."""

    def served(self, job: Job, prompt: int, now: float) -> None:
        """Hear that a task has had a step, which computed *prompt* tokens of prompt and produced one."""

    def tick(self, jobs: list[Job], now: float) -> None:
        """Look at the time."""

    def choose(self, outside: list[Job], inside: list[Job], free: int, now: float) -> tuple[list[Job], list[Job]]:
        """Return who comes in and who goes out."""
        first = sorted(outside, key=lambda job: (self.key(job, now), job.id))
        last = sorted(inside, key=lambda job: (self.key(job, now), job.id), reverse=True)
        comes, goes = first[:free], []
        for one, other in zip(first[free:], last if self.preempts else (), strict=False):
            if not self.key(one, now) < self.key(other, now):
                break
            comes.append(one)
            goes.append(other)
        return comes, goes


def serve(order: Order, jobs: list[Job], places: int) -> list[set[int]]:
    """Return who had a row in each turn, until all have ended."""
    coming = sorted(jobs, key=lambda job: (job.arrival, job.id))
    outside: list[Job] = []
    inside: list[Job] = []
    turns: list[set[int]] = []
    while coming or outside or inside:
        now = float(len(turns))
        while coming and coming[0].arrival <= now:
            order.arrive(coming[0], outside)
            outside.append(coming.pop(0))
        order.tick(outside + inside, now)
        comes, goes = order.choose(outside, inside, places - len(inside), now)
        rows = [job for job in sorted(inside, key=lambda job: (order.key(job, now), job.id)) if job not in goes]
        outside = [job for job in outside if job not in comes] + goes
        for job in _in_step(order, rows, now):
            order.served(job, 0 if job.done else job.prompt, now)
            job.done += 1
        inside = [job for job in rows if job.done < job.output] + comes
        turns.append({job.id for job in rows})
    return turns


def _in_step(order: Order, rows: list[Job], now: float) -> list[Job]:
    """Return the rows in the order of a step's results: prompts, then the others."""
    return [job for job in rows if not job.done] + [job for job in rows if job.done]


@attrs.define
class Circle(Order):
    """Round robin: a list, whose head is next."""

    quantum: int = 1
    circle: list[Job] = attrs.field(factory=list)
    used: dict[int, int] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.preempts, self.key = True, lambda job, now: self.circle.index(job)

    def arrive(self, job: Job, outside: list[Job]) -> None:
        """Put the task where it begins."""
        self.circle.append(job)

    def served(self, job: Job, prompt: int, now: float) -> None:
        """Count what it had."""
        self.used[job.id] = self.used.get(job.id, 0) + 1
        if self.used[job.id] == self.quantum:
            self.used[job.id] = 0
            self.circle.remove(job)
            self.circle.append(job)


@attrs.define
class Levels(Order):
    """FastServe's queues: a list per level."""

    quanta: list[float] = attrs.field(factory=list)
    prompt_cost: float = 0.0
    starvation: float = 1e9
    levels: list[list[Job]] = attrs.field(factory=list)
    used: dict[int, float] = attrs.field(factory=dict)
    last: dict[int, float] = attrs.field(factory=dict)
    """When a task was served last, or arrived, or was looked at and found to starve."""

    def __attrs_post_init__(self) -> None:
        self.levels = [[] for _ in self.quanta]
        self.preempts, self.key = True, lambda job, now: (self.level(job), self.levels[self.level(job)].index(job))

    def level(self, job: Job) -> int:
        """Return where a task is."""
        return next(at for at, members in enumerate(self.levels) if job in members)

    def put(self, job: Job, level: int) -> None:
        """Put a task at the end of a level."""
        for members in self.levels:
            if job in members:
                members.remove(job)
        self.levels[level].append(job)
        self.used[job.id] = 0.0

    def arrive(self, job: Job, outside: list[Job]) -> None:
        """Put the task where it begins."""
        cost = 1 + self.prompt_cost * job.prompt
        self.put(job, min([at for at, quantum in enumerate(self.quanta) if quantum >= cost] + [len(self.quanta) - 1]))
        self.last[job.id] = job.arrival

    def served(self, job: Job, prompt: int, now: float) -> None:
        """Count what it had."""
        level, self.last[job.id] = self.level(job), now
        self.used[job.id] += 1 + self.prompt_cost * prompt
        if self.used[job.id] >= self.quanta[level] and level + 1 < len(self.quanta):
            self.put(job, level + 1)

    def tick(self, jobs: list[Job], now: float) -> None:
        """Promote who starves."""
        starving = [job for job in jobs if self.last[job.id] + self.starvation <= now]
        for job in sorted(starving, key=lambda job: (self.last[job.id], job.id)):
            self.last[job.id] = now
            if self.level(job) > 0:
                self.put(job, 0)


@attrs.define
class Counters(Order):
    """VTC's algorithm: a counter per tenant, the least served first; with *takes*, who holds too many places yields."""

    weights: dict[str, float] = attrs.field(factory=dict)
    prompt_cost: float = 1.0
    output_cost: float = 2.0
    counters: dict[str, float] = attrs.field(factory=dict)
    last: str = ""
    takes: bool = False
    entered: set[int] = attrs.field(factory=set)

    def arrive(self, job: Job, outside: list[Job]) -> None:
        """Put the task where it begins."""
        mine = self.counters.setdefault(job.tenant, 0.0)
        if all(other.tenant != job.tenant for other in outside):
            others = [self.counters[other.tenant] for other in outside] or [self.counters.get(self.last, 0.0)]
            self.counters[job.tenant] = max(mine, min(others))

    def served(self, job: Job, prompt: int, now: float) -> None:
        """Count what it had."""
        self.counters[job.tenant] += self.output_cost / self.weights.get(job.tenant, 1.0)

    def choose(self, outside: list[Job], inside: list[Job], free: int, now: float) -> tuple[list[Job], list[Job]]:
        """Give each place to the tenant with least."""
        queue, stay = list(outside), list(inside)
        comes: list[Job] = []
        names = list(self.counters)
        while queue:
            waiting = sorted({job.tenant for job in queue}, key=lambda name: (self.counters[name], names.index(name)))
            tenant, out = waiting[0], None
            if len(comes) + len(stay) >= free + len(inside):
                equal = [name for name in waiting if self.counters[name] == self.counters[waiting[0]]]
                pairs = [(name, self.yields(name, comes, stay)) for name in equal if self.takes]
                tenant, out = next(((name, job) for name, job in pairs if job), ("", None))
            if not tenant:
                break
            if out:
                stay.remove(out)
            job = min((job for job in queue if job.tenant == tenant), key=lambda job: (job.arrival, job.id))
            queue.remove(job)
            comes.append(job)
            if job.id not in self.entered:
                self.entered.add(job.id)
                self.counters[tenant] += self.prompt_cost * job.prompt / self.weights.get(tenant, 1.0)
            if all(other.tenant != tenant for other in queue):
                self.last = tenant
        return comes, [job for job in inside if job not in stay]

    def yields(self, taker: str, comes: list[Job], stay: list[Job]) -> Job | None:
        """Return the task that yields its place to the tenant *taker*, if one should."""
        names = list(self.counters)

        def share(name: str, more: int) -> float:
            held = sum(job.tenant == name for job in comes + stay)
            return (held + more) / self.weights.get(name, 1.0)

        others = {job.tenant for job in stay if self.counters[job.tenant] >= self.counters[taker]} - {taker}
        most = max(others, key=lambda name: (share(name, -1), names.index(name)), default="")
        if not most or share(most, -1) < share(taker, 1):
            return None
        return max((job for job in stay if job.tenant == most), key=lambda job: (job.arrival, job.id))
