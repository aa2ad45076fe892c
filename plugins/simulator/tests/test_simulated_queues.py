"""Run-to-completion simulations against recursions that know nothing of the kernel."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_simulator import Arrival, simulate


def lindley(times: list[float], services: list[float]) -> list[float]:
    """Waits of a single server: Lindley, "The theory of queues with a single server" (1952)."""
    waits = [0.0]
    for before, now, service in zip(times, times[1:], services, strict=False):
        waits.append(max(0.0, waits[-1] + service - (now - before)))
    return waits


def kiefer_wolfowitz(times: list[float], services: list[float], servers: int) -> list[float]:
    """Waits of several servers: Kiefer and Wolfowitz, "On the theory of queues with many servers" (1955)."""
    work = [0.0] * servers
    waits, last = [], times[0]
    for now, service in zip(times, services, strict=True):
        work = sorted(max(0.0, left - (now - last)) for left in work)
        waits.append(work[0])
        work[0] += service
        last = now
    return waits


def simulated(times: list[float], services: list[float], servers: int) -> list[float]:
    """Waits of the kernel under ``fifo``."""
    arrivals = (Arrival(at, service=service) for at, service in zip(times, services, strict=True))
    outcomes = sorted(simulate(arrivals, scheduler="fifo", rows=servers), key=lambda outcome: outcome.id or 0)

    assert [""] * len(times) == [outcome.error for outcome in outcomes]
    return [(outcome.admitted or 0.0) - outcome.arrival.at for outcome in outcomes]


def drawn(seed: int, count: int, load: float, servers: int) -> tuple[list[float], list[float]]:
    """Return times of arrival and durations of a random queue."""
    rng, now = random.Random(seed), 0.0
    times, services = [], []
    for _ in range(count):
        now += rng.expovariate(load * servers)
        times.append(now)
        services.append(rng.choice((rng.expovariate(1.0), rng.lognormvariate(-0.5, 1.0), 1.0)))
    return times, services


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), load=st.floats(0.3, 1.2))
def test_one_server_is_lindleys(seed: int, load: float) -> None:
    """With one row, each task waits as long as Lindley's recursion says, to rounding."""
    times, services = drawn(seed, 200, load, 1)

    assert pytest.approx(lindley(times, services), abs=1e-9) == simulated(times, services, 1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), load=st.floats(0.3, 1.2), servers=st.integers(2, 12))
def test_several_servers_are_kiefers_and_wolfowitzs(seed: int, load: float, servers: int) -> None:
    """With several rows, each task waits as long as the recursion of Kiefer and Wolfowitz says, to rounding."""
    times, services = drawn(seed, 200, load, servers)

    assert pytest.approx(kiefer_wolfowitz(times, services, servers), abs=1e-9) == simulated(times, services, servers)


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    services=st.lists(st.integers(1, 6), min_size=40, max_size=40),
    servers=st.integers(1, 4),
)
def test_ties(gaps: list[int], services: list[int], servers: int) -> None:
    """Tasks that come at the same instant, or when another ends, are served in the order in which they came."""
    times = [float(sum(gaps[: index + 1])) for index in range(len(gaps))]
    durations = [float(service) for service in services[: len(times)]]

    assert kiefer_wolfowitz(times, durations, servers) == simulated(times, durations, servers)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_long_queues(seed: int) -> None:
    """The same over 20,000 tasks, at every load."""
    servers = 1 + seed % 7
    times, services = drawn(seed, 20_000, 0.3 + 0.04 * seed, servers)

    assert pytest.approx(kiefer_wolfowitz(times, services, servers), abs=1e-7) == simulated(times, services, servers)


def test_the_recursions_agree() -> None:
    """Kiefer and Wolfowitz with one server are Lindley; with many, nobody waits."""
    times, services = drawn(7, 500, 0.9, 1)

    assert pytest.approx(lindley(times, services)) == kiefer_wolfowitz(times, services, 1)
    assert [0.0] * 500 == kiefer_wolfowitz(times, services, 500)
    heap: list[float] = []
    for at, service, wait in zip(times, services, kiefer_wolfowitz(times, services, 3), strict=True):
        free = 0.0 if len(heap) < 3 else heapq.heappop(heap)
        begin = max(at, free)
        heapq.heappush(heap, begin + service)

        assert pytest.approx(begin - at, abs=1e-9) == wait
