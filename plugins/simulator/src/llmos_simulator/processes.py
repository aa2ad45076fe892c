"""When requests come: processes of arrivals.

    Constant   one every 1/rate seconds
    Poisson    at random and independently: exponential pauses
    Bursty     Gamma pauses: `variation` 1 is Poisson, above it requests come in bursts, below it more evenly
    Diurnal    Poisson whose rate rises and falls with the time of day
    Closed     users who ask, read the answer, think, and ask again: nobody asks faster than answers come

Gamma pauses fit the arrivals of services with language models (Wang et al., "BurstGPT", arXiv 2401.17644).  A rate that
changes is drawn by thinning (Lewis and Shedler, "Simulation of Nonhomogeneous Poisson Processes by Thinning", Naval
Research Logistics Quarterly 1979): candidates come at the highest rate, and each stays with the probability that is
the rate at its time over the highest.  Times are in seconds, rates in requests per second.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from math import pi, sin
from random import Random

import attrs

from llmos_kernel.api import MAX_SECONDS, number

FASTEST = 1e9
"""The highest rate that is accepted, in requests per second."""
_seconds = number(1e-9, MAX_SECONDS, whole=False)


@attrs.frozen(kw_only=True)
class Process(abc.ABC):
    """Something that requests come from by themselves, whatever becomes of those before."""

    rate: float = attrs.field(validator=number(1e-9, FASTEST, whole=False))
    """Requests per second, on average."""

    @abc.abstractmethod
    def times(self, random: Random) -> Iterator[float]:
        """Yield the times of arrivals, in seconds, in order, without end."""


@attrs.frozen(kw_only=True)
class Constant(Process):
    """One request every 1/rate seconds."""

    def times(self, random: Random) -> Iterator[float]:
        """Yield the times."""
        count = 0
        while True:
            count += 1
            yield count / self.rate


@attrs.frozen(kw_only=True)
class Poisson(Process):
    """Requests at random, independent of each other."""

    def times(self, random: Random) -> Iterator[float]:
        """Yield the times."""
        now = 0.0
        while True:
            now += random.expovariate(self.rate)
            yield now


@attrs.frozen(kw_only=True)
class Bursty(Process):
    """Requests with Gamma pauses."""

    variation: float = attrs.field(default=3.0, validator=number(0.01, 100, whole=False))
    """Standard deviation of a pause over its mean."""

    def times(self, random: Random) -> Iterator[float]:
        """Yield the times."""
        shape = self.variation**-2
        now = 0.0
        while True:
            now += random.gammavariate(shape, 1 / (self.rate * shape))
            yield now


@attrs.frozen(kw_only=True)
class Diurnal(Process):
    """Requests at random, most of them a quarter of a `period` after its begin, fewest after three quarters."""

    swing: float = attrs.field(default=0.8, validator=number(0, 1, whole=False))
    """How far the rate leaves its mean, as a share of it."""
    period: float = attrs.field(default=86_400.0, validator=_seconds)

    def times(self, random: Random) -> Iterator[float]:
        """Yield the times."""
        highest = 1 + self.swing
        for at in Poisson(rate=self.rate * highest).times(random):
            if random.random() * highest < 1 + self.swing * sin(2 * pi * at / self.period):
                yield at


@attrs.frozen(kw_only=True)
class Closed:
    """Users of whom each asks, waits for the end of the answer, thinks, and asks again."""

    users: int = attrs.field(validator=number(1, 1_000_000))
    think: float = attrs.field(validator=number(0, MAX_SECONDS, whole=False))
    """Mean seconds between an answer and the next question, exponential; a user thinks before the first one too."""

    def pause(self, random: Random) -> float:
        """Return how long a user thinks."""
        return random.expovariate(1 / self.think) if self.think else 0.0


KINDS: dict[str, type[Constant | Poisson | Bursty | Diurnal | Closed]] = {
    "constant": Constant, "poisson": Poisson, "bursty": Bursty, "diurnal": Diurnal, "closed": Closed,
}  # fmt: skip
"""The processes, by the names that workload files use."""
