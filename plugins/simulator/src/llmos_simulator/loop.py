"""The kernel's driver and clock in a simulation: one thread, one loop, and a time that jumps from event to event.

What the kernel does besides its callers are coroutines (`llmos_kernel.driver`).  Here their waits suspend, and the loop
goes on with whoever can go on:

    first whoever waits for a bell that rang or a queue that holds something, in the order in which they began to wait;
    then, if nobody can, time moves to the earliest of what is planned, in the order in which it was planned.

Nothing else has a say, so the same calls make the same schedule.  A blocking call of a process runs the loop until it
is woken (`VirtualClock.wait`), so programs that are written for threads run unchanged.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import types
from collections.abc import Callable, Coroutine, Generator
from queue import SimpleQueue
from typing import Any, Protocol

from llmos_kernel.clock import Lock
from llmos_kernel.driver import Driver
from llmos_kernel.errors import DeadlineExceeded, InvalidArgument


class Lasting(Protocol):
    """What a call returns that takes virtual time: its caller looks at it when that time has passed."""

    seconds: float
    """How long it takes."""
    cut: Lock
    """A taken lock; releasing it ends the call at once."""


@types.coroutine
def _suspend(source: Lock | SimpleQueue[Any] | None, until: float | None) -> Generator[Any, Any, Any]:
    return (yield source, until)


class Carried:
    """A coroutine of the kernel on its way: here, what is a thread elsewhere."""

    __slots__ = ("_context", "_loop", "_main", "done", "name", "running", "turn")

    def __init__(self, loop: EventLoop, name: str, main: Coroutine[Any, Any, None]) -> None:
        self._loop, self.name, self._main = loop, name, main
        self._context = contextvars.copy_context()
        self.turn = 0
        """How often it has gone on: what was planned for an earlier wait is void."""
        self.running = self.done = False

    def resume(self, value: object = None) -> None:
        """Go on until the next wait, or the end."""
        self.turn += 1
        self.running = True
        try:
            source, until = self._context.run(self._main.send, value)
        except StopIteration:
            self.done = True
        else:
            self._loop.expect(self, source, until)
        finally:
            self.running = False

    def cancel(self) -> None:
        """End the coroutine where it waits."""
        if not self.done:
            self.turn += 1
            self.done = True
            self._loop.forget(self)
            self._context.run(self._main.close)

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return not self.done

    def join(self, timeout: float | None = None) -> None:
        """Run the loop until this one ended, or for *timeout* virtual seconds, or for as long as anything happens."""
        until = None if timeout is None else self._loop.time + timeout
        while not (self.done or self.running) and self._loop.advance(until):
            pass


class Coroutines:
    """A loop for the coroutines of an executor that runs each task from start to end."""

    def __init__(self, loop: EventLoop, name: str) -> None:
        self._loop, self.name = loop, name
        self._running: dict[Carried, None] = {}

    @property
    def thread(self) -> Coroutines:
        """What is joined after `close`: nothing is left of it then."""
        return self

    def spawn(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run *main*; return what cancels it."""

        async def ending() -> None:
            await main()
            del self._running[carried]

        carried = self._loop.start(self.name, ending())
        self._running[carried] = None
        return lambda: self._loop.plan(self._loop.time, lambda: self._cancel(carried))

    def _cancel(self, carried: Carried) -> None:
        self._running.pop(carried, None)
        carried.cancel()

    def close(self) -> None:
        """Cancel what runs."""
        for carried in tuple(self._running):
            self._cancel(carried)

    def is_alive(self) -> bool:
        """Return False: nothing outlives `close`."""
        return False

    def join(self, timeout: float | None = None) -> None:
        """Return: nothing outlives `close`."""


class VirtualClock:
    """The loop's time, as the kernel's `Clock`."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Return the virtual time."""
        return self._loop.time

    def wait(self, lock: Lock, until: float | None) -> bool:
        """Run the loop until *lock* is released (True), or the time is *until* (False)."""
        loop = self._loop
        while not lock.acquire(False):
            if not loop.advance(until):
                if until is None:
                    raise DeadlineExceeded("nothing can happen any more that would end this wait")
                loop.time = max(loop.time, until)
                return lock.acquire(False)
        return True

    def call_at(self, loop: Any, when: float, callback: Callable[[], None]) -> Callable[[], None]:  # noqa: ANN401
        """Raise `InvalidArgument`: a simulation has no loop of asyncio."""
        raise InvalidArgument.of("process", "aio", "a process whose calls block: a simulation has no loop of asyncio")


class EventLoop(Driver):
    """Carries a kernel in the caller's thread: ``Kernel(config, plugins, driver=EventLoop())``."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__(VirtualClock(self))
        self.time = start
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._waiting: dict[Carried, tuple[Callable[[], bool], Any]] = {}
        """Who waits: what says that there is nothing yet, and the lock or the queue."""

    def plan(self, at: float, job: Callable[[], object]) -> None:
        """Do *job* at the time *at*, after what was planned for that time before."""
        heapq.heappush(self._planned, (at, next(self._numbers), job))

    def advance(self, until: float | None = None) -> bool:
        """Do what comes next; False if nothing can happen until the time *until*."""
        for carried, (silent, source) in self._waiting.items():
            if not silent():
                del self._waiting[carried]
                carried.resume(source.get() if isinstance(source, SimpleQueue) else source.acquire(False))
                return True
        if not self._planned or (until is not None and self._planned[0][0] > until):
            return False
        at, _, job = heapq.heappop(self._planned)
        self.time = max(self.time, at)
        job()
        return True

    def expect(self, carried: Carried, source: Lock | SimpleQueue[Any] | None, until: float | None) -> None:
        """Let *carried* go on when *source* has something, or at the time *until*."""
        if source is not None:
            self._waiting[carried] = (source.empty if isinstance(source, SimpleQueue) else source.locked, source)
        if until is not None:
            turn = carried.turn
            self.plan(until, lambda: self._expire(carried, turn))

    def _expire(self, carried: Carried, turn: int) -> None:
        if carried.turn == turn:
            self.forget(carried)
            carried.resume()

    def forget(self, carried: Carried) -> None:
        """Let *carried* wait for nothing any more."""
        self._waiting.pop(carried, None)

    async def sleep(self, seconds: float) -> None:
        """Let *seconds* of virtual time pass."""
        await _suspend(None, self.time + seconds)

    # --- the kernel's driver

    def start(self, name: str, main: Coroutine[Any, Any, None]) -> Carried:
        """Begin *main* when what is under way has come to its next wait."""
        carried = Carried(self, name, main)
        self.expect(carried, None, self.time)
        return carried

    async def wait(self, lock: Lock, until: float | None) -> None:
        """Suspend until *lock* is released, and take it, or until the time is *until*."""
        if not lock.acquire(False):
            await _suspend(lock, until)

    async def take(self, queue: SimpleQueue[Any]) -> Any:  # noqa: ANN401 - whatever is in it
        """Suspend until *queue* holds something."""
        return await _suspend(queue, None) if queue.empty() else queue.get()

    async def call(self, function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what it returns
        """Call *function*; if what it returns is `Lasting`, go on when its time has passed."""
        answer = function(*arguments)
        if seconds := getattr(answer, "seconds", 0.0):
            await _suspend(answer.cut, self.time + seconds)
        return answer

    def loop(self, name: str) -> Any:  # noqa: ANN401 - `Coroutines`, for `LoopThread`
        """Return what runs the coroutines of an executor."""
        return Coroutines(self, name)
