"""A circuit breaker per model: who fails again and again is left alone for a while, then tried once.

The pattern is Nygard's ("Release It!", 2007, chapter 5)::

    closed ──(failures in a row)──► open ──(cool-down has passed)──► half-open ──(the probe ends well)──► closed
                                     ▲                                   │
                                     └───(the probe fails: the cool-down doubles)

Half-open lets one task through, the probe.  One that tells nothing, because it was cancelled or its caller was at
fault, makes room for the next; one of which nothing is heard does so after another cool-down.
"""

from __future__ import annotations

from typing import Literal

import attrs

State = Literal["closed", "open", "half-open"]


@attrs.define
class Breaker:
    """Of one model.  A deterministic state machine: the time is given with every call, in seconds of any clock."""

    failures: int
    """Failures in a row that open it."""
    cool_down: float
    """Seconds that it stays open the first time."""
    longest: float
    """Most seconds that it stays open."""
    _row: int = attrs.field(default=0, init=False)
    _seconds: float = attrs.field(default=0.0, init=False)
    """How long it was, or is, open; 0 while it is closed."""
    _until: float = attrs.field(default=0.0, init=False)
    """Until when nobody is let through, while it is not closed."""
    _probing: bool = attrs.field(default=False, init=False)

    def state(self, now: float) -> State:
        """Return where in the figure it stands."""
        if not self._seconds:
            return "closed"
        return "half-open" if self._probing or now >= self._until else "open"

    def wait(self, now: float) -> float:
        """Return the seconds until a task is let through; 0: at once."""
        return max(0.0, self._until - now) if self._seconds else 0.0

    def passed(self, now: float) -> None:
        """A task is let through; in half-open it is the probe, and the next one waits."""
        if self._seconds:
            self._probing, self._until = True, now + self._seconds

    def succeeded(self) -> None:
        """A task of the model ended well.  While it is open that was an old one, which says nothing of now."""
        if self._probing or not self._seconds:
            self._row, self._seconds, self._probing = 0, 0.0, False

    def failed(self, now: float, *, at_once: bool = False) -> None:
        """A task of the model failed, by the model's fault; *at_once* opens it with the first failure."""
        self._row += 1
        if not self._seconds and (at_once or self._row >= self.failures):
            self._open(now, self.cool_down)
        elif self._probing:
            self._open(now, self._seconds * 2)

    def said_nothing(self, now: float) -> None:
        """A task of the model ended in a way that says nothing of the model."""
        if self._probing:
            self._probing, self._until = False, now

    def _open(self, now: float, seconds: float) -> None:
        self._seconds = min(seconds, self.longest)
        self._until, self._probing = now + self._seconds, False
