"""Several answers to one question, made side by side, in pieces as they arrive.

Each answer is a task of its own.  Its pieces come in order and say whose they are; how those of different answers are
mixed is how they are produced.  The kernel waits for one task at a time, so each task has a reader here: a thread that
lives as long as its answer, or a coroutine.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

import attrs

from llmos._stream import Ending
from llmos._targets import Tries
from llmos._text import Piece, Text, outcome
from llmos_kernel.api import Chunk, Failed
from llmos_kernel.errors import DeadlineExceeded, KernelError, PortClosed

if TYPE_CHECKING:
    import asyncio

    from llmos._requests import Request
    from llmos._running import AsyncRunner, Runner
    from llmos_kernel import Handle, Process, TaskHandle


class _Answers(Ending):
    """How far the answers are: what arrived, and how each ended."""

    def __init__(self, requests: Sequence[Request], dropped: deque[Handle]) -> None:
        self._tries, self._dropped = [Tries(request) for request in requests], dropped
        self._handles: list[TaskHandle] = []
        self._parts: list[list[str]] = [[] for _ in requests]
        self._texts: list[Text | None] = [None] * len(requests)
        self._closed = False

    def __del__(self) -> None:
        # The collector may run anywhere, even where the kernel's lock is held: the runner closes the handles later.
        if not self._closed:
            self._dropped.extend(self._handles)

    @property
    def texts_so_far(self) -> list[str]:
        """What has been read of each answer until now."""
        return ["".join(parts) for parts in self._parts]

    @property
    def texts(self) -> list[Text | None]:
        """The answers that are whole, with finish and usage; None where there is more to come."""
        return list(self._texts)

    def close(self) -> None:
        """Cancel the tasks that have not ended; what was read stays."""
        self._closed = True
        for handle in self._handles:
            handle.close()

    @property
    def _live(self) -> list[int]:
        return [index for index, text in enumerate(self._texts) if text is None]

    def _take(self, index: int, event: Any) -> Piece | None:  # noqa: ANN401 - a message's body, or an error
        """Return the piece that *event* brings, or None at the end of an answer.  An error ends all of them."""
        if isinstance(event, Chunk):
            piece = Piece(chunk=event, answer=index)
            self._parts[index].append(piece)
            return piece
        try:
            if isinstance(event, KernelError):
                raise event
            self._texts[index] = Text(done=outcome(event), model=self._tries[index].name)
        except KernelError as error:
            self._error = self._tries[index].last(error)
            self.close()
            raise self._error  # noqa: B904 - it has its cause
        if not self._live:
            self.close()
        return None

    def _again(self, index: int, event: Any) -> bool:  # noqa: ANN401
        """Return whether *event* is a failure before an answer's first piece, after which another model is tried."""
        return isinstance(event, Failed) and not self._parts[index] and self._tries[index].again(event.error)

    def _settled(self) -> list[Text] | None:
        """Return the whole answers, or None while there is more; raise if they will never be whole."""
        if self._error is not None:
            raise self._error
        if self._closed and self._live:
            raise PortClosed("the streams were closed before their end")
        return None if self._live else [text for text in self._texts if text is not None]


@attrs.define
class _Mail:
    """What readers bring."""

    events: SimpleQueue[tuple[int, Any]] = attrs.field(factory=SimpleQueue)
    count: int = 0
    """Changes with each event of a task."""

    def read(self, process: Process, handle: TaskHandle, index: int, timeout: float | None) -> None:
        """Bring the events of one task until it ends or is closed; also that no task had one for *timeout*."""
        event: Any = None
        while event is None or isinstance(event, Chunk | DeadlineExceeded):
            before = self.count
            try:
                event = process.recv(handle, timeout=timeout).body
                self.count += 1
            except DeadlineExceeded as error:
                event = error
                if self.count != before:
                    continue
            except KernelError as error:
                event = error
            self.events.put((index, event))


