"""Schedule a task and wait for it: the only place, in two forms, where the SDK waits for the kernel."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from llmos._calls import call, call_async
from llmos._requests import Request
from llmos._stream import AsyncStream, Stream
from llmos._targets import Tries
from llmos._text import Text, outcome
from llmos_kernel.api import Done
from llmos_kernel.errors import KernelError

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

    def begin(self, tries: Tries) -> TaskHandle:
        """Have the task accepted on the first of its targets that takes it."""
        while True:
            try:
                handle = self.schedule(tries.request)
            except KernelError as error:
                if not tries.again(error):
                    raise tries.last(error)  # noqa: B904 - it has its cause
            else:
                tries.name = handle.model
                return handle

    def run(self, request: Request) -> Done:
        """Run one request."""
        return self.run_all([request])[0]

    def run_all(self, requests: Iterable[Request]) -> list[Done]:
        """Run requests side by side; an error cancels the others."""
        return [done for done, _ in self._run(requests)]

    def texts(self, requests: Iterable[Request]) -> list[Text]:
        """Run requests side by side and return what was answered, and by which model."""
        return [Text(done=done, model=model) for done, model in self._run(requests)]

    def _run(self, requests: Iterable[Request]) -> list[tuple[Done, str]]:
        with ExitStack() as tasks:
            begun = [(tries, tasks.enter_context(self.begin(tries))) for tries in map(Tries, requests)]
            return [(self.end(tries, handle, tasks), tries.name) for tries, handle in begun]

    def end(self, tries: Tries, handle: TaskHandle, tasks: ExitStack) -> Done:
        """Wait for the end of what `begin` began, or of the next try; *tasks* closes the handles of those."""
        while True:
            try:
                return self.wait(handle, tries.request.timeout)
            except KernelError as error:
                if not tries.again(error):
                    raise tries.last(error)  # noqa: B904 - it has its cause
            handle = tasks.enter_context(self.begin(tries))

    def stream(self, request: Request) -> Stream:
        """Begin a streaming request."""
        return Stream(self, request)


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

    async def begin(self, tries: Tries) -> TaskHandle:
        """Have the task accepted on the first of its targets that takes it."""
        while True:
            try:
                handle = await self.schedule(tries.request)
            except KernelError as error:
                if not tries.again(error):
                    raise tries.last(error)  # noqa: B904 - it has its cause
            else:
                tries.name = handle.model
                return handle

    async def run(self, request: Request) -> Done:
        """Run one request."""
        return (await self.run_all([request]))[0]

    async def run_all(self, requests: Iterable[Request]) -> list[Done]:
        """Run requests side by side; an error cancels the others."""
        return [done for done, _ in await self._run(requests)]

    async def texts(self, requests: Iterable[Request]) -> list[Text]:
        """Run requests side by side and return what was answered, and by which model."""
        return [Text(done=done, model=model) for done, model in await self._run(requests)]

    async def _run(self, requests: Iterable[Request]) -> list[tuple[Done, str]]:
        with ExitStack() as tasks:
            begun = [(tries, tasks.enter_context(await self.begin(tries))) for tries in map(Tries, requests)]
            return [(await self.end(tries, handle, tasks), tries.name) for tries, handle in begun]

    async def end(self, tries: Tries, handle: TaskHandle, tasks: ExitStack) -> Done:
        """Wait for the end of what `begin` began, or of the next try; *tasks* closes the handles of those."""
        while True:
            try:
                return await self.wait(handle, tries.request.timeout)
            except KernelError as error:
                if not tries.again(error):
                    raise tries.last(error)  # noqa: B904 - it has its cause
            handle = tasks.enter_context(await self.begin(tries))

    def stream(self, request: Request) -> AsyncStream:
        """Prepare a streaming request."""
        return AsyncStream(self, request)
