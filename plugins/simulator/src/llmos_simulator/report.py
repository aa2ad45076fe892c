"""What a simulation means: waits, times to the first token, throughput, misses, utilisation and fairness.

`Collector` hears of outcomes one by one and keeps none of them: counts and sums are exact, quantiles come from a sketch
(`llmos_simulator.sketch`), and what happened when from sums over windows of time (`llmos_simulator.timeline`).  So a
million requests take as much memory as a thousand.

**Fairness** is Jain's index ("A Quantitative Measure of Fairness and Discrimination", DEC-TR-301, 1984) of what tenants
were served while they competed: ``(sum x)² / (n · sum x²)`` over the cost of the tokens that each got, divided by its
weight; 1 is equal, 1/n is everything to one.  A tenant competes in a window of time in which at least one of its
requests was waiting on average.  Windows in which the same tenants compete are summed, and the indices of different
sets of tenants are weighted by how long they competed.  Costs of tokens are those of Sheng et al., "Fairness in Serving
Large Language Models" (arXiv 2401.00588): one for a token of a prompt, two for one of output.  The tokens of a request
are taken as spread evenly: those of its prompt from its first step to its first token, those of its output from there
to its end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llmos_simulator.records import Outcome
from llmos_simulator.sketch import Sketch
from llmos_simulator.timeline import Timeline

PROMPT_COST, OUTPUT_COST = 1.0, 2.0
MISSED, REFUSED = "DeadlineExceeded", "Overloaded"
POINTS = 100
"""How many quantiles a distribution is drawn by."""


def _tuple(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class Times:
    """A distribution of times, in seconds; None where there was nothing to measure."""

    count: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    most: float | None = None
    quantiles: tuple[float, ...] = attrs.field(default=(), converter=_tuple, repr=False)
    """The quantiles of 0, 1/`POINTS`, ... 1."""

    @classmethod
    def of(cls, sketch: Sketch) -> Times:
        """Return what *sketch* knows."""
        if not sketch.count:
            return cls(count=0)
        quantiles = sketch.quantiles([point / POINTS for point in range(POINTS + 1)])
        named = {f"p{point}": quantiles[point * POINTS // 100] for point in (50, 95, 99)}
        return cls(count=sketch.count, mean=sketch.mean, most=sketch.most, quantiles=quantiles, **named)


@attrs.frozen(kw_only=True)
class Service:
    """What a tenant got, or all of them together."""

    tenant: str
    """Empty for all together."""
    requests: int
    """Requests that came."""
    done: int
    """Those that ended well."""
    missed: int
    """Those that failed at their deadline."""
    refused: int
    """Those that were refused, at once or while they waited."""
    errors: Mapping[str, int]
    """Those that ended in any other way, by the error's class."""
    wait: Times
    """From arrival to the first step, of those that had one."""
    first: Times
    """From arrival to the first token, of those that had one."""
    total: Times
    """From arrival to the end, of those that ended well."""
    prompt_tokens: int
    """Tokens of prompts that were computed."""
    tokens: int
    """Tokens that were produced."""
    requests_per_second: float
    """Those that ended well, per second of the whole run."""
    tokens_per_second: float


