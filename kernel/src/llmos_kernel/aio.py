"""The four system calls for asyncio, on the same core as for threads."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any, Self

from llmos_kernel._handles import Handle, TaskHandle
from llmos_kernel.api import MAX_SECONDS, Message, Receipt, Task, check_number
from llmos_kernel.clock import Clock
from llmos_kernel._waiting import Waiter
from llmos_kernel.process import Attempt, Calls


class _LoopBell:
    """Wakes futures of one loop from any thread: one wake-up of the loop for all that came since the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._thread = weakref.ref(loop), threading.get_ident()
        self._pending: deque[asyncio.Future[bool]] = deque()
        self._rung = False

    def wake(self, future: asyncio.Future[bool]) -> bool:
        """Let *future* go on; False if it cannot any more."""
        try:
            if threading.get_ident() == self._thread:
                if future.done():
                    return False
                future.set_result(False)
                return True
            loop = self._loop()
            self._pending.append(future)
            if loop is not None and not self._rung:
                self._rung = True
                loop.call_soon_threadsafe(self._ring)
        except RuntimeError:  # the loop is closed
            self._rung = False
            return False
        return loop is not None

    def _ring(self) -> None:
        self._rung = False
        while self._pending:
            future = self._pending.popleft()
            if not future.done():
                future.set_result(False)


_bells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopBell] = weakref.WeakKeyDictionary()


class LoopWaiter(Waiter):
    """A coroutine that waits for its future."""

    __slots__ = ("_bell", "future")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        bell = _bells.get(loop)
        if bell is None:
            bell = _bells[loop] = _LoopBell(loop)
        self._bell = bell
        self.future: asyncio.Future[bool] = loop.create_future()

    def wake(self) -> bool:
        """Let the coroutine go on."""
        return self._bell.wake(self.future)


async def expired(waiter: LoopWaiter, clock: Clock, until: float) -> bool:
    """Wait to be woken (False) or for the time *until* (True)."""
    future = waiter.future

    def expire() -> None:
        if not future.done():
            future.set_result(True)

    cancel = clock.call_at(asyncio.get_running_loop(), until, expire)
    try:
        return await future
    finally:
        cancel()


class AsyncProcess(Calls):
    """As `Process`, with coroutines.  Cancelling a call cancels only that call."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def alloc(self, request: object, *, timeout: float | None = None) -> Handle:
        """As `Process.alloc`."""
        handle: Handle = await self._wait(self._alloc(request), timeout)
        return handle

    async def schedule(self, task: Task, *, timeout: float | None = None) -> TaskHandle:
        """As `Process.schedule`."""
        handle: TaskHandle = await self._wait(self._schedule(task), timeout)
        return handle

    async def send(
        self, to: Handle, body: object, handles: Iterable[Handle] = (), *, timeout: float | None = None
    ) -> Receipt:
        """As `Process.send`."""
        receipt: Receipt = await self._wait(self._send(to, body, handles), timeout)
        return receipt

    async def recv(self, source: Handle | None = None, *, timeout: float | None = None) -> Message:
        """As `Process.recv`."""
        message: Message = await self._wait(self._recv(source), timeout)
        return message

    async def _wait(self, attempt: Attempt, timeout: float | None) -> Any:  # noqa: ANN401
        if timeout is not None:
            check_number("timeout", timeout, 0, MAX_SECONDS, whole=False)
        return await self._core.wait_async(*attempt, timeout)
