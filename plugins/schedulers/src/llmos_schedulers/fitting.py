"""Live fits of queues: how often tasks come, how long they take, and how long the next one will wait.

Everything is learnt from the kernel's events, and time is taken from them, so that equal events give equal fits.  A
sample of a half-life ago weighs half.  A fit says itself whether it is to be trusted: samples that together weigh less
than `ENOUGH` say too little, and when none come any more, what is known fades until it is trusted no longer.

    arrivals    tasks per second, by the weight of those of late, and how unevenly they come
    service     seconds from the first step to the end, per kind of task, of those that ended well
    servers     how many tasks are served at once when some wait.  Who finds `n` unfinished tasks before c servers waits
                for `n - c + 1` of them to end; so each task that waited, and saw `d` tasks end meanwhile, says that
                c = n + 1 - d, whatever the executor is: threads, or rows of a batch
    wait        seconds until the first of those `d` ends, and then from each end to the next

The prediction for a task that finds `n` unfinished is the queue-length estimator of Whitt, "Predicting queueing delays"
(Management Science 45, 1999), with both times measured instead of derived from exponential service: the first is a
residual time, which is shorter than a whole one the more regular service is.  How far off it was for those who waited
says how uncertain it is.  It is made for service in order of arrival; where a policy lets others pass, `servers` and
the uncertainty show it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import exp2, floor, log, sqrt
from statistics import NormalDist
from typing import Any

import attrs

from llmos_kernel.api import MAX_SECONDS, check_number, number
from llmos_kernel.services import Event

ENOUGH = 20.0
"""What the samples of a fit that is to be trusted weigh at least; a new sample weighs 1."""
HALF_LIFE = 300.0
"""Seconds after which a sample weighs half, if nothing else is said."""
OPEN, ENDS = 65_536, 16_384
"""Unfinished tasks that are remembered per model, and ends; what is older is forgotten."""
LOST = 86_400.0
"""Seconds after which a task whose end was never heard of counts no longer."""
NO_WAIT = 0.01
"""A wait below this part of the task's own service is none: what preparing takes is no queue."""
BUSIEST = 0.9
"""The most of an executor's capacity that is taken to be needed for tasks that come while a line drains."""
SECANTS = 2
"""Steps in which the number of tasks is sought that would not be too many: the time is nearly a line in it."""
MOMENT = 1e-6
"""Seconds by which what begins because something ended may seem to have begun before it."""
ENDED = frozenset(("task.done", "task.failed", "task.cancelled"))
"""Names of the events that end a task."""
_WHO = frozenset(("task", "model", "kind", "tenant"))
_TELLING = {"task.accepted": _WHO, "model.failed": frozenset(("model",))} | dict.fromkeys(
    ENDED, _WHO | {"prompt", "cached", "generated", "queued", "prefill", "decode", "error"}
)
"""Events that say something about queues, and the fields that they need for that."""


def tells(event: Event) -> bool:
    """Whether an event says something about queues, and all of it: kernels of other versions may say less."""
    needed = _TELLING.get(event.name)
    return needed is not None and event.fields.keys() >= needed