@attrs.frozen(kw_only=True)
class Report:
    """One policy, one workload."""

    policy: str
    seconds: float
    """From the first arrival to the last end, on the virtual clock."""
    utilisation: float | None
    """The share of that time in which the executor was busy; None where nobody said."""
    fairness: float | None
    """Jain's index; None where no two tenants ever competed."""
    contested: float
    """The share of the time in which at least two tenants competed."""
    all: Service
    tenants: tuple[Service, ...]
    """By name."""
    window: float
    """Seconds between the points of `served`."""
    served: Mapping[str, Sequence[float]]
    """Tokens produced per second, over time, by tenant."""

    def plain(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return attrs.asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Report:
        """Return the report that `plain` wrote, whether or not it was JSON meanwhile."""
        everybody, tenants = _service(values["all"]), tuple(map(_service, values["tenants"]))
        return cls(**{**values, "all": everybody, "tenants": tenants})


def _service(values: Mapping[str, Any]) -> Service:
    times = {name: Times(**values[name]) for name in ("wait", "first", "total")}
    return Service(**{**values, **times})


@attrs.define(eq=False)
class _Tally:
    """What is counted of one tenant."""

    requests: int = 0
    ends: Counter[str] = attrs.field(factory=Counter)
    prompt_tokens: int = 0
    tokens: int = 0
    wait: Sketch = attrs.field(factory=Sketch)
    first: Sketch = attrs.field(factory=Sketch)
    total: Sketch = attrs.field(factory=Sketch)

    def add(self, outcome: Outcome) -> None:
        at = outcome.arrival.at
        self.requests += 1
        self.ends[outcome.error] += 1
        self.prompt_tokens += outcome.prompt
        self.tokens += outcome.generated
        if outcome.admitted is not None:
            self.wait.add(outcome.admitted - at)
        if outcome.first is not None:
            self.first.add(outcome.first - at)
        if not outcome.error:
            self.total.add(outcome.ended - at)

    def merge(self, other: _Tally) -> None:
        self.requests += other.requests
        self.ends.update(other.ends)
        self.prompt_tokens += other.prompt_tokens
        self.tokens += other.tokens
        for name in ("wait", "first", "total"):
            getattr(self, name).merge(getattr(other, name))

    def service(self, tenant: str, share: float) -> Service:
        errors = {name: count for name, count in sorted(self.ends.items()) if name not in ("", MISSED, REFUSED)}
        return Service(
            tenant=tenant, requests=self.requests, done=self.ends[""], missed=self.ends[MISSED],
            refused=self.ends[REFUSED], errors=errors, wait=Times.of(self.wait), first=Times.of(self.first),
            total=Times.of(self.total), prompt_tokens=self.prompt_tokens, tokens=self.tokens,
            requests_per_second=self.ends[""] * share, tokens_per_second=self.tokens * share,
        )  # fmt: skip


class Collector:
    """Hears of the outcomes of one simulation, in any order, and makes its `Report`."""

    def __init__(self, policy: str, weights: Mapping[str, float] | None = None) -> None:
        self._policy = policy
        self._weights = weights or {}
        self._tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
        self._timeline = Timeline()
        self._begin, self._end = float("inf"), 0.0

    def add(self, outcome: Outcome) -> None:
        """Count *outcome*."""
        name, at, end = outcome.arrival.tenant, outcome.arrival.at, outcome.ended
        self._tallies[name].add(outcome)
        self._begin, self._end = min(self._begin, at), max(self._end, end)
        started = end if outcome.admitted is None else outcome.admitted
        spoke = end if outcome.first is None else outcome.first
        self._timeline.spread(("waiting", name), at, started, started - at)
        self._timeline.spread(("cost", name), started, spoke, PROMPT_COST * outcome.prompt)
        self._timeline.spread(("cost", name), spoke, end, OUTPUT_COST * outcome.generated)
        self._timeline.spread(("tokens", name), spoke, end, outcome.generated)

    def report(self, utilisation: float | None = None) -> Report:
        """Return what is known so far; *utilisation* is the share of the time in which the executor worked."""
        seconds = max(self._end - self._begin, 0.0)
        share = 1 / seconds if seconds else 0.0
        everybody = _Tally()
        for tally in self._tallies.values():
            everybody.merge(tally)
        fairness, contested = self._fairness()
        return Report(
            policy=self._policy, seconds=seconds, utilisation=utilisation, fairness=fairness,
            contested=contested * share, all=everybody.service("", share),
            tenants=tuple(self._tallies[name].service(name, share) for name in sorted(self._tallies)),
            window=self._timeline.width, served={name: self._rates(name) for name in sorted(self._tallies)},
        )  # fmt: skip

    def _rates(self, name: str) -> list[float]:
        width = self._timeline.width
        return [amount / width for amount in self._timeline.amounts(("tokens", name))[: int(self._end / width) + 1]]

    def _fairness(self) -> tuple[float | None, float]:
        """Return Jain's index, and for how many seconds tenants competed."""
        names, width = sorted(self._tallies), self._timeline.width
        waiting, costs = (
            list(zip(*(self._timeline.amounts((what, name)) for name in names), strict=True))
            for what in ("waiting", "cost")
        )
        sums: dict[tuple[int, ...], list[float]] = {}
        windows: Counter[tuple[int, ...]] = Counter()
        for queued, got in zip(waiting, costs, strict=True):
            who = tuple(at for at, amount in enumerate(queued) if amount >= width)
            if len(who) > 1:
                sums[who] = [total + got[at] for total, at in zip(sums.get(who, [0.0] * len(who)), who, strict=True)]
                windows[who] += 1
        weighed = {
            who: jain([cost / self._weights.get(names[at], 1.0) for cost, at in zip(sums[who], who, strict=True)])
            for who in sums
        }
        count = windows.total()
        index = sum(weighed[who] * times for who, times in windows.items()) / count if count else None
        return index, count * width


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of *shares*: 1 where all are equal (or none got anything), 1/n where one got everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
