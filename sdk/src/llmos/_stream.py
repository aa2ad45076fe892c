"""Answers that arrive in pieces.  Both forms share `Progress`; only the waiting differs."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from llmos._targets import Tries
from llmos._text import Piece, Text, outcome
from llmos_kernel.api import Chunk, Failed
from llmos_kernel.errors import KernelError, PortClosed

if TYPE_CHECKING:
    from llmos._requests import Request
    from llmos._running import AsyncRunner, Runner
    from llmos_kernel import Handle, TaskHandle


class Ending(abc.ABC):
    """Something read in pieces that may end badly; then it is closed, and the error is what it ended with."""

    _error: KernelError | None = None

    @abc.abstractmethod
    def close(self) -> None:
        """Read no more."""

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Where no other model can be tried either, that is the end."""
        try:
            yield
        except KernelError as error:
            self._error = error
            self.close()
            raise


class Progress(Ending):
    """How far a streamed task is: what arrived, and how it ended."""

    _handle: TaskHandle | None = None

    def __init__(self, request: Request, dropped: deque[Handle]) -> None:
        self._tries, self._dropped = Tries(request), dropped
        self._parts: list[str] = []
        self._text: Text | None = None
        self._closed = False

    def __del__(self) -> None:
        # The collector may run anywhere, even where the kernel's lock is held: the runner closes the handle later.
        if self._handle is not None and not self._closed:
            self._dropped.append(self._handle)

    @property
    def text_so_far(self) -> str:
        """What has been read until now."""
        return "".join(self._parts)

    @property
    def whole(self) -> Text | None:
        """The whole answer, once its end was read."""
        return self._text

    def _take(self, event: Any) -> Piece | None:  # noqa: ANN401 - a message's body can be anything
        """Return the piece that *event* brings, or None at the end.  Raises the error of a task that failed."""
        if isinstance(event, Chunk):
            piece = Piece(chunk=event)
            self._parts.append(piece)
            return piece
        try:
            self._text = Text(done=outcome(event), model=self._tries.name)
        except KernelError as error:
            self._error = self._tries.last(error)
            raise self._error  # noqa: B904 - it has its cause
        finally:
            self.close()
        return None

    def _again(self, event: Any) -> bool:  # noqa: ANN401
        """Return whether *event* is a failure before the first piece, after which another model is tried."""
        return isinstance(event, Failed) and not self._parts and self._tries.again(event.error)

    def close(self) -> None:
        """Cancel the task unless it has ended; what was read stays in `text_so_far`."""
        self._closed = True
        if self._handle is not None:
            self._handle.close()

    def _settled(self) -> Text | None:
        """Return the whole answer, or None while there is more; raise if it will never be whole."""
        if self._error is not None:
            raise self._error
        if self._closed and self._text is None:
            raise PortClosed("the stream was closed before its end")
        return self._text


class Stream(Progress):
    """Iterate over it for the pieces; `result` reads what is left and returns the whole.

    A context manager: leaving it, or `close`, cancels the task if it has not ended.
    """

    def __init__(self, runner: Runner, request: Request) -> None:
        super().__init__(request, runner.dropped)
        self._runner = runner
        self._handle = self._task = runner.begin(self._tries)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        if self._closed:
            raise StopIteration
        while self._again(event := self._recv()):
            with self._trying():
                self._handle = self._task = self._runner.begin(self._tries)
        piece = self._take(event)
        if piece is None:
            raise StopIteration
        return piece

    def _recv(self) -> Any:  # noqa: ANN401
        return self._runner.process.recv(self._task, timeout=self._tries.request.timeout).body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def result(self) -> Text:
        """Read to the end and return the whole answer."""
        while (text := self._settled()) is None:
            next(self, None)
        return text


class AsyncStream(Progress):
    """`Stream` for asyncio: ``async for``, ``async with``, ``await stream.result()``; the first of them begins it."""

    def __init__(self, runner: AsyncRunner, request: Request) -> None:
        super().__init__(request, runner.dropped)
        self._runner = runner

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if self._closed:
            raise StopAsyncIteration
        while self._again(event := await self._recv()):
            self._handle = None
            with self._trying():
                await self._begin()
        piece = self._take(event)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def _recv(self) -> Any:  # noqa: ANN401
        handle = await self._begin()
        return (await self._runner.process.recv(handle, timeout=self._tries.request.timeout)).body

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def result(self) -> Text:
        """Read to the end and return the whole answer."""
        while (text := self._settled()) is None:
            await anext(self, None)
        return text

    async def _begin(self) -> TaskHandle:
        if self._handle is None:
            self._handle = await self._runner.begin(self._tries)
            if self._closed:  # meanwhile
                self._handle.close()
        return self._handle
