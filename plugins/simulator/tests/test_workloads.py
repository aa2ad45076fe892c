"""Workloads are drawn lazily, in order, by seed; users wait for their answers."""

from __future__ import annotations

import heapq
import tracemalloc
from collections import Counter, deque
from itertools import count, islice
from pathlib import Path
from statistics import mean
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from llmos_kernel.errors import InvalidArgument
from llmos_simulator.lengths import Exponential, Fixed, Uniform
from llmos_simulator.processes import Bursty, Closed, Constant, Diurnal, Poisson, Process
from llmos_simulator.records import Arrival, Outcome
from llmos_simulator.workloads import REQUESTS, Requests, Tenant, Workload

NAN = float("nan")
ONE = Fixed(value=1)
ORDER = count()
Busy = list[tuple[float, int, Outcome]]
"""Requests that are served, by the time of their end."""


def tenant(name: str = "me", arrivals: Process | Closed | None = None, **fields: Any) -> Tenant:
    """A tenant with short requests."""
    return Tenant(name=name, arrivals=arrivals or Poisson(rate=2.0), **{"prompt": ONE, "output": ONE, **fields})


def serve(requests: Requests, seconds: float) -> list[Outcome]:
    """Serve each request in *seconds*, all at once, and tell of every end; in order of the ends."""
    busy: Busy = []
    done: list[Outcome] = []
    for arrival in requests:
        _serve_until(arrival.at, busy, done, requests, seconds)
        _begin(arrival, busy, seconds)
    _serve_until(float("inf"), busy, done, requests, seconds)
    return done


def _begin(arrival: Arrival, busy: Busy, seconds: float) -> None:
    end = arrival.at + seconds
    heapq.heappush(busy, (end, next(ORDER), Outcome(arrival, admitted=arrival.at, first=end, ended=end)))


def _serve_until(now: float, busy: Busy, done: list[Outcome], requests: Requests, seconds: float) -> None:
    while busy and busy[0][0] <= now:
        *_, outcome = heapq.heappop(busy)
        done.append(outcome)
        again = requests.ended(outcome)
        if again is not None:
            _begin(again, busy, seconds)


def test_the_same_seed_draws_the_same_requests() -> None:
    """And another seed others."""
    workload = Workload(tenants=[tenant(prompt=Exponential(mean=50.0)), tenant("you", Bursty(rate=1.0))], requests=500)

    assert list(workload.draw(7)) == list(workload.draw(7))
    assert list(workload.draw(7)) != list(workload.draw(8))


def test_a_tenant_asks_the_same_whatever_others_do() -> None:
    """Its random numbers are its own."""
    mine, yours = tenant(prompt=Exponential(mean=50.0)), tenant("you", Bursty(rate=3.0), output=Exponential(mean=9.0))
    alone = list(islice(Workload(tenants=[mine]).draw(1), 100))
    among = [arrival for arrival in islice(Workload(tenants=[yours, mine]).draw(1), 1000) if arrival.tenant == "me"]

    assert alone == among[:100]


def test_lengths_do_not_depend_on_the_rate() -> None:
    """Twice the rate is the same requests in half the time."""
    workload = Workload(tenants=[tenant(prompt=Exponential(mean=50.0))])
    slow, fast = list(islice(workload.draw(), 100)), list(islice(workload.scaled(4.0).draw(), 100))

    assert [arrival.prompt for arrival in slow] == [arrival.prompt for arrival in fast]
    assert [arrival.at / 2 for arrival in slow] == pytest.approx([arrival.at for arrival in fast])


processes = st.sampled_from([Poisson(rate=5.0), Bursty(rate=2.0), Diurnal(rate=9.0, period=10.0), Constant(rate=1.0)])
closed = st.builds(Closed, users=st.integers(1, 5), think=st.floats(0, 5))


