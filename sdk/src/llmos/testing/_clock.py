"""A clock that moves only when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs

from llmos_kernel.clock import Lock

_GLANCE = 0.001
"""Seconds of real time between two looks at the clock by a thread that waits for a virtual time."""


@attrs.define(eq=False)
class _Timer:
    """A callback that is due at *when* in an event loop."""

    when: float
    loop: Any
    callback: Callable[[], None]
    handle: Any = None
    """What the loop gave when the callback became due."""


class VirtualClock:
    """Implements the kernel's `Clock`; time stands still until `advance`.

    A thread that waits for a time looks at the clock every millisecond.  It cannot simply be woken: the lock that it
    waits for belongs to its waker, and a second release would be an error in the waker.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._condition = threading.Condition()
        self._now = start
        self._timers: list[_Timer] = []
        self._waiting: list[float] = []

    def now(self) -> float:
        """Return the virtual time."""
        with self._condition:
            return self._now

    def advance(self, seconds: float) -> None:
        """Move on; waits and timers that are due by then end."""
        with self._condition:
            self._now += seconds
            due = [timer for timer in self._timers if timer.when <= self._now]
            self._timers = [timer for timer in self._timers if timer.when > self._now]
            for timer in sorted(due, key=lambda timer: timer.when):
                _fire(timer)

    def wait(self, lock: Lock, until: float | None) -> bool:
        """Block until *lock* is released (True) or the virtual time is *until* (False)."""
        if until is None:
            return lock.acquire()
        with self._condition:
            self._waiting.append(until)
            self._condition.notify_all()
        try:
            while not lock.acquire(True, _GLANCE):
                if self.now() >= until:
                    return lock.acquire(False)
            return True
        finally:
            with self._condition:
                self._waiting.remove(until)

    def call_at(self, loop: Any, when: float, callback: Callable[[], None]) -> Callable[[], None]:  # noqa: ANN401
        """Call *callback* in *loop* when the virtual time is *when*; return what cancels that."""
        timer = _Timer(when, loop, callback)
        with self._condition:
            if when <= self._now:
                _fire(timer)
            else:
                self._timers.append(timer)
            self._condition.notify_all()

        def cancel() -> None:
            with self._condition:
                if timer in self._timers:
                    self._timers.remove(timer)
            if timer.handle is not None:
                timer.handle.cancel()

        return cancel

    def wait_for_waiters(self, count: int, timeout: float = 10.0) -> None:
        """Return when *count* threads and timers wait for a time to come; raise `TimeoutError` if they never do."""
        with self._condition:
            if not self._condition.wait_for(lambda: len(self._waiting) + len(self._timers) >= count, timeout):
                raise TimeoutError(f"{len(self._waiting) + len(self._timers)} waiters after {timeout:g} s, not {count}")


def _fire(timer: _Timer) -> None:
    if not timer.loop.is_closed():
        timer.handle = timer.loop.call_soon_threadsafe(timer.callback)
