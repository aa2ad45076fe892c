"""Sums over windows of time are what integrals over them are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from llmos_simulator.timeline import SHORTEST, WINDOWS, Timeline

A = ("amount", "a")


def overlap(begin: float, end: float, low: float, high: float) -> float:
    """The share of *begin* to *end* that lies in the window from *low* to *high*."""
    if begin == end:
        return float(low <= begin < high)
    return max(0.0, min(end, high) - max(begin, low)) / (end - begin)


spans = st.tuples(st.floats(0, 900), st.floats(0, 900), st.floats(0, 100)).map(lambda s: (*sorted(s[:2]), s[2]))


@given(spans=st.lists(spans, max_size=20))
@settings(max_examples=100, deadline=None)
def test_each_window_holds_its_part(spans: list[tuple[float, float, float]]) -> None:
    """Of every amount, however often windows were joined, and nothing is lost."""
    timeline = Timeline()
    for begin, end, amount in spans:
        timeline.spread(A, begin, end, amount)
    found, width = timeline.amounts(A), timeline.width
    expected = [
        sum(amount * overlap(begin, end, at * width, (at + 1) * width) for begin, end, amount in spans)
        for at in range(WINDOWS)
    ]

    assert expected == pytest.approx(found, abs=1e-6)
    assert sum(amount for *_, amount in spans) == pytest.approx(sum(found), abs=1e-6)


def test_windows_become_longer_for_all_rows() -> None:
    """They stay as many, and rows stay comparable."""
    timeline = Timeline()
    timeline.spread(A, 0.0, SHORTEST, 1.0)
    timeline.spread(("amount", "b"), 0.0, 1000.0, 1000.0)

    assert WINDOWS == len(timeline.amounts(A)) == len(timeline.amounts(("amount", "b")))
    assert timeline.width * WINDOWS / 2 <= 1000.0 < timeline.width * WINDOWS
    assert 1.0 == pytest.approx(timeline.amounts(A)[0])
    assert timeline.width == pytest.approx(timeline.amounts(("amount", "b"))[0])


def test_a_row_that_nobody_wrote_is_empty() -> None:
    """It holds nothing."""
    assert {0.0} == set(Timeline().amounts(A))
