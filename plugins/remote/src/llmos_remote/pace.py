"""How many tasks at once, and when the next one: what a far end allows is learned from what it answers.

The number of rows grows by one for each row's worth of answers and is halved by a refusal (additive increase,
multiplicative decrease: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in
Computer Networks", 1989).  A refusal that says when to come again, or a header that says that nothing is left until
then, holds all tasks of the model back for so long.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 86_400.0
"""Seconds: what asks for more is taken to ask for so much."""
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_REMAINING = re.compile(r"(?:x-ratelimit-remaining-(\w+)|anthropic-ratelimit-([\w-]+)-remaining)")


class Pace:
    """The pace of one model.  `rows` may be read by any thread."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._rows, self._until, self._clock = most, float(most), 0.0, clock

    @property
    def rows(self) -> int:
        """Tasks that may run at once now."""
        return int(self._rows)

    @property
    def wait(self) -> float:
        """Seconds until the next task may begin."""
        return max(0.0, self._until - self._clock())

    def refused(self, after: float) -> None:
        """Take half the rows away, and hold tasks back for *after* seconds."""
        self._rows = max(1.0, self._rows / 2)
        self._hold(after)

    def answered(self, headers: Mapping[str, str], now: datetime) -> None:
        """Give a part of a row back; hold tasks back if the *headers* of an answer say that nothing is left."""
        self._rows = min(float(self._most), self._rows + 1 / self._rows)
        self._hold(exhausted(headers, now))

    def _hold(self, seconds: float) -> None:
        self._until = max(self._until, self._clock() + seconds)


def exhausted(headers: Mapping[str, str], now: datetime) -> float:
    """Return for how many seconds the *headers* of an answer allow nothing more; 0 where something is left."""
    longest = 0.0
    for name, left in headers.items():
        found = _REMAINING.fullmatch(name.lower())
        if found is not None and left.strip() == "0":
            reset = f"x-ratelimit-reset-{found[1]}" if found[1] else f"anthropic-ratelimit-{found[2]}-reset"
            longest = max(longest, _reset(headers.get(reset, ""), now))
    return longest


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds after which a refused request may come again (RFC 9110, 10.2.3), or None if it says nothing.

    ``retry-after-ms`` is OpenAI's and Azure's.
    """
    if (milliseconds := _number(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    said = headers.get("retry-after", "").strip()
    if (seconds := _number(said)) is not None:
        return seconds
    try:
        return _until(parsedate_to_datetime(said), now)
    except (ValueError, TypeError, OverflowError):
        return None


def span(text: str) -> float | None:
    """Return the seconds of a span such as ``6m0s``, ``1.5s`` or ``20ms``, or None if *text* is none."""
    found = _SPAN.fullmatch(text.strip()[:40])
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds, milliseconds = (float(one or 0) for one in found.groups())
    return min(LONGEST, hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)


def _reset(text: str, now: datetime) -> float:
    if (seconds := span(text)) is not None or (seconds := _number(text)) is not None:
        return seconds
    try:
        return _until(datetime.fromisoformat(text), now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _until(when: datetime, now: datetime) -> float:
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(LONGEST, max(0.0, (when - now).total_seconds()))


def _number(text: str) -> float | None:
    text = text.strip()[:40]
    return min(LONGEST, float(text)) if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) else None