class Streams(_Answers):
    """Iterate over it for the pieces of all answers, whose `Piece.answer` says whose they are.

    `result` reads what is left and returns the whole answers.  A context manager: leaving it, or `close`, cancels the
    tasks that have not ended.  An answer that fails ends all of them.
    """

    def __init__(self, runner: Runner, requests: Sequence[Request]) -> None:
        super().__init__(requests, runner.dropped)
        self._runner = runner
        self._readers: list[threading.Thread] = []
        self._mail = _Mail()
        try:
            for index, tries in enumerate(self._tries):
                self._handles.append(runner.begin(tries))
                self._read(index)
        except BaseException:
            self.close()
            raise

    def _read(self, index: int) -> None:
        """Let a thread read what the task of an answer has to say."""
        arguments = (self._runner.process, self._handles[index], index, self._tries[index].request.timeout)
        reader = threading.Thread(target=self._mail.read, args=arguments, name="llmos-stream", daemon=True)
        reader.start()
        self._readers.append(reader)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        while not self._closed:
            index, event = self._mail.events.get()
            if isinstance(event, DeadlineExceeded):
                if index == self._live[0] and self._mail.events.empty():  # all readers say the same
                    raise event
            elif self._again(index, event):
                with self._trying():
                    self._handles[index] = self._runner.begin(self._tries[index])
                self._read(index)
            elif (piece := self._take(index, event)) is not None:
                return piece
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the tasks that have not ended; what was read stays."""
        super().close()
        for reader in self._readers:
            reader.join()

    def result(self) -> list[Text]:
        """Read to the end and return the whole answers, in order."""
        while (texts := self._settled()) is None:
            next(self, None)
        return texts


class AsyncStreams(_Answers):
    """`Streams` for asyncio; the first use begins the tasks."""

    def __init__(self, runner: AsyncRunner, requests: Sequence[Request]) -> None:
        super().__init__(requests, runner.dropped)
        self._runner = runner
        self._count = 0
        """Events that were taken."""
        self._readers: dict[asyncio.Task[Any], tuple[int, int]] = {}
        """Who waits for the next event of which task, and how many had been taken when it began to."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        await self._begin()
        while not self._closed:
            for reader in await self._heard():
                if reader in self._readers and (piece := await self._read(reader)) is not None:
                    return piece
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the tasks that have not ended; what was read stays."""
        super().close()
        while self._readers:
            self._readers.popitem()[0].cancel()

    async def result(self) -> list[Text]:
        """Read to the end and return the whole answers, in order."""
        while (texts := self._settled()) is None:
            await anext(self, None)
        return texts

    async def _begin(self) -> None:
        if self._handles or self._closed:
            return
        try:
            for tries in self._tries:
                self._handles.append(await self._runner.begin(tries))
        except BaseException:
            self.close()
            raise

    async def _heard(self) -> list[asyncio.Task[Any]]:
        """Return the readers that have something, in the order of their answers; wait for the first one."""
        import asyncio  # noqa: PLC0415 - 110 ms; who is here has imported it

        reading = {index for index, _ in self._readers.values()}
        for index in self._live:
            if index not in reading:
                timeout = self._tries[index].request.timeout
                reader = asyncio.ensure_future(self._runner.process.recv(self._handles[index], timeout=timeout))
                reader.add_done_callback(_noticed)
                self._readers[reader] = index, self._count
        done, _ = await asyncio.wait(self._readers, return_when=asyncio.FIRST_COMPLETED)
        return [reader for reader in sorted(self._readers, key=self._readers.__getitem__) if reader in done]

    async def _read(self, reader: asyncio.Task[Any]) -> Piece | None:
        """Take what *reader* has; the time of one that waited in vain counts only if no other task had an event."""
        index, before = self._readers.pop(reader)
        error = reader.exception()
        if isinstance(error, DeadlineExceeded):
            if self._count == before:
                raise error
            return None
        self._count += 1
        event = reader.result().body if error is None else error
        if not self._again(index, event):
            return self._take(index, event)
        with self._trying():
            self._handles[index] = await self._runner.begin(self._tries[index])
        return None


def _noticed(reader: asyncio.Task[Any]) -> None:
    """Look at the exception of a reader that nobody asks any more; the loop would complain."""
    if not reader.cancelled():
        reader.exception()
