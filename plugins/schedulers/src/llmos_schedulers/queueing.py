"""Queueing theory: how long tasks will wait, from how often they come and how long they take.

    MMc                c servers, exponential service: Erlang's C formula; with one server it is M/M/1
    MG1                one server, any service: Pollaczek and Khinchine's formula
    PriorityMG1        the same with classes of priority: Cobham's formula
    ProcessorSharing   one server that all share at once: Kleinrock's formula

Tasks come at random and independently (Poisson).  Kleinrock, "Queueing Systems", volumes I (1975) and II (1976), has
the formulas.  Times are in any one unit, rates in its inverse.  A station that gets more than it can serve has no mean
wait: it is refused with `InvalidArgument`.
"""

from __future__ import annotations

from itertools import accumulate
from math import log

import attrs

from llmos_kernel.api import check_number, listed, number
from llmos_kernel.errors import InvalidArgument

LEAST, MOST = 1e-12, 1e12
_positive = number(LEAST, MOST, whole=False)


def _stable(utilisation: float, rate: object) -> None:
    if not utilisation < 1:
        raise InvalidArgument.of(
            "arrivals", rate, f"less than can be served (utilisation is {utilisation:.3g}, not < 1)"
        )


def _share(share: float) -> None:
    check_number("share", share, 0, 1, whole=False)
    if share == 1:
        raise InvalidArgument.of("share", share, "less than 1: the longest of all waits has no bound")


def _exponential(delayed: float, mean: float, share: float) -> float:
    """Return what *share* of waits do not exceed, if a part *delayed* waits, exponentially, and the mean is *mean*."""
    _share(share)
    return max(mean / delayed * log(delayed / (1 - share)), 0.0) if delayed else 0.0


@attrs.frozen(kw_only=True)
class MMc:
    """Several servers, exponential service, one line."""

    arrivals: float = attrs.field(validator=_positive)
    """Tasks that come per unit of time."""
    service: float = attrs.field(validator=_positive)
    """Mean time that one task takes one server."""
    servers: int = attrs.field(default=1, validator=number(1, 100_000))

    def __attrs_post_init__(self) -> None:
        _stable(self.utilisation, self.arrivals)

    @property
    def utilisation(self) -> float:
        """The share of the time that a server is busy."""
        return self.arrivals * self.service / self.servers

    @property
    def delayed(self) -> float:
        """The probability that a task waits (Erlang C, by the recursion of Erlang B, which cannot overflow)."""
        blocked = 1.0
        for count in range(1, self.servers + 1):
            blocked = self.arrivals * self.service * blocked / (count + self.arrivals * self.service * blocked)
        return blocked / (1 - self.utilisation * (1 - blocked))

    @property
    def mean_wait(self) -> float:
        """Mean time before service begins."""
        return self.delayed * self.service / (self.servers * (1 - self.utilisation))

    def wait(self, share: float) -> float:
        """Return the time that *share* of the tasks wait at most: 0.95 is the 95th percentile.  Exact."""
        return _exponential(self.delayed, self.mean_wait, share)


@attrs.frozen(kw_only=True)
class MG1:
    """One server, any service times, one line."""

    arrivals: float = attrs.field(validator=_positive)
    service: float = attrs.field(validator=_positive)
    """Mean time that one task takes."""
    deviation: float = attrs.field(validator=number(0, MOST, whole=False))
    """Standard deviation of that time."""

    def __attrs_post_init__(self) -> None:
        _stable(self.utilisation, self.arrivals)

    @property
    def utilisation(self) -> float:
        """The share of the time that the server is busy, and the probability that a task waits."""
        return self.arrivals * self.service

    @property
    def mean_wait(self) -> float:
        """Mean time before service begins."""
        return self.arrivals * (self.service**2 + self.deviation**2) / (2 * (1 - self.utilisation))

    def wait(self, share: float) -> float:
        """Return the time that *share* of the tasks wait at most.

        The wait of those who wait is taken as exponential, which is exact for exponential service and, by Kingman's
        theorem, in the limit of high utilisation.
        """
        return _exponential(self.utilisation, self.mean_wait, share)


@attrs.frozen(kw_only=True)
class PriorityMG1:
    """One server, classes of priority, the most urgent first; within a class by arrival."""

    classes: tuple[MG1, ...] = attrs.field(converter=listed)
    """What comes in each class, the most urgent first; each by itself must be served, and all together."""
    preemptive: bool = False
    """Whether a more urgent task interrupts one in service, which later goes on where it stopped."""

    @classes.validator
    def _check(self, attribute: attrs.Attribute[tuple[MG1, ...]], value: object) -> None:
        if not isinstance(value, tuple) or not value or not all(isinstance(one, MG1) for one in value):
            raise InvalidArgument.of("classes", value, "at least one MG1")
        _stable(self.utilisation, [one.arrivals for one in value])

    @property
    def utilisation(self) -> float:
        """The share of the time that the server is busy."""
        return sum(one.utilisation for one in self.classes)

    @property
    def mean_waits(self) -> tuple[float, ...]:
        """Mean time in the system less the task's own service, per class."""
        loads = list(accumulate((one.utilisation for one in self.classes), initial=0.0))
        residues = list(accumulate(one.arrivals * (one.service**2 + one.deviation**2) / 2 for one in self.classes))
        waits = []
        for at, one in enumerate(self.classes):
            residue = residues[at] if self.preemptive else residues[-1]
            interrupted = one.service * loads[at] / (1 - loads[at]) if self.preemptive else 0.0
            waits.append(residue / ((1 - loads[at]) * (1 - loads[at + 1])) + interrupted)
        return tuple(waits)


@attrs.frozen(kw_only=True)
class ProcessorSharing:
    """One server that works on all tasks at once, each at an equal share of its speed.

    Only the mean of the service counts: how service times vary changes nothing.
    """

    arrivals: float = attrs.field(validator=_positive)
    service: float = attrs.field(validator=_positive)
    """Mean time that one task takes when it is alone."""

    def __attrs_post_init__(self) -> None:
        _stable(self.utilisation, self.arrivals)

    @property
    def utilisation(self) -> float:
        """The share of the time that the server is busy."""
        return self.arrivals * self.service

    def mean_time(self, service: float) -> float:
        """Return the mean time in the system of a task that alone would take *service*."""
        check_number("service", service, 0, MOST, whole=False)
        return service / (1 - self.utilisation)

    @property
    def mean_wait(self) -> float:
        """Mean time in the system beyond what the task would take alone."""
        return self.mean_time(self.service) - self.service
