"""Workloads: who asks for what, and when.

A `Workload` is a mix of tenants, each with its process of arrivals and its lengths, or a trace of what really came, or
both.  `Workload.draw` makes the requests: lazily, in order of time, in constant memory, and always the same for one
seed.  Each tenant has its own random numbers, for times and for lengths apart, so that a tenant asks for the same
things whatever the others do and whatever its rate is: policies are compared on equal requests.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Any

import attrs
from attrs import validators

from llmos_kernel.api import MAX_COUNT, MAX_SECONDS, check_number, listed, mapping, number, of_type, text
from llmos_kernel.errors import InvalidArgument
from llmos_simulator.lengths import Lengths
from llmos_simulator.processes import FASTEST, Closed, Process
from llmos_simulator.records import Arrival, Outcome
from llmos_simulator.traces import read_trace

REQUESTS = 10_000
"""How many requests come where nothing else ends them."""
_optional = validators.optional


@attrs.frozen(kw_only=True)
class Tenant:
    """Who asks, how often, for how much."""

    name: str = attrs.field(default="tenant", validator=text)
    arrivals: Process | Closed = attrs.field()
    prompt: Lengths = attrs.field(validator=of_type(Lengths, "a distribution of lengths"))
    output: Lengths = attrs.field(validator=of_type(Lengths, "a distribution of lengths"))
    kind: str = attrs.field(default="generate", validator=text)
    priority: int = attrs.field(default=0, validator=number(-1000, 1000))
    max_tokens: int | None = attrs.field(default=None, validator=_optional(number(1, MAX_COUNT)))
    """What each request asks for at most: schedulers know it, and outputs end there.  None: exactly its output."""
    deadline: float | None = attrs.field(default=None, validator=_optional(number(1e-9, MAX_SECONDS, whole=False)))
    """Seconds after its arrival at which a request fails."""
    weight: float = attrs.field(default=1.0, validator=number(1e-6, 1e6, whole=False))
    """The share that fairness is measured against.  Schedulers do not hear of it: their weights are options."""

    @arrivals.validator
    def _check_arrivals(self, attribute: attrs.Attribute[Any], arrivals: object) -> None:
        if not isinstance(arrivals, Process | Closed):
            raise InvalidArgument.of("arrivals", arrivals, "a process of arrivals")

    def request(self, at: float, random: Random) -> Arrival:
        """Return a request that comes at the time *at*."""
        prompt, output = self.prompt.draw(random), self.output.draw(random)
        return Arrival(
            at, self.name, kind=self.kind, priority=self.priority, prompt=prompt,
            output=min(output, self.max_tokens or output), max_tokens=self.max_tokens, deadline=self.deadline,
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class Workload:
    """A mix of tenants, a trace, or both."""

    name: str = attrs.field(default="workload", validator=text)
    tenants: tuple[Tenant, ...] = attrs.field(default=(), converter=listed)
    trace: Path | None = attrs.field(default=None, validator=_optional(of_type(Path, "a path")))
    """A CSV file, see `llmos_simulator.traces`."""
    requests: int | None = attrs.field(default=None, validator=_optional(number(1, MAX_COUNT)))
    """How many come at most; None: as many as there are until `seconds` or in the trace, else `REQUESTS`."""
    seconds: float | None = attrs.field(default=None, validator=_optional(number(1e-9, MAX_SECONDS, whole=False)))
    """Nobody comes from then on."""
    options: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, validator=mapping)
    """Options of schedulers, by the schedulers' names."""

    @tenants.validator
    def _check_tenants(self, attribute: attrs.Attribute[Any], tenants: object) -> None:
        if not isinstance(tenants, tuple) or not all(isinstance(one, Tenant) for one in tenants):
            raise InvalidArgument.of("tenants", tenants, "a list of tenants")
        names = [one.name for one in tenants]
        for name in names:
            if names.count(name) > 1:
                raise InvalidArgument.of("tenants", name, "names of which each stands once")

    def __attrs_post_init__(self) -> None:
        if not self.tenants and self.trace is None:
            raise InvalidArgument.of("tenants", [], "at least one tenant, or a trace beside none")

    @property
    def weights(self) -> dict[str, float]:
        """The tenants' weights by name."""
        return {one.name: one.weight for one in self.tenants}

    @property
    def most(self) -> int | None:
        """How many requests come at most; None where time or a trace alone ends them."""
        endless = self.seconds is None and (self.trace is None or bool(self.tenants))
        return self.requests if self.requests is not None or not endless else REQUESTS

    @property
    def rate(self) -> float | None:
        """Requests per second in all; None where users who wait for answers or a trace say when they come."""
        rates = [one.arrivals.rate for one in self.tenants if isinstance(one.arrivals, Process)]
        return None if self.trace is not None or len(rates) < len(self.tenants) else sum(rates)

    def scaled(self, rate: float) -> Workload:
        """Return the workload with *rate* requests per second in all, each tenant keeping its share of them.

        Raises `InvalidArgument` for a workload without a `rate`.
        """
        check_number("rate", rate, 1e-9, FASTEST, whole=False)
        if self.rate is None:
            message = (
                f"rate cannot be set for {self.name}: users who wait for answers, or a trace, say when requests come"
            )
            raise InvalidArgument(message, field="rate", value=rate, expected="a workload whose tenants have rates")
        factor = rate / self.rate
        tenants = [
            attrs.evolve(one, arrivals=attrs.evolve(one.arrivals, rate=one.arrivals.rate * factor))
            for one in self.tenants
            if isinstance(one.arrivals, Process)
        ]
        return attrs.evolve(self, tenants=tenants)

    def draw(self, seed: int = 0) -> Requests:
        """Return the requests that *seed* makes: iterate over them, and tell of those that ended."""
        check_number("seed", seed, 0, MAX_COUNT)
        return Requests(self, seed)


