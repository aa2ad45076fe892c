"""Token buckets and reservations: what may be had in any time, and that nothing is lost or kept for ever."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos_schedulers.quotas import OVERDUE, TENANTS, UNKNOWN, Bucket, Quota, Quotas, Tenant
from plugins.schedulers.tests.stations import accepted, ended

Found = tuple[str, float, Any] | None
"""What `Quotas.exceeded` answers; `Any`, so that delays can be compared nearly."""
KEY = ("t", "m", "generate")


def tenant_of(quotas: Quotas, now: float = 0.0, name: str = "t") -> Tenant:
    """The tenant, who has a quota."""
    tenant = quotas.of(name, now)
    assert tenant is not None
    return tenant


def exceeded(quotas: Quotas, now: float, tasks: int, tokens: float) -> Found:
    """Which quota the tenant has exceeded."""
    return quotas.exceeded(now, tenant_of(quotas), tasks, tokens)


def come(quotas: Quotas, now: float, task: int, tokens: float = 30.0) -> Tenant:
    """Let a task be reserved and accepted."""
    tenant = tenant_of(quotas, now)
    quotas.reserve(now, tenant, KEY, tokens)
    quotas.accepted(now, accepted(now, task).fields)
    return tenant


@given(
    rate=st.floats(0.01, 100),
    depth=st.floats(1, 1000),
    asked=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_bucket_grants_no_more_than_its_rate(rate: float, depth: float, asked: list[tuple[float, float]]) -> None:
    """In every window of time t the grants are at most rate * t and the depth, whoever asks for what and when."""
    bucket, granted = Bucket(rate, depth), []
    for now, (_, part) in zip(accumulate(pause for pause, _ in asked), asked, strict=True):
        if not bucket.delay(now, part * depth):
            bucket.take(part * depth)
            granted.append((now, part * depth))

    for first in range(len(granted)):
        for last in range(first, len(granted)):
            window = granted[last][0] - granted[first][0]
            had = sum(amount for _, amount in granted[first : last + 1])
            assert had <= (rate * window + depth) * (1 + 1e-6)


@given(
    rate=st.floats(0.01, 100), depth=st.floats(1, 1000), parts=st.lists(st.floats(0.01, 1.5), min_size=1, max_size=20)
)
def test_bucket_says_when(rate: float, depth: float, parts: list[float]) -> None:
    """Who comes again after the delay that was named is served, and a little earlier is not."""
    bucket, now = Bucket(rate, depth), 0.0
    for part in parts:
        delay = bucket.delay(now, part * depth)
        if delay > 1e-6 * depth / rate:
            assert bucket.delay(now + 0.99 * delay, part * depth) > 0
            now += delay * (1 + 1e-9) + 1e-9
        assert 0 == bucket.delay(now, part * depth)
        bucket.take(part * depth)


def test_a_burst_is_reserved_before_anything_is_heard() -> None:
    """Tasks that come at once are charged what they are expected to cost, and no more come than the bucket holds."""
    quotas = Quotas(Quota(tokens_per_minute=600, burst=1000))
    tenant, came = tenant_of(quotas), 0
    while exceeded(quotas, 0.0, 0, tenant.estimate("generate", 44)) is None:
        quotas.reserve(0.0, tenant, KEY, tenant.estimate("generate", 44))
        came += 1

    assert 1000 // (UNKNOWN + 44) == came
    assert ("tokens_per_minute", 600, pytest.approx((300 - 100) / 10)) == exceeded(quotas, 0.0, 0, 300.0)


def test_is_corrected_at_the_end() -> None:
    """What a task really cost is charged: its prompt as far as it was not cached, and its output."""
    quotas = Quotas(Quota(tokens_per_minute=60, burst=100))
    tenant = come(quotas, 0.0, 1, tokens=80.0)
    quotas.ended(ended(5.0, 1, prompt=30, cached=10, generated=5, decode=1.0).fields)

    assert tenant.tokens is not None
    assert 100 - 25 == tenant.tokens.level
    assert 25.0 == tenant.estimate("generate", None)
    assert 21.0 == tenant.estimate("generate", 1)


def test_debts_are_paid_first() -> None:
    """Who took more than was reserved waits until the bucket has filled up again."""
    quotas = Quotas(Quota(tokens_per_minute=60, burst=100))
    come(quotas, 0.0, 1, tokens=80.0)
    quotas.ended(ended(0.0, 1, prompt=200, generated=100, decode=1.0).fields)

    assert ("tokens_per_minute", 60, pytest.approx(201.0)) == exceeded(quotas, 0.0, 0, 1.0)


@pytest.mark.parametrize(("how", "decode", "cost"), [("failed", 0.0, 0), ("cancelled", 0.5, 30), ("done", 0.0, 30)])
def test_what_was_never_begun_costs_nothing(how: str, decode: float, cost: int) -> None:
    """A task that ended in the line is given back; one that was cut short is charged, and so is what needs no step."""
    quotas = Quotas(Quota(tokens_per_minute=60, burst=100))
    tenant = come(quotas, 0.0, 1)
    quotas.ended(ended(0.0, 1, how=how, decode=decode).fields)

    assert tenant.tokens is not None
    assert 100 - cost == tenant.tokens.level


def test_requests() -> None:
    """So many may be scheduled in a minute, at once or one after the other."""
    quotas = Quotas(Quota(requests_per_minute=3))
    tenant = tenant_of(quotas)
    for task in range(3):
        assert exceeded(quotas, 0.0, task, 0.0) is None
        quotas.reserve(0.0, tenant, KEY, 0.0)

    assert ("requests_per_minute", 3, pytest.approx(20.0)) == exceeded(quotas, 0.0, 3, 0.0)
    assert exceeded(quotas, 20.1, 3, 0.0) is None


def test_the_longest_of_several_delays() -> None:
    """Who has exceeded two quotas is told the one that it has to wait for."""
    quotas = Quotas(Quota(requests_per_minute=60, tokens_per_minute=60, burst=10))
    tenant = come(quotas, 0.0, 1, tokens=10.0)
    for bucket in filter(None, (tenant.requests, tenant.tokens)):
        bucket.level = 0.0

    assert ("tokens_per_minute", 60, pytest.approx(5.0)) == exceeded(quotas, 0.0, 0, 5.0)


def test_reservations_of_tasks_that_never_come() -> None:
    """Calls that fail after the check are given back, after a while, or at once where their model cannot be had."""
    quotas = Quotas(Quota(tasks=2, tokens_per_minute=60, burst=100), patience=50.0)
    tenant = tenant_of(quotas)
    for _ in range(2):
        quotas.reserve(0.0, tenant, KEY, 30.0)

    assert ("tasks", 2, None) == exceeded(quotas, 10.0, 0, 0.0)
    assert exceeded(quotas, 50.1, 0, 0.0) is None
    quotas.reserve(60.0, tenant, KEY, 30.0)
    quotas.give_back("another")
    assert 1 == tenant.flying
    quotas.give_back("m")
    assert 0 == tenant.flying
    assert tenant.idle(60.0)
    assert {} == quotas._pending


def test_ends_that_are_never_heard_of() -> None:
    """Where events were dropped, the kernel's count wins in the end, and late news of what was forgotten is none."""
    quotas = Quotas(Quota(tasks=3, tokens_per_minute=6000))
    for task in range(3):
        come(quotas, 0.0, task)
    tenant = tenant_of(quotas)

    found = [exceeded(quotas, float(now), now % 2, 1.0) for now in range(int(2 * OVERDUE) + 2)]
    assert [("tasks", 3, None), None] == [found[0], found[-1]]
    assert 1 == len(tenant.open)
    quotas.ended(ended(99.0, 0).fields)
    assert 1 == tenant.flying


