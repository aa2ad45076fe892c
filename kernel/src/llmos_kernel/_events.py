"""Events for observers: one thread, one bounded queue, and nothing at all while nobody observes.

Whoever emits must never wait for an observer, and may hold a lock, or be a finalizer that interrupted another `emit` of
the same thread.  Hence `queue.SimpleQueue`, whose ``put`` is reentrant (``queue.Queue`` would deadlock there), with the
bound checked before it: it may be overrun by as many events as there are threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue

from llmos_kernel._log import log
from llmos_kernel.driver import Driver
from llmos_kernel.services import Event

CAPACITY = 4096
"""Events that may wait for the observers; more are dropped and counted."""

Observer = tuple[str, Callable[[Event], object]]
"""The name and the callable of an observer."""
OnFailure = Callable[[str, BaseException], object]
"""Hears the name of an observer that was switched off, and what it raised."""


class Events:
    """The way from the kernel to its observers.  The driver's clock stamps the events."""

    def __init__(self, driver: Driver) -> None:
        self.enabled = False
        """Whether anybody observes; ask before collecting expensive fields."""
        self.dropped = 0
        """Events that found the queue full."""
        self._driver, self._now = driver, driver.clock.now
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._lock = threading.RLock()  # reentrant, for the reason above
        self._thread: threading.Thread | None = None

    def start(self, observers: Iterable[Observer], on_failure: OnFailure) -> None:
        """Tell *observers* of everything from now on; *on_failure* hears of each that raised and is told no more."""
        if told := list(observers):
            self._queue = SimpleQueue()
            self.enabled = True
            self._thread = self._driver.start("llmos-observers", self._run(self._queue, told, on_failure))

    def emit(self, name: str, /, **fields: object) -> None:
        """Queue an event, or count it as dropped.  Never blocks, never raises."""
        if not self.enabled:
            return
        if self._queue.qsize() < CAPACITY:
            self._queue.put(Event(name, self._now(), fields))
        else:
            with self._lock:
                self.dropped += 1

    def stop(self, timeout: float) -> bool:
        """Deliver what is queued and end the thread; return False if an observer holds it for longer than *timeout*."""
        self.enabled = False
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._queue.put(None)
        thread.join(timeout)
        return not thread.is_alive()

    async def _run(self, queue: SimpleQueue[Event | None], observers: list[Observer], on_failure: OnFailure) -> None:
        while observers and (event := await self._driver.take(queue)) is not None:
            for observer in tuple(observers):
                name, observe = observer
                try:
                    observe(event)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - observers fail open, each by itself
                    observers.remove(observer)
                    self.enabled = self.enabled and bool(observers)
                    log("warning", "observer.failed", plugin=name, error=repr(error))
                    on_failure(name, error)
