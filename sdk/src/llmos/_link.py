"""A client's session at a server: over one connection at a time, in an event loop of its own thread.

Callers are threads or coroutines of other loops.  They hand a coroutine in and get a `concurrent.futures.Future`, so
both faces of a remote process wait for the same thing.  Whoever gives up takes nothing: what came too late is undone in
the loop, or by the caller, whoever has it.  Everything else here is touched by the loop alone.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Literal

import attrs
import msgspec

from llmos import wire
from llmos_kernel.api import MAX_SECONDS, Done, Failed, Message, check_number
from llmos_kernel.errors import (
    DeadlineExceeded,
    HandleRevoked,
    InvalidArgument,
    KernelBug,
    KernelError,
    KernelStopped,
    PortBroken,
)

Dial = Callable[[], Awaitable[wire.Connection]]
"""Makes a connection; raises `PortBroken` where nobody answers, another `KernelError` where somebody refuses."""
GREETING = 10.0
"""Seconds in which a server has to say welcome."""
LEAVING = 2.0
"""Seconds in which a server has to take a session away."""
_FIRST, _LONGEST = 0.02, 1.0
"""Seconds between two attempts to connect again: they double, up to the second."""


@attrs.define(eq=False)
class _Source:
    """What came to a handle and was not read yet, and who waits for more."""

    streams: bool
    """Whether more is asked for before somebody waits: of tasks that have not ended."""
    asked: int = 0
    """Messages that were asked for and have not come."""
    messages: deque[Message] = attrs.field(factory=deque)
    waiting: deque[asyncio.Future[Message]] = attrs.field(factory=deque)
    error: KernelError | None = None
    """Why nothing comes."""


class Link:
    """One session.  *make* turns what is told of a handle into the handle."""

    def __init__(self, dial: Dial, name: str, make: Callable[[wire.HandleFacts], object]) -> None:
        self._dial, self._name, self._make = dial, name, make
        self._gate = threading.RLock()  # reentrant: a finalizer may interrupt whoever holds it
        self._over: KernelError | None = None
        self._pid = os.getpid()
        self._ids = 0
        self.children = itertools.count(wire.CHILDREN)
        """The numbers of handles that are made here."""
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._sources: dict[int, _Source] = {}
        self._moved: set[int] = set()
        """Handles that were given away."""
        self._connection: wire.Connection | None = None
        self._job: asyncio.Task[KernelError] | None = None
        self._line: wire.Line[Any] = wire.Line(msgspec.msgpack.Decoder(wire.FromServer))
        self._leaving = False
        self._begun = asyncio.Event()
        """Set when the server has answered, one way or the other."""
        self.opened: Future[wire.Welcome] = Future()
        """The server's welcome, or why there is none."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="llmos-remote", daemon=True)
        self._thread.start()

    # --- from any thread ---------------------------------------------------------------------------------------------

    def submit(self, job: Callable[[], Coroutine[Any, Any, Any]], undo: Callable[[Any], object]) -> Future[Any]:
        """Run *job* in the loop.  What it returns to nobody, because the future was cancelled, is given to *undo*."""
        future: Future[Any] = Future()
        with self._gate:
            if self._pid != os.getpid():
                raise KernelStopped("this process was forked from the one that the client is of", state="forked")
            if self._over is not None:
                raise self._over
            self._loop.call_soon_threadsafe(self._begin, future, job, undo)
        return future

    def tell(self, job: Callable[..., object], *args: object) -> None:
        """Run a plain function in the loop, unless it has ended."""
        with self._gate:
            if self._over is None and self._pid == os.getpid():
                self._loop.call_soon_threadsafe(job, *args)

    def leave(self) -> None:
        """End the session; `join` waits for it.  Twice is not an error."""
        self.tell(self._leave)

    def join(self) -> None:
        """Wait until the session has ended."""
        if self._pid == os.getpid() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _begin(
        self, future: Future[Any], job: Callable[[], Coroutine[Any, Any, Any]], undo: Callable[[Any], object]
    ) -> None:
        task = self._loop.create_task(self._finish(future, job, undo))
        future.add_done_callback(lambda done: self.tell(task.cancel) if done.cancelled() else None)

    async def _finish(
        self, future: Future[Any], job: Callable[[], Coroutine[Any, Any, Any]], undo: Callable[[Any], object]
    ) -> None:
        try:
            value = await job()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        else:
            if future.set_running_or_notify_cancel():
                future.set_result(value)
            else:
                undo(value)

    # --- the session -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        self._job = self._loop.create_task(self._session())
        try:
            error = await self._job
        except asyncio.CancelledError:
            error = _closed()
        except Exception as failure:  # noqa: BLE001 - whoever waits has to be told
            error = KernelBug(f"the link to {self._name} failed: {failure!r}")
        self._end(error)
        await self._hang_up()
        await asyncio.sleep(0)  # those that were handed in just before are tasks now, and find that it is over
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _session(self) -> KernelError:
        """Connect, and return why it is over."""
        if self._leaving:
            return _closed()
        try:
            welcome = await self._connect("")
        except KernelError as error:
            return error
        for id in wire.BORN:
            self._sources[id] = _Source(streams=False)
        if not self.opened.done():  # it was not left meanwhile
            self.opened.set_result(welcome)
        self._begun.set()
        return await self._talk(welcome)

    async def _talk(self, welcome: wire.Welcome) -> KernelError:
        """Hear what the server says until it is over; return why."""
        while True:
            try:
                await self._line.carry(self._connected(), self._hear)
            except PortBroken:
                if self._leaving:
                    return _closed()
            except KernelError as error:
                return error
            finally:
                await self._hang_up()
            try:
                await self._again(welcome)
            except KernelError as error:
                return _closed() if self._leaving else error

    def _connected(self) -> wire.Connection:
        if self._connection is None:
            raise PortBroken(f"there is no connection to {self._name}", address=self._name)
        return self._connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connect(self, session: str) -> wire.Welcome:
        connection = await self._dial()
        try:
            hello = wire.Hello(version=wire.VERSION, session=session, seen=self._line.seen)
            async with asyncio.timeout(GREETING):
                await connection.send(wire.encode(hello))
                welcome = wire.decode(await connection.recv(), msgspec.msgpack.Decoder(wire.FromServer))
            if isinstance(welcome, wire.Refused):
                raise self._error(welcome.error)
            if not isinstance(welcome, wire.Welcome):
                raise InvalidArgument.of("frame", type(welcome).__name__, "a welcome")
            self._line.rewind(welcome.seen)
        except TimeoutError as error:
            await connection.close()
            if isinstance(error, KernelError):
                raise
            raise PortBroken(f"{self._name} did not answer for {GREETING:g} s", address=self._name) from None
        except BaseException:
            await connection.close()
            raise
        self._connection, self._line.limit = connection, welcome.frame
        return welcome

    async def _again(self, welcome: wire.Welcome) -> None:
        """Go on with the session over a new connection, as long as the server keeps it."""
        until, pause = self._loop.time() + welcome.grace, _FIRST
        while not self._leaving:
            try:
                await self._connect(welcome.session)
            except PortBroken as error:
                if self._loop.time() + pause > until:
                    message = f"the connection to {self._name} broke and could not be made again: {error.message}"
                    raise PortBroken(message, address=self._name) from error
            else:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come at once
            pause = min(2 * pause, _LONGEST)
        raise _closed()

    def _leave(self) -> None:
        self._leaving = True
        self._end(_closed())
        self._line.put(wire.Leave())
        if self._job is not None:
            self._loop.call_later(0 if self._connection is None else LEAVING, self._job.cancel)

    def _end(self, error: KernelError) -> None:
        """Tell everybody who waits, and whoever will ask."""
        with self._gate:
            self._over = self._over or error
        if not self.opened.done():
            self.opened.set_exception(self._over)
        self._begun.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        for source in self._sources.values():
            self._stop(source, error)

    # --- what the server says ----------------------------------------------------------------------------------------

    def _hear(self, frame: object) -> None:
        match frame:
            case wire.Reply(id=id, value=value):
                self._reply(id, value)
            case wire.Event(handle=id, value=value):
                self._event(id, value)
            case wire.Refused(error=error):
                raise self._error(error)
            case wire.Welcome():
                raise InvalidArgument.of("frame", "welcome", "the first frame only")

    def _error(self, plain: object) -> KernelError:
        error = wire.unpack(plain, self._take)
        return error if isinstance(error, KernelError) else InvalidArgument.of("error", plain, "an error")

    def _take(self, facts: wire.HandleFacts) -> object:
        """Make the handle that the server tells of, and know it from now on."""
        window = self.opened.result().window if facts.task else 0
        self._sources[facts.id] = _Source(bool(facts.task), window)
        if facts.sender:
            self._sources[facts.sender] = _Source(streams=False)
        return self._make(facts)

    def _reply(self, id: int, plain: object) -> None:
        value, answer = wire.unpack(plain, self._take), self._answers.pop(id, None)
        if answer is None or answer.done():
            self._undo(value)
        elif isinstance(value, KernelError):
            answer.set_exception(value)
        else:
            answer.set_result(value)

    def _undo(self, value: object) -> None:
        if hasattr(value, "close"):
            value.close()

    def _event(self, id: int, plain: object) -> None:
        value, source = wire.unpack(plain, self._take), self._sources.get(id)
        if source is None:
            return
        if isinstance(value, KernelError):
            source.streams, source.asked = False, 0
            self._stop(source, value)
            source.error = None  # who asks again is told again
            return
        source.asked = max(0, source.asked - 1)
        if isinstance(value.body, Done | Failed):
            source.streams, source.asked = False, 0
        self._deliver(source, value)

    def _deliver(self, source: _Source, message: Message) -> None:
        while source.waiting:
            waiter = source.waiting.popleft()
            if not waiter.done():
                waiter.set_result(message)
                return
        source.messages.append(message)

    @staticmethod
    def _stop(source: _Source, error: KernelError) -> None:
        source.error = error
        while source.waiting:
            waiter = source.waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    # --- the calls, in the loop --------------------------------------------------------------------------------------

    async def call(self, name: Literal["alloc", "schedule", "send"], body: object, timeout: float | None) -> Any:  # noqa: ANN401
        """Make a call and return its answer."""
        seconds = await self._seconds(timeout)
        self._ids += 1
        id, answer = self._ids, self._loop.create_future()
        self._answers[id] = answer
        try:
            self._line.put(wire.Call(id=id, name=name, body=body, timeout=seconds))
        except BaseException:
            del self._answers[id]
            raise
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, KernelError):  # the server's own
                raise
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._undo(answer.result())
            elif self._answers.pop(id, None) is not None and self._over is None:
                self._line.put(wire.Cancel(id=id))
            if isinstance(error, TimeoutError):
                raise _too_late(seconds) from None
            raise

    async def recv(self, id: int, timeout: float | None) -> Message:
        """Return the next message of a handle."""
        seconds = await self._seconds(timeout)
        source = self._source(id)
        waiter: asyncio.Future[Message] = self._loop.create_future()
        if source.messages:
            message = source.messages.popleft()
            self._ask(id, source)
            return message
        source.waiting.append(waiter)
        self._ask(id, source)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, KernelError):
                raise
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.unread(id, waiter.result())
            waiter.cancel()
            if isinstance(error, TimeoutError):
                raise _too_late(seconds) from None
            raise

    def unread(self, id: int, message: Message) -> None:
        """Put a message back that nobody got: the next who reads has it."""
        source = self._sources.get(id)
        if source is not None:
            source.messages.appendleft(message)
            if any(not waiter.done() for waiter in source.waiting):
                self._deliver(source, source.messages.popleft())

    def _ask(self, id: int, source: _Source) -> None:
        """Ask for as many messages as somebody waits for, and of a task for a window of them."""
        waiting = sum(not waiter.done() for waiter in source.waiting)
        want = max(0, waiting - source.asked)
        window = self.opened.result().window
        if source.streams and source.asked + len(source.messages) <= window // 2:
            want = window - source.asked - len(source.messages)
        if want:
            source.asked += want
            self._line.put(wire.Credit(handle=id, count=want))

    def _source(self, id: int) -> _Source:
        source = self._sources.get(id)
        if self._over is not None:
            raise self._over
        if source is None:
            raise _revoked()
        return source

    async def _seconds(self, timeout: float | None) -> float:
        """Wait until the session has begun, and return how long a call may take."""
        await self._begun.wait()
        if self._over is not None:
            raise self._over
        if timeout is None:
            return self.opened.result().timeout
        check_number("timeout", timeout, 0, MAX_SECONDS, whole=False)
        return timeout

    def close(self, id: int, how: Literal["closed", "forgotten", "ended"] = "closed") -> None:
        """Close a handle, forget it, or end its task."""
        if how == "ended":
            if id in self._sources:
                self._line.put(wire.Close(handle=id, how=how))
            return
        source = self._sources.pop(id, None)
        if source is not None:
            self._stop(source, _revoked())
            self._line.put(wire.Close(handle=id, how=how))

    def narrow(self, id: int, child: int, rights: int) -> None:
        """Make a child of a handle; where that has gone meanwhile, its use says so."""
        self._sources[child] = _Source(streams=False)
        self._line.put(wire.Narrow(handle=id, child=child, rights=rights))

    def lost(self, id: int) -> bool:
        """Return whether a handle is somebody else's now, or the session is over.  Any thread."""
        return self._over is not None or id in self._moved

    def moved(self, id: int) -> None:
        """Note that a handle is somebody else's now."""
        self._moved.add(id)
        if (source := self._sources.pop(id, None)) is not None:
            self._stop(source, _revoked())


def _too_late(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"nothing happened for {seconds} s", seconds=seconds)


def _closed() -> HandleRevoked:
    return HandleRevoked("the process is closed")


def _revoked() -> HandleRevoked:
    return HandleRevoked("the handle was closed, revoked or transferred")