@attrs.define
class Fading:
    """Mean and deviation of samples whose weight halves with every half-life (West, CACM 22, 1979, with weights)."""

    half_life: float = attrs.field(default=HALF_LIFE, validator=number(1e-3, MAX_SECONDS, whole=False))
    mean: float = attrs.field(default=0.0, init=False)
    at: float = attrs.field(default=0.0, init=False)
    """When the last sample came."""
    _weight: float = attrs.field(default=0.0, init=False)
    _weights: float = attrs.field(default=0.0, init=False)
    """The sum of squared weights."""
    _squares: float = attrs.field(default=0.0, init=False)

    def _faded(self, now: float) -> float:
        return exp2(-max(now - self.at, 0.0) / self.half_life) if self._weight else 0.0

    def add(self, now: float, value: float, weight: float = 1.0) -> None:
        """Take in a sample."""
        fade = self._faded(now)
        self._weight = self._weight * fade + weight
        self._weights = self._weights * fade * fade + weight * weight
        apart = value - self.mean
        self.mean += apart * weight / self._weight
        self._squares = self._squares * fade + weight * apart * (value - self.mean)
        self.at = max(now, self.at)

    def weight(self, now: float) -> float:
        """Return what the samples weigh at *now*."""
        return self._weight * self._faded(now)

    @property
    def deviation(self) -> float:
        """The standard deviation of the samples; 0 while there is one only."""
        free = self._weight - self._weights / self._weight if self._weight else 0.0
        return sqrt(max(self._squares, 0.0) / free) if free > 1e-9 * self._weight else 0.0

    @property
    def error(self) -> float:
        """The standard error of the mean, for independent samples."""
        return self.deviation * sqrt(self._weights) / self._weight if self._weight else 0.0


@attrs.define
class Arrivals:
    """How often something comes, and how unevenly."""

    half_life: float = HALF_LIFE
    intervals: Fading = attrs.field(init=False)
    """Seconds from one to the next."""
    _first: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.intervals = Fading(self.half_life)

    def add(self, now: float) -> None:
        """Take in an arrival; the first one begins the count."""
        if self._first is None:
            self._first = self.intervals.at = now
        else:
            self.intervals.add(now, now - self.intervals.at)

    def rate(self, now: float) -> float:
        """Return how many come per second: their weight by what it would be at one per second."""
        if self._first is None or now <= self._first:
            return 0.0
        weighed = 1 - exp2((self._first - now) / self.half_life)
        return self.intervals.weight(now) * log(2) / (self.half_life * weighed)

    @property
    def variability(self) -> float:
        """The squared coefficient of variation of the intervals: 0 for a clock, 1 for chance, more for bursts."""
        varies = self.intervals.deviation / self.intervals.mean if self.intervals.mean else 0.0
        return varies * varies


@attrs.define
class Service:
    """What tasks of one kind take."""

    half_life: float = HALF_LIFE
    seconds: Fading = attrs.field(init=False)
    """From the first step to the end."""
    prefill: Fading = attrs.field(init=False)
    """Seconds of that until the first token."""
    tokens: Fading = attrs.field(init=False)
    """Tokens that were generated."""

    def __attrs_post_init__(self) -> None:
        self.seconds, self.prefill, self.tokens = (Fading(self.half_life) for _ in range(3))

    def add(self, now: float, prefill: float, decode: float, tokens: int) -> None:
        """Take in a task that ended well."""
        self.seconds.add(now, prefill + decode)
        self.prefill.add(now, prefill)
        self.tokens.add(now, tokens)

    def cut(self, now: float, seconds: float) -> None:
        """Take in a task that was cut off by its deadline: it would have taken longer.

        Without these, long tasks would never be seen.  What they would have taken is imputed, as in the E-step of
        Dempster, Laird and Rubin (JRSS B 39, 1977): a deviation more, which for exponential times is exact.  One that
        was cut before the mean says nothing, because it may have begun late.
        """
        if seconds > self.seconds.mean > 0:
            self.seconds.add(now, seconds + self.seconds.deviation)

    def expected(self, max_tokens: int | None) -> tuple[float, float]:
        """Return mean and deviation of the seconds of a task that may generate so many tokens."""
        mean, tokens = self.seconds.mean, self.tokens.mean
        part = 1.0 if max_tokens is None or max_tokens >= tokens else max_tokens / tokens
        return self.prefill.mean + (mean - self.prefill.mean) * part, self.seconds.deviation * part


