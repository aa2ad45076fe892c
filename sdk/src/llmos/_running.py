"""Schedule a task and wait for it: the only place, in two forms, where the SDK waits for the kernel."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from llmos._calls import call, call_async
from llmos._requests import Request
from llmos._stream import AsyncStream, Stream
from llmos._text import outcome
from llmos_kernel.api import Done

if TYPE_CHECKING:
    from llmos_kernel import Handle, Process, TaskHandle
    from llmos_kernel.aio import AsyncProcess


class _Dropped:
    """What both runners share: the tasks of streams and the contexts of conversations that nobody closed."""

    def __init__(self) -> None:
        self.dropped: deque[Handle] = deque()
        """Noted by the finalizers of those that were collected before they were closed."""

    def _sweep(self) -> None:
        """Cancel, and give back, what was dropped."""
        while self.dropped:
            self.dropped.popleft().close()


class Runner(_Dropped):
    """Runs requests for a client and its models."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    @property
    def process(self) -> Process:
        """The seat at the kernel."""
        self._sweep()
        return self._process

    def ask(self, message: object, timeout: float | None = None) -> Any:  # noqa: ANN401 - plain values
        """Return the control port's answer to *message*."""
        return call(self.process, self.process.control, message, timeout)

    def schedule(self, request: Request) -> TaskHandle:
        """Have the task accepted."""
        return self.process.schedule(request.task, timeout=request.timeout)

    def wait(self, handle: Handle, timeout: float | None = None) -> Done:
        """Wait for the end of a task; after `DeadlineExceeded` of this wait it goes on."""
        return outcome(self.process.recv(handle, timeout=timeout).body)

    def run(self, request: Request) -> Done:
        """Run one request."""
        with self.schedule(request) as handle:
            return self.wait(handle, request.timeout)

    def run_all(self, requests: Iterable[Request]) -> list[Done]:
        """Run requests side by side; an error cancels the others."""
        with ExitStack() as tasks:
            handles = [(tasks.enter_context(self.schedule(request)), request.timeout) for request in requests]
            return [self.wait(handle, timeout) for handle, timeout in handles]

    def stream(self, request: Request, model: str) -> Stream:
        """Begin a streaming request."""
        return Stream(self, request, model)


class AsyncRunner(_Dropped):
    """`Runner` for asyncio."""

    def __init__(self, process: AsyncProcess) -> None:
        super().__init__()
        self._process = process

    @property
    def process(self) -> AsyncProcess:
        """The seat at the kernel."""
        self._sweep()
        return self._process

    async def ask(self, message: object, timeout: float | None = None) -> Any:  # noqa: ANN401
        """Return the control port's answer to *message*."""
        return await call_async(self.process, self.process.control, message, timeout)

    async def schedule(self, request: Request) -> TaskHandle:
        """Have the task accepted."""
        handle: TaskHandle = await self.process.schedule(request.task, timeout=request.timeout)
        return handle

    async def wait(self, handle: Handle, timeout: float | None = None) -> Done:
        """Wait for the end of a task; after `DeadlineExceeded` of this wait it goes on."""
        return outcome((await self.process.recv(handle, timeout=timeout)).body)

    async def run(self, request: Request) -> Done:
        """Run one request."""
        with await self.schedule(request) as handle:
            return await self.wait(handle, request.timeout)

    async def run_all(self, requests: Iterable[Request]) -> list[Done]:
        """Run requests side by side; an error cancels the others."""
        with ExitStack() as tasks:
            handles = [(tasks.enter_context(await self.schedule(request)), request.timeout) for request in requests]
            return [await self.wait(handle, timeout) for handle, timeout in handles]

    def stream(self, request: Request, model: str) -> AsyncStream:
        """Prepare a streaming request."""
        return AsyncStream(self, request, model)