def test_ends_that_are_only_late_are_waited_for() -> None:
    """A task that is in flight for the kernel as well stays open, however long it takes."""
    quotas = Quotas(Quota(tasks=3))
    tenant = tenant_of(quotas)
    for task in range(3):
        come(quotas, 0.0, task)
    for now in range(0, 100, 5):
        assert ("tasks", 3, None) == exceeded(quotas, float(now), 3, 0.0)

    assert 3 == len(tenant.open)


def test_tasks_that_were_accepted_unheard() -> None:
    """An end whose beginning was dropped settles the oldest reservation of its kind."""
    quotas = Quotas(Quota(tokens_per_minute=60, burst=100))
    tenant = tenant_of(quotas)
    quotas.reserve(0.0, tenant, KEY, 90.0)
    quotas.ended(ended(1.0, 7, prompt=10, generated=20, decode=1.0).fields)

    assert 0 == tenant.flying
    assert tenant.tokens is not None
    assert 70 == tenant.tokens.level


def test_tenants_are_forgotten() -> None:
    """Those that have nothing in flight and a full bucket need not be remembered, and others are."""
    quotas = Quotas(Quota(tokens_per_minute=60, burst=100), {"free": Quota()})
    tenant = come(quotas, 0.0, 1, tokens=50.0)
    for at in range(3 * TENANTS):
        quotas.of(f"tenant-{at}", at / 1000)

    assert TENANTS + 8 >= len(quotas.tenants)
    assert tenant is tenant_of(quotas)
    assert quotas.of("free", 0.0) is None


@given(calls=st.lists(st.sampled_from(["check", "accept", "end", "drop", "wait"]), max_size=200))
def test_nothing_leaks(calls: list[str]) -> None:
    """Whatever comes, is dropped or stays away, no more tasks fly than may, and in the end nothing is left."""
    quotas, now, task = Quotas(Quota(tasks=4, tokens_per_minute=600), patience=30.0), 0.0, 0
    tenant, flying, passed = tenant_of(quotas), list[int](), 0
    for call in calls:
        if call == "check" and exceeded(quotas, now, len(flying), 1.0) is None:
            quotas.reserve(now, tenant, KEY, 1.0)
            passed += 1
        elif call == "accept" and passed:
            passed, task = passed - 1, task + 1
            flying.append(task)
            quotas.accepted(now, accepted(now, task).fields)
        elif call == "end" and flying:
            quotas.ended(ended(now, flying.pop(0)).fields)
        elif call == "drop" and flying:
            flying.pop()
        now += 1.0 if call == "wait" else 0.0
        passed = passed if now < 30 else 0
        assert len(flying) + passed <= 4 or now >= 30
    for later in range(1, 100, 5):
        exceeded(quotas, now + later, 0, 1.0)

    assert 0 == tenant.flying
    assert {} == quotas._pending
    assert not quotas._order


def test_waits_between_are_real() -> None:
    """Delays of a bucket that drains add up to its rate."""
    bucket, now, times = Bucket(2.0, 10.0), 0.0, []
    for _ in range(50):
        now += bucket.delay(now, 4.0)
        bucket.take(4.0)
        times.append(now)

    assert [pytest.approx(2.0)] * 40 == [after - before for before, after in pairwise(times)][9:]
