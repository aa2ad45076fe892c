"""Who waits how long under each policy, and what that costs in throughput.

Saturated: the batch tenant always has twice as many requests unfinished as there are places, long ones; the interactive
tenant sends short ones at random times.  Each policy has the same requests, and the policies take turns, there and
back.  What counts of the interactive ones is the time to their first token, after a time in which the queue fills.

Below saturation: both tenants send at random times, at a share of the rates at which their requests ended before; the
interactive ones have a deadline.  What counts is how many miss it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.benchmarks.figures import quantile
from tests.benchmarks.policies.serving import (
    BATCH,
    INTERACTIVE,
    SLOTS,
    Backlog,
    Request,
    poisson,
    send,
    serving,
)

FILLING, LASTING = 12.0, 26.0
"""Seconds in which the queue fills, and that are looked at after them."""
RATE, LOAD, DEADLINE = 1.5, 0.8, 3.0
"""Interactive requests a second; the share of the rates below saturation; the deadline in seconds."""
SHORT, LONG = ((16, 64), (8, 24)), ((128, 400), (64, 128))
"""Ranges of prompts and outputs of the two tenants, in tokens."""
POLICIES = ("fifo", "priority", "fair")
URGENT = 10
"""The interactive tenant's priority."""


@attrs.frozen(kw_only=True)
class Saturated:
    """One run with a tenant that always wants more."""

    policy: str
    firsts: list[float]
    """Times to the first token of interactive requests that came after the queue had filled."""
    throughput: float
    """Tokens of prompt and output a second."""
    batch_rate: float
    """Requests of the batch tenant that ended a second."""
    swapped: int
    """Caches that were copied to host memory."""


@attrs.frozen(kw_only=True)
class Loaded:
    """One run below saturation."""

    policy: str
    load: float
    interactive: int
    missed: int
    """Interactive requests that did not end in time, or were refused."""
    slowest: float
    """The longest time that an interactive request took, in seconds."""
    batch_p95: float
    """95th percentile of the times that requests of the batch tenant took, in seconds."""


def interactive(rate: float, seconds: float, seed: int, deadline: float | None = None) -> list[Request]:
    """Return the requests of the interactive tenant."""
    return poisson(rate, seconds, seed, *SHORT, tenant=INTERACTIVE, priority=URGENT, deadline=deadline)


def batch(rate: float, seconds: float, seed: int) -> list[Request]:
    """Return the requests of the batch tenant."""
    return poisson(rate, seconds, seed, *LONG, tenant=BATCH)


def saturated(folder: Path, policy: str, seed: int = 1) -> Saturated:
    """Serve a backlog and interactive requests by *policy*."""
    with serving(folder, policy, {}, seed) as server:
        backlog = Backlog(server, batch(2.0, 100.0, seed), 2 * SLOTS)
        requests = interactive(RATE, FILLING + LASTING, seed + 1)
        served = send(server, [one for one in requests if one.at < FILLING])
        server.until(FILLING)
        before, begun = server.counted(), server.now()
        late = send(server, [one for one in requests if one.at >= FILLING])
        server.until(FILLING + LASTING)
        after, ended = server.counted(), server.now()
        firsts = [server.end(*one).first for one in late]
        for one in served:
            server.end(*one)
        done = [one for one in backlog.served if begun <= one.ended < ended]
        backlog.stop()
    tokens = sum(after[name] - before[name] for name in ("prefilled", "decoded"))
    return Saturated(
        policy=policy, firsts=firsts, throughput=tokens / (ended - begun), batch_rate=len(done) / (ended - begun),
        swapped=after["swapped"] - before["swapped"],
    )  # fmt: skip


def loaded(folder: Path, policy: str, batch_rate: float, seconds: float = 60.0, seed: int = 5) -> Loaded:
    """Serve both tenants below saturation by *policy*."""
    urgent = interactive(LOAD * RATE, seconds, seed, DEADLINE)
    requests = sorted([*urgent, *batch(LOAD * batch_rate, seconds, seed + 1)], key=lambda one: one.at)
    with serving(folder, policy, {}, seed) as server:
        served = [server.end(*one) for one in send(server, requests)]
    mine = [one for one in served if one.request.tenant == INTERACTIVE]
    others = [one.total for one in served if one.request.tenant == BATCH]
    return Loaded(
        policy=policy, load=LOAD, interactive=len(mine), missed=sum(bool(one.error) for one in mine),
        slowest=max(one.total for one in mine), batch_p95=quantile(others, 0.95),
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Judgement:
    """What several runs of a policy say, beside those of ``fifo``."""

    policy: str
    n: int
    p50: float
    p95: float
    """Time to first token, in seconds."""
    ratio: float
    """The 95th percentile over that under ``fifo``."""
    throughput: float
    cost: float
    """The share of the throughput under ``fifo`` that is lost; negative for one that is won."""
    swapped: int


def judge(runs: Sequence[Saturated]) -> list[Judgement]:
    """Return one judgement per policy, ``fifo`` first."""
    found: list[Judgement] = []
    for policy in POLICIES:
        mine = [run for run in runs if run.policy == policy]
        firsts = [first for run in mine for first in run.firsts]
        p95, throughput = quantile(firsts, 0.95), statistics.fmean(run.throughput for run in mine)
        base = found[0] if found else None
        found.append(
            Judgement(
                policy=policy, n=len(firsts), p50=statistics.median(firsts), p95=p95, throughput=throughput,
                ratio=p95 / base.p95 if base else 1.0, cost=1 - throughput / base.throughput if base else 0.0,
                swapped=sum(run.swapped for run in mine),
            )
        )  # fmt: skip
    return found