@given(
    kinds=st.lists(processes | closed, min_size=1, max_size=4),
    requests=st.integers(1, 60),
    seconds=st.none() | st.floats(0.1, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_any_mix_comes_in_order_and_ends(
    kinds: list[Process | Closed], requests: int, seconds: float | None, seed: int
) -> None:
    """No more requests than were asked for, none from the end on, each by a tenant of the mix."""
    tenants = [tenant(f"tenant {at}", kind) for at, kind in enumerate(kinds)]
    done = serve(Workload(tenants=tenants, requests=requests, seconds=seconds).draw(seed), 0.5)

    assert len(done) <= requests
    assert seconds is not None or len(done) == requests
    assert all(outcome.arrival.at < (seconds or float("inf")) for outcome in done)
    assert {outcome.arrival.tenant for outcome in done} <= {one.name for one in tenants}
    alone = [arrival.at for arrival in Workload(tenants=tenants, requests=requests, seconds=seconds).draw(seed)]
    assert sorted(alone) == alone


def test_rates_add_up() -> None:
    """Each tenant gets its share of the requests, and `rate` is the sum; a diurnal one has its mean."""
    tenants = [tenant("a", Poisson(rate=3.0)), tenant("b", Bursty(rate=1.0, variation=2.0))]
    workload = Workload(tenants=tenants, requests=40_000)
    found = Counter(arrival.tenant for arrival in workload.draw())

    assert 4.0 == workload.rate
    assert 3.0 == pytest.approx(found["a"] / found["b"], rel=0.1)
    assert 10.0 == pytest.approx(workload.scaled(10.0).rate)
    assert (7.5, 2.5) == tuple(one.arrivals.rate for one in workload.scaled(10.0).tenants)  # type: ignore[union-attr]


def test_users_wait_for_their_answers() -> None:
    """The interactive law: throughput is users / (response + think), and there are never more requests than users."""
    workload = Workload(tenants=[tenant("users", Closed(users=20, think=4.0))], requests=20_000)
    done = serve(workload.draw(), 1.0)
    last = max(outcome.ended for outcome in done)

    assert 20_000 == len(done)
    assert 20 / (1.0 + 4.0) == pytest.approx(len(done) / last, rel=0.03)
    ends: deque[float] = deque()
    for outcome in sorted(done, key=lambda one: one.arrival.at):
        while ends and ends[0] <= outcome.arrival.at:
            ends.popleft()
        ends.append(outcome.ended)
        assert len(ends) <= 20


def test_users_who_do_not_think_ask_at_once() -> None:
    """Then each is busy all the time."""
    done = serve(Workload(tenants=[tenant("users", Closed(users=3, think=0.0))], seconds=10.0).draw(), 1.0)

    assert 30 == len(done)
    assert {float(at) for at in range(10)} == {outcome.arrival.at for outcome in done}


def test_who_is_no_user_does_not_ask_again() -> None:
    """The end of somebody else's request is no reason."""
    requests = Workload(tenants=[tenant(), tenant("users", Closed(users=1, think=1.0))]).draw()

    assert None is requests.ended(Outcome(Arrival(0.0, "me"), ended=1.0))
    assert None is requests.ended(Outcome(Arrival(0.0, "a stranger"), ended=1.0))
    assert "users" == requests.ended(Outcome(Arrival(0.0, "users"), ended=1.0)).tenant  # type: ignore[union-attr]


def test_what_a_tenant_says_is_in_each_request() -> None:
    """Kind, priority, deadline and the most tokens; outputs end there."""
    one = tenant(
        output=Uniform(low=1, high=100), kind="chat", priority=3, deadline=9.0, max_tokens=20
    )  # fmt: skip
    found = list(Workload(tenants=[one], requests=200).draw())

    assert {("chat", 3, 9.0, 20)} == {(each.kind, each.priority, each.deadline, each.max_tokens) for each in found}
    assert 20 == max(each.output for each in found)
    assert mean(each.output == 20 for each in found) > 0.5


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, REQUESTS),
        ({"requests": 7}, 7),
        ({"seconds": 50.0}, 100),
        ({"seconds": 50.0, "requests": 8}, 8),
        ({"seconds": 2.0, "requests": 80}, 4),
    ],
)
def test_ends(fields: dict[str, Any], expected: int) -> None:
    """Requests or time end a workload, whichever comes first; else it is so long that means say something."""
    one = tenant(arrivals=Constant(rate=2.0 + 1e-9))

    assert expected == sum(1 for _ in Workload(tenants=[one], **fields).draw())


