"""Figures from tasks: time lines, quantiles, history and rates, each against its plain definition."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos_kernel.services import Event
from llmos_server.console import KEPT, PHASES, SEEN, Console, Ended, timeline
from llmos_server.meter import WINDOW, Meter, history, latency, speed

seconds = st.floats(0, 100)
states = st.sampled_from(("waiting", "running", "preempted", "stalled"))


def task(id: int = 1, **facts: object) -> Ended:
    """Return a task that ended."""
    plain = {
        "kind": "chat", "model": "m", "tenant": "t", "state": "done", "error": "", "ended": 1000.0, "prompt": 8,
        "cached": 0, "generated": 5, "queued": 1.0, "prefill": 2.0, "decode": 4.0,
    }  # fmt: skip
    return Ended(id=id, **{**plain, **facts})  # type: ignore[arg-type]


@given(seconds, seconds, seconds, st.lists(st.tuples(st.floats(0, 300), states), max_size=8))
def test_time_lines_add_up(queued: float, prefill: float, decode: float, seen: list[tuple[float, str]]) -> None:
    """Whatever was seen: the parts are the age, no two neighbours are alike, and waiting is never preemption."""
    usage = {"queued": queued, "prefill": prefill, "decode": decode}
    parts = timeline(usage, sorted(seen))

    assert sum(part.seconds for part in parts) == pytest.approx(queued + prefill + decode, abs=1e-9)
    assert [] == [one for one, other in pairwise(parts) if one.phase == other.phase]
    held = sum(part.seconds for part in parts if part.phase not in PHASES)
    assert held <= prefill + decode + 1e-9


def test_preemption_is_cut_out_of_decoding() -> None:
    """From when it was seen until it was seen to run again."""
    parts = timeline(
        {"queued": 1.0, "prefill": 1.0, "decode": 4.0}, [(1.5, "running"), (3.0, "preempted"), (5.0, "running")]
    )

    assert [("queued", 1.0), ("prefill", 1.0), ("decode", 1.0), ("preempted", 2.0), ("decode", 1.0)] == [
        (part.phase, part.seconds) for part in parts
    ]


@given(st.lists(st.floats(0.001, 50), min_size=1, max_size=60))
def test_quantiles_are_of_the_nearest_rank(values: list[float]) -> None:
    """As numpy's inverted distribution function has them."""
    tasks = [task(index, queued=value, prefill=0.0) for index, value in enumerate(values)]
    found = latency(tasks, 1000.0)["first"]

    assert len(values) == found["count"]
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert float(np.quantile(values, share, method="inverted_cdf")) == found[name]


def test_latency_is_of_answers_of_late() -> None:
    """Not of tasks that failed, that generated nothing, or that ended before the window."""
    tasks = [task(state="failed"), task(generated=0), task(ended=1000.0 - WINDOW - 1), task(generated=1)]
    found = latency(tasks, 1000.0)

    assert [1, 0, 1] == [found[name]["count"] for name in ("first", "between", "whole")]
    assert (3.0, None, 7.0) == tuple(found[name]["p50"] for name in ("first", "between", "whole"))


def test_speed_is_per_answer() -> None:
    """Tokens after the first by the time that they took; of the prompt what was not kept already."""
    assert {"tasks": 1, "decode": 1.0, "prefill": 3.0} == speed([task(cached=2), task(model="other")], "m")
    assert {"tasks": 0, "decode": None, "prefill": None} == speed([], "m")


@given(st.lists(st.tuples(st.floats(702, 1000), seconds, seconds, st.floats(0, 40), st.integers(0, 50)), max_size=20))
def test_history_loses_no_token(rows: list[tuple[float, float, float, float, int]]) -> None:
    """All that was made within the window is in it, and nothing else: tokens and seconds of every state."""
    tasks = [
        task(number, ended=ended, queued=queued, prefill=prefill, decode=decode, generated=generated)
        for number, (ended, queued, prefill, decode, generated) in enumerate(rows)
    ]
    told = history(tasks, 1000.0)
    within = [one for one in tasks if one.accepted >= 701]

    assert all(row[name] >= 0 for row in told for name in ("prompt", "generated", "waiting", "running"))
    assert sum(row["generated"] for row in told) >= sum(one.generated for one in within) - 1e-6
    if len(within) == len(tasks):
        assert sum(row["generated"] for row in told) == pytest.approx(sum(one.generated for one in tasks))
        assert sum(row["waiting"] for row in told) == pytest.approx(sum(one.queued for one in tasks))


def test_history_begins_with_the_first_task() -> None:
    """What is not known is not shown as nothing."""
    told = history([task(ended=997.0)], 1000.0)

    assert list(range(990, 1001)) == [row["at"] for row in told]
    assert [] == history([], 1000.0)


def test_the_meter_counts_what_ended_between_two_looks() -> None:
    """Tokens of tasks that live, that ended since, and that came and went between the looks: each once."""
    meter = Meter()
    live = {"id": 1, "state": "running", "prompt": 4, "cached": 1, "generated": 10, "decode": 1.0}
    first = meter.tick([live], [], 100.0)
    waits = {"id": 3, "state": "preempted", "prompt": 0, "cached": 0, "generated": 0, "decode": 0.0}
    ended = [task(1, ended=101.0, prompt=4, cached=1, generated=16), task(2, ended=101.5), task(9, ended=99.0)]
    second = meter.tick([waits], ended, 102.0)

    assert (0.0, 1, 0) == tuple(first[name] for name in ("generated", "running", "waiting"))
    assert ((16 - 10 + 5) / 2, 8 / 2) == (second["generated"], second["prompt"])
    assert (0, 1, 1) == tuple(second[name] for name in ("running", "waiting", "preempted"))


# --- what is kept ------------------------------------------------------------------------------------------------


def ended_event(id: int) -> Event:
    """Return the kernel's word that a task ended."""
    facts = {"task": id, "model": "m", "kind": "chat", "tenant": "t", "error": "", "prompt": 1, "cached": 0}
    return Event("task.done", 0.0, facts | {"generated": 1, **dict.fromkeys(PHASES, 1.0)})


def test_what_is_kept_is_bounded() -> None:
    """Tasks that ended, tasks that were seen, and what was seen of each."""
    console = Console(now=lambda: 50.0)
    for id in range(KEPT + 10):
        console.llmos_event(ended_event(id))
        console.saw([{"id": KEPT + id, "state": "running", "age": 0.0}])
    for age in range(2 * SEEN):
        console.saw([{"id": 2 * KEPT, "state": ("running", "preempted")[age % 2], "age": float(age)}])

    kept = console.ended(lambda tenant: True)
    assert (KEPT, KEPT + 9, 47.0) == (len(kept), kept[0].id, kept[0].accepted)
    assert () == console.seen(KEPT)
    assert SEEN == len(console.seen(2 * KEPT))
    assert [] == console.ended(lambda tenant: tenant == "other")


def test_a_task_is_seen_to_change_only() -> None:
    """A state that goes on is noted once, and the notes go with the task into its record."""
    console = Console()
    for age, state in ((0.5, "running"), (0.6, "running"), (0.7, "preempted")):
        console.saw([{"id": 1, "state": state, "age": age}])
    console.llmos_event(ended_event(1))

    assert ((0.5, "running"), (0.7, "preempted")) == console.ended(lambda _: True)[0].seen
    assert () == console.seen(1)
    assert math.isclose(3.0, console.ended(lambda _: True)[0].age)
