"""How many tasks at once, and when the next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, strategies as st

from llmos_remote.pace import LONGEST, Pace, exhausted, retry_after, span

NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=90)
TEXT = st.text(st.characters(codec="latin-1"), max_size=60)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1m", 60),
        ("", None),
        ("soon", None),
        ("5", None),
    ],
)
def test_span(text: str, seconds: float | None) -> None:
    """Spans are read as OpenAI and Google write them."""
    assert span(text) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7), ({"retry-after": "0.5"}, 0.5), ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": format_datetime(LATER, usegmt=True)}, 90),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "9" * 30}, LONGEST), ({"retry-after": "-1"}, None), ({"retry-after": "nan"}, None), ({}, None),
    ],
)  # fmt: skip
def test_retry_after(headers: Mapping[str, str], seconds: float | None) -> None:
    """``Retry-After`` is a number or a date (RFC 9110, 10.2.3), bounded."""
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "1m30s"}, 0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2s",
          "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}, 2),
        ({"anthropic-ratelimit-input-tokens-remaining": "0",
          "anthropic-ratelimit-input-tokens-reset": "2026-11-26T12:01:30Z"}, 90),
        ({"x-ratelimit-remaining-requests": "0"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, 0),
    ],
)  # fmt: skip
def test_exhausted(headers: Mapping[str, str], seconds: float) -> None:
    """What is used up holds back until it is given again; what is not says nothing."""
    assert exhausted(headers, NOW) == seconds


@given(TEXT, TEXT, TEXT)
def test_any_header(after: str, left: str, reset: str) -> None:
    """Whatever headers say, it is a wait from nothing to a day."""
    found = retry_after({"retry-after": after, "retry-after-ms": left}, NOW)
    headers = {"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": reset}

    assert found is None or 0 <= found <= LONGEST
    assert 0 <= exhausted(headers, NOW) <= LONGEST
    assert 0 <= exhausted({**headers, "x-ratelimit-remaining-requests": "0"}, NOW) <= LONGEST


def test_rows_fall_and_grow() -> None:
    """A refusal halves the rows, never below one; each row's worth of answers brings one back, never above the most."""
    pace = Pace(8)
    for rows in (4, 2, 1, 1):
        pace.refused(0)
        assert pace.rows == rows
    grown = []
    for _ in range(40):
        pace.answered({}, NOW)
        grown.append(pace.rows)

    assert grown == sorted(grown)
    assert grown[0] == 2
    assert grown[-1] == 8


def test_waits_for_the_longest() -> None:
    """Of several waits the longest counts, and it passes with the clock."""
    time = [100.0]
    pace = Pace(8, lambda: time[0])
    pace.refused(5)
    pace.refused(2)
    assert pace.wait == 5
    time[0] = 106

    assert pace.wait == 0