@attrs.define(eq=False)
class _Stream:
    """What one tenant asks for."""

    tenant: Tenant
    times: Random
    lengths: Random

    def opening(self) -> Iterator[Arrival]:
        """Yield what comes by itself: all requests, or each user's first."""
        arrivals = self.tenant.arrivals
        if isinstance(arrivals, Closed):
            times: Iterator[float] = iter(sorted(arrivals.pause(self.times) for _ in range(arrivals.users)))
        else:
            times = arrivals.times(self.times)
        return (self.tenant.request(at, self.lengths) for at in times)

    def again(self, ended: float) -> Arrival | None:
        """Return what a user asks next whose request ended."""
        arrivals = self.tenant.arrivals
        if not isinstance(arrivals, Closed):
            return None
        return self.tenant.request(ended + arrivals.pause(self.times), self.lengths)


class Requests(Iterator[Arrival]):
    """One drawing of a workload.

    Iterating yields what comes by itself, in order of time.  `ended` must hear of each outcome, and returns what comes
    because of it; users are alike, so it does not matter whose request it was.
    """

    def __init__(self, workload: Workload, seed: int) -> None:
        streams = [
            _Stream(one, Random(f"{seed}/{one.name}/times"), Random(f"{seed}/{one.name}/lengths"))  # noqa: S311
            for one in workload.tenants
        ]
        self._streams = {stream.tenant.name: stream for stream in streams}
        traced = [read_trace(workload.trace)] if workload.trace is not None else []
        self._coming: Iterator[Arrival] = heapq.merge(
            *(stream.opening() for stream in streams), *traced, key=attrgetter("at")
        )
        self._left = MAX_COUNT if workload.most is None else workload.most
        self._until = float("inf") if workload.seconds is None else workload.seconds

    def __next__(self) -> Arrival:
        arrival = self._take(next(self._coming)) if self._left else None
        if arrival is None:
            self._coming = iter(())
            raise StopIteration
        return arrival

    def ended(self, outcome: Outcome) -> Arrival | None:
        """Return what its user asks next, after thinking; None where it was nobody who waits, or the end has come."""
        stream = self._streams.get(outcome.arrival.tenant)
        again = stream.again(outcome.ended) if stream and self._left else None
        return self._take(again) if again else None

    def _take(self, arrival: Arrival) -> Arrival | None:
        if arrival.at >= self._until:
            return None
        self._left -= 1
        return arrival