def test_a_trace_beside_tenants(tmp_path: Path) -> None:
    """They come in order of time; a trace alone ends with its file."""
    path = tmp_path / "trace.csv"
    path.write_text("at,prompt,output,tenant\n0.25,5,5,traced\n0.75,5,5,traced\n")
    both = Workload(tenants=[tenant(arrivals=Constant(rate=2.0))], trace=path, requests=4)

    assert ["traced", "me", "traced", "me"] == [arrival.tenant for arrival in both.draw()]
    assert 2 == len(list(Workload(trace=path).draw()))
    assert None is Workload(trace=path).most


def test_a_million_requests_take_no_memory() -> None:
    """They are drawn as they are needed."""
    workload = Workload(tenants=[tenant(), tenant("you", Bursty(rate=1.0))], requests=10**6)
    requests = workload.draw()
    next(requests)
    tracemalloc.start()
    try:
        deque(islice(requests, 20_000), maxlen=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 100_000


@pytest.mark.parametrize(
    "workload",
    [Workload(tenants=[tenant(arrivals=Closed(users=1, think=1.0))]), Workload(trace=Path("trace.csv"))],
)
def test_users_and_traces_have_no_rate(workload: Workload) -> None:
    """Who waits for answers cannot be told how often to ask."""
    assert None is workload.rate
    with pytest.raises(InvalidArgument, match="rate cannot be set") as caught:
        workload.scaled(2.0)
    assert "rate" == caught.value.fields["field"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *[({"requests": value}, "requests") for value in (0, -1, 1.5, NAN, 10**15)],
        *[({"seconds": value}, "seconds") for value in (0, -1.0, NAN, float("inf"))],
        ({"tenants": []}, "tenants"),
        ({"tenants": "me"}, "tenants"),
        ({"tenants": [tenant(), tenant()]}, "tenants"),
        ({"trace": "trace.csv"}, "trace"),
        ({"name": ""}, "name"),
        ({"options": 3}, "options"),
    ],
)
def test_a_wrong_workload_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidArgument) as caught:
        Workload(**{"tenants": [tenant()], **fields})

    assert field == caught.value.fields["field"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("name", value) for value in ("", None)],
        *[("arrivals", value) for value in (2.0, None, "poisson")],
        *[("prompt", value) for value in (5, None)],
        *[("output", value) for value in (5, None)],
        *[("priority", value) for value in (1001, 0.5, NAN)],
        *[("max_tokens", value) for value in (0, -1, 1.5, NAN)],
        *[("deadline", value) for value in (0, -1.0, NAN)],
        *[("weight", value) for value in (0, -1.0, NAN, 1e9)],
        ("kind", ""),
    ],
)
def test_a_wrong_tenant_is_refused_by_name(field: str, value: Any) -> None:
    """The error names the field."""
    with pytest.raises(InvalidArgument) as caught:
        attrs.evolve(tenant(), **{field: value})

    assert field == caught.value.fields["field"]


@pytest.mark.parametrize("value", [NAN, -1, 1.5, "seed", None])
def test_a_seed_is_a_whole_number(value: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidArgument, match="seed"):
        Workload(tenants=[tenant()]).draw(value)


@pytest.mark.parametrize("value", [NAN, 0, -1.0, float("inf"), "fast"])
def test_a_rate_is_a_number_above_zero(value: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidArgument, match="rate"):
        Workload(tenants=[tenant()]).scaled(value)
