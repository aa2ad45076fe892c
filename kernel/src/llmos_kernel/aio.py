"""The four system calls for asyncio, on the same core as for threads."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Self

from llmos_kernel._handles import Handle, TaskHandle
from llmos_kernel.api import Message, Receipt, Task
from llmos_kernel.clock import Clock
from llmos_kernel._waiting import Waiter
from llmos_kernel.process import Calls


class _LoopBell:
    """Wakes coroutines of one loop from any thread: one wake-up of the loop for all that came since the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._thread = weakref.ref(loop), threading.get_ident()
        self._pending: deque[LoopWaiter] = deque()
        self._rung = False

    def wake(self, waiter: LoopWaiter) -> bool:
        """Let *waiter* go on, after the release of its core's lock; False if it cannot any more."""
        loop = self._loop()
        if loop is None or loop.is_closed() or waiter.future.done():
            return False
        if threading.get_ident() == self._thread:
            waiter.future.set_result(False)
            return True
        self._pending.append(waiter)
        if not self._rung:
            self._rung = True
            waiter.core_lock.bells.append(functools.partial(self._ring, loop))
        return True

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._wake_pending)
        except RuntimeError:  # it was closed meanwhile: what woke its coroutines is for the next in line
            self._rung = False
            while self._pending:
                waiter = self._pending.popleft()
                with waiter.core_lock:
                    waiter.room.leave(waiter)

    def _wake_pending(self) -> None:
        self._rung = False
        while self._pending:
            future = self._pending.popleft().future
            if not future.done():
                future.set_result(False)


_bells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopBell] = weakref.WeakKeyDictionary()


class LoopWaiter(Waiter):
    """A coroutine that waits for its future."""

    __slots__ = ("_bell", "future")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._bell = _bells.get(loop) or _bells.setdefault(loop, _LoopBell(loop))
        self.future: asyncio.Future[bool] = loop.create_future()

    def wake(self) -> bool:
        """Let the coroutine go on."""
        return self._bell.wake(self)

    async def expired(self, clock: Clock, until: float) -> bool:
        """Await the future."""
        cancel = clock.call_at(asyncio.get_running_loop(), until, self._expire)
        try:
            return await self.future
        finally:
            cancel()

    def _expire(self) -> None:
        if not self.future.done():
            self.future.set_result(True)


class AsyncProcess(Calls):
    """As `Process`, with coroutines.  Cancelling a call cancels only that call."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def alloc(self, request: object, *, timeout: float | None = None) -> Handle:
        """As `Process.alloc`."""
        return await self._core.wait_async(self._alloc(request), timeout, LoopWaiter)

    async def schedule(self, task: Task, *, timeout: float | None = None) -> TaskHandle:
        """As `Process.schedule`."""
        return await self._core.wait_async(self._schedule(task), timeout, LoopWaiter)

    async def send(
        self, to: Handle, body: object, handles: Iterable[Handle] = (), *, timeout: float | None = None
    ) -> Receipt:
        """As `Process.send`."""
        return await self._core.wait_async(self._send(to, body, handles), timeout, LoopWaiter)

    async def recv(self, source: Handle | None = None, *, timeout: float | None = None) -> Message:
        """As `Process.recv`."""
        return await self._core.wait_async(self._recv(source), timeout, LoopWaiter)