@attrs.frozen
class Prediction:
    """What a task that comes now has to expect.  Seconds."""

    wait: float
    """Mean time until it is begun."""
    wait_deviation: float
    service: float
    """Mean time from then to its end."""
    service_deviation: float
    trusted: bool
    """Whether enough is known to act by this."""

    @property
    def time(self) -> float:
        """Mean time until it ends."""
        return self.wait + self.service

    def within(self, share: float) -> float:
        """Return the time within which it ends with probability *share*.

        The time is taken as gamma-distributed with its mean and deviation, exact for sums of exponential times; its
        percentile is that of Wilson and Hilferty (PNAS 17, 1931).
        """
        variance = self.wait_deviation**2 + self.service_deviation**2
        if not variance or not self.time:
            return self.time
        ninth = variance / (9 * self.time**2)
        return self.time * max(1 - ninth + _normal(share) * sqrt(ninth), 0.0) ** 3


@lru_cache(maxsize=64)
def _normal(share: float) -> float:
    check_number("share", share, 0.001, 0.999, whole=False)
    return NormalDist().inv_cdf(share)


@attrs.frozen
class _Open:
    """A task that has not ended."""

    at: float
    ahead: int
    """Tasks that were unfinished when it came."""


@attrs.define
class Flow:
    """The tasks of one model."""

    half_life: float = HALF_LIFE
    arrivals: Arrivals = attrs.field(init=False)
    services: dict[str, Service] = attrs.field(factory=dict, init=False)
    """By kind of task."""
    servers: Fading = attrs.field(init=False)
    """How many tasks are served at once when some wait."""
    first: Fading = attrs.field(init=False)
    """Seconds that who waited waited for the first end."""
    interval: Fading = attrs.field(init=False)
    """Seconds from one end to the next while tasks wait."""
    unserved: int = attrs.field(default=0, init=False)
    """The most tasks, the new one counted, of which none waited."""
    _misses: Fading = attrs.field(init=False)
    """Squared errors of predictions, per end that was waited for."""
    _open: OrderedDict[int, _Open] = attrs.field(factory=OrderedDict, init=False)
    _ends: list[float] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.arrivals = Arrivals(self.half_life)
        self.servers, self.first, self.interval, self._misses = (Fading(self.half_life) for _ in range(4))

    def accepted(self, now: float, task: int) -> None:
        """Take in that a task came."""
        self.arrivals.add(now)
        while self._open and next(iter(self._open.values())).at < now - LOST:
            self._open.popitem(last=False)
        self._open[task] = _Open(now, len(self._open))
        if len(self._open) > OPEN:
            self._open.popitem(last=False)

    def ended(self, now: float, fields: Mapping[str, Any], *, well: bool) -> None:
        """Take in that a task ended; *fields* are those of the event."""
        known = self._open.pop(fields["task"], None)
        prefill, decode = fields["prefill"], fields["decode"]
        if well:
            kind = self.services.setdefault(fields["kind"], Service(self.half_life))
            kind.add(now, prefill, decode, fields["generated"])
        elif fields["error"] == "DeadlineExceeded" and fields["kind"] in self.services:
            self.services[fields["kind"]].cut(now, prefill + decode)
        if known is not None and prefill + decode > 0:
            self._began(now, now - prefill - decode, known, fields["queued"] < NO_WAIT * (prefill + decode))
        self._ends.append(now)
        if len(self._ends) > 2 * ENDS:
            del self._ends[:ENDS]

    def _began(self, now: float, begun: float, task: _Open, at_once: bool) -> None:
        """Learn from how long a task waited, and from how many ends there were meanwhile."""
        since, until = bisect_right(self._ends, task.at), bisect_right(self._ends, begun + MOMENT)
        ends, wait = until - since, begun - task.at
        if ends == 0 or at_once:
            self.unserved = max(self.unserved, task.ahead + 1)
            return
        if since == 0 and len(self._ends) >= ENDS:
            return  # it waited for more ends than are remembered
        if self.first.weight(now) >= ENOUGH:
            miss = wait - self._wait(task.ahead)
            self._misses.add(now, miss * miss / ends)
        self.servers.add(now, task.ahead + 1 - ends, wait)
        self.first.add(now, self._ends[since] - task.at)
        if ends > 1:
            self.interval.add(now, (begun - self._ends[since]) / (ends - 1), ends - 1)

    def _wait(self, unfinished: float) -> float:
        """Return the mean wait of a task that finds so many *unfinished* ones."""
        ends = unfinished - self.servers.mean + 1
        interval = self.interval.mean or self.first.mean
        return self.first.mean * min(max(ends, 0.0), 1.0) + interval * max(ends - 1, 0.0)

    def predict(self, now: float, unfinished: float, kind: str, max_tokens: int | None = None) -> Prediction:
        """Return what a task of this *kind* has to expect at *now*, with so many *unfinished* ones before it."""
        service = self.services.get(kind)
        if service is None:
            return Prediction(0.0, 0.0, 0.0, 0.0, trusted=False)
        mean, deviation = service.expected(max_tokens)
        trusted = service.seconds.weight(now) >= ENOUGH
        if not service.seconds.mean:
            return Prediction(0.0, 0.0, 0.0, 0.0, trusted)  # answered without a step: it waits for nobody
        if unfinished < self.unserved and self.first.weight(now) < ENOUGH:
            return Prediction(0.0, 0.0, mean, deviation, trusted)
        ends = max(unfinished - self.servers.mean + 1, 0.0)
        # Each end that is waited for adds its own chance, and all together that of the few that the fit was made from.
        spread = ends * (1 + ends / max(self.arrivals.intervals.weight(now), 1.0))
        waits = sqrt((self._misses.mean or self.first.mean**2) * spread)
        trusted = trusted and self.first.weight(now) >= ENOUGH
        return Prediction(self._wait(unfinished), waits, mean, deviation, trusted)

    def drained(self, now: float, unfinished: int, over: Callable[[float], float]) -> float | None:
        """Return in how many seconds so few tasks will be unfinished that *over*, of their number, is 0.

        *over* says by how many seconds a task would be too late, and is positive for *unfinished*.  None: it is too
        late in any case.

        The fluid limit of a queue (Kleinrock, "Queueing Systems", volume II, 1976, section 2.7): while tasks wait their
        number falls by one per `interval`, less those that come meanwhile, and so `n` too many are gone after
        `n * interval / (1 - rate * interval)`.  The rate is that of accepted tasks, and is reckoned with up to
        `BUSIEST`: beyond that, those that come do not leave the line to shrink, and the answer is the least possible.
        """
        if over(0.0) > 0:
            return None
        interval = self.interval.mean or self.first.mean
        before, after = float(unfinished), over(unfinished)
        count = max(before - after / interval, 0.0)
        for _ in range(SECANTS):
            found = over(count)
            if found == after:
                break
            step = found * (count - before) / (found - after)
            before, after, count = count, found, min(max(count - step, 0.0), float(unfinished))
        most = min(floor(count), unfinished - 1)
        return (unfinished - most) * interval / (1 - min(self.arrivals.rate(now) * interval, BUSIEST))


@attrs.define
class Fits:
    """A fit per model, kept up by `heard`.  Not thread-safe: whoever shares it brings the lock."""

    half_life: float = HALF_LIFE
    flows: dict[str, Flow] = attrs.field(factory=dict, init=False)
    """By the name of the model."""

    def of(self, model: str) -> Flow:
        """Return the fit of *model*; a new one if nothing was heard of it."""
        if model not in self.flows:
            self.flows[model] = Flow(self.half_life)
        return self.flows[model]

    def heard(self, event: Event) -> None:
        """Learn from an event of the kernel; those that say nothing about queues are passed over."""
        if not tells(event):
            return
        if event.name == "task.accepted":
            self.of(event.fields["model"]).accepted(event.at, event.fields["task"])
        elif event.name in ENDED:
            self.of(event.fields["model"]).ended(event.at, event.fields, well=event.name == "task.done")
