"""Waiting, for threads and for event loops, on one core.

A wake-up grants nothing: the woken waiter retries its call under the core's lock.  So a waiter that gave up consumes
nothing; it only has to pass its wake-up on (`WaitList.leave`), or the next one in line would sleep for ever.
"""

from __future__ import annotations

import abc
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, Union

from llmos_kernel.clock import Clock, Lock
from llmos_kernel.errors import KernelBug

if TYPE_CHECKING:
    import asyncio

    from llmos_kernel._tasks import TaskRecord
    from llmos_kernel.driver import Driver

T = TypeVar("T")
Attempt = Callable[[], Union[T, "WaitList"]]
"""A call under the core's lock: it does its work, or returns the list to wait on."""


def finish(main: Coroutine[Any, Any, T]) -> T:
    """Run *main*, whose awaits block, to its end in this thread."""
    try:
        main.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise KernelBug("a coroutine of a thread was suspended")


class CoreLock:
    """The core's lock.  Event loops that are woken under it are rung once it is free: a loop that wakes up to find the
    lock taken goes back to sleep, which costs the sender more than the message.
    """

    __slots__ = ("_lock", "bells")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bells: list[Callable[[], None]] = []
        """What to do after the release.  Touched only under the lock."""

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Free the lock, then ring the bells."""
        bells = self.bells
        if bells:
            self.bells = []
        self._lock.release()
        for bell in bells:
            bell()


class Waiter(abc.ABC):
    """Somebody who waits."""

    __slots__ = ("core_lock", "lender", "room", "until")
    core_lock: CoreLock
    """Under which it is woken."""
    room: WaitList
    """Where it waits, or waited last."""
    lender: TaskRecord | None
    """The task whose row is lent meanwhile."""
    until: float
    """When it tries again though nobody woke it."""

    @abc.abstractmethod
    def wake(self) -> bool:
        """Wake it; False if it cannot be woken any more (its loop is closed)."""

    @abc.abstractmethod
    async def expired(self, clock: Clock, until: float) -> bool:
        """Wait to be woken (False), or for the time *until* (True)."""

    def lend(self, places: int) -> None:
        """Lend the row of the task that waits here (1), or take it back (-1)."""
        if self.lender is not None:
            self.lender.driver.lend(self.lender, places)


class ThreadWaiter(Waiter):
    """A thread that waits for its lock to be released."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock: Lock = threading.Lock()
        self.lock.acquire()

    def wake(self) -> bool:
        """Let the thread go on.  Called at most once: a waiter leaves its list when it is woken."""
        self.lock.release()
        return True

    async def expired(self, clock: Clock, until: float) -> bool:
        """Block the thread: a coroutine that awaits nothing runs to its end at once."""
        return not clock.wait(self.lock, until)


class WaitList:
    """Waiters in the order in which they came.  Used only under the core's lock."""

    __slots__ = ("_waiters", "lender", "until")

    def __init__(self) -> None:
        self.lender: TaskRecord | None = None
        """The task that lends its row to whoever it waits for here, as the last attempt left it."""
        self.until = float("inf")
        """When whoever waits here tries again though nobody woke it, as the last attempt left it."""
        self._waiters: deque[Waiter] = deque()

    def join(self, waiter: Waiter) -> None:
        """Wait here."""
        waiter.room, waiter.lender, waiter.until = self, self.lender, self.until
        waiter.lend(1)
        self._waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting; if *waiter* had been woken already, wake the next one instead."""
        waiter.lend(-1)
        try:
            self._waiters.remove(waiter)
        except ValueError:
            self.wake()

    def wake(self) -> None:
        """Wake the first waiter that can be woken."""
        while self._waiters and not self._waiters.popleft().wake():
            pass

    def wake_all(self) -> None:
        """Wake everybody."""
        while self._waiters:
            self._waiters.popleft().wake()


class Bell:
    """Wakes one thread, which may be busy: a ring is remembered, two are one."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Taken until the bell rings: what the thread waits for."""
        self.lock.acquire()

    def ring(self) -> None:
        """Wake the thread, now or when it next waits.  Any thread."""
        if self.lock.locked():
            try:
                self.lock.release()
            except RuntimeError:
                return  # somebody else rang between the two lines


class Workers:
    """A few threads that run short plugin code: processors, ``prepare``, control messages.  Started when needed."""

    def __init__(self, driver: Driver, name: str, most: int) -> None:
        self._driver, self._name, self._most = driver, name, most
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        """As many as threads that wait for a job."""
        self._lock = threading.Lock()
        self._open = True
        self.threads: list[threading.Thread] = []

    def submit(self, job: Callable[[], Any]) -> None:
        """Run *job*, which handles its own errors, on one of the threads."""
        with self._lock:
            if self._open and not self._idle.acquire(blocking=False) and len(self.threads) < self._most:
                self.threads.append(self._driver.start(f"{self._name}-{len(self.threads)}", self._work()))
            self._jobs.put(job)  # last: a job that stops the kernel finds its own thread among `threads`

    def close(self) -> None:
        """Let the threads end after the jobs that are queued."""
        with self._lock:
            self._open = False
            for _ in self.threads:
                self._jobs.put(None)

    async def _work(self) -> None:
        while (job := await self._driver.take(self._jobs)) is not None:
            job()
            self._idle.release()


class LoopThread:
    """An event loop in a thread of its own, made when the first coroutine needs it: asyncio costs 100 ms to import."""

    def __init__(self, name: str) -> None:
        import asyncio  # noqa: PLC0415

        self._loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def spawn(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run *main* in the loop; return what cancels it.  Any thread."""
        tasks: list[asyncio.Task[None]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(main()))

        def cancel() -> None:  # one turn later: a task that never began could not say that it ended
            self._loop.call_soon(lambda: [task.cancel() for task in tasks])

        self._loop.call_soon_threadsafe(start)
        return lambda: self._loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        import asyncio  # noqa: PLC0415

        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.sleep(0))  # what has just come begins, for the same reason
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
        self._loop.close()
