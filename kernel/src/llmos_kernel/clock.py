"""Time, in one place.  Nothing else in the kernel reads a clock or waits for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Lock(Protocol):
    """What `Clock.wait` waits for: a taken lock that somebody releases to wake the waiter."""

    def acquire(self, blocking: bool = ..., timeout: float = ..., /) -> bool:
        """Take the lock."""

    def release(self) -> None:
        """Wake the waiter."""

    def locked(self) -> bool:
        """Return whether the waiter still waits."""


class Clock(Protocol):
    """A source of time, in seconds from any origin, that never goes back."""

    def now(self) -> float:
        """Return the time."""

    def wait(self, lock: Lock, until: float | None) -> bool:
        """Block until *lock* is released (True) or the time is *until* (False)."""

    def call_at(self, loop: Any, when: float, callback: Callable[[], None]) -> Callable[[], None]:  # noqa: ANN401
        """Call *callback* in the asyncio *loop* at *when*; return what cancels that."""


class SystemClock:
    """The monotonic clock of the operating system."""

    now = staticmethod(time.monotonic)

    def wait(self, lock: Lock, until: float | None) -> bool:
        """Block until *lock* is released (True) or the time is *until* (False)."""
        return lock.acquire() if until is None else lock.acquire(True, max(0.0, until - time.monotonic()))

    def call_at(self, loop: Any, when: float, callback: Callable[[], None]) -> Callable[[], None]:  # noqa: ANN401
        """Call *callback* in *loop* at *when*."""
        cancel: Callable[[], None] = loop.call_later(max(0.0, when - time.monotonic()), callback).cancel
        return cancel
