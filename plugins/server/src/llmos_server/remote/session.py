"""A remote client's session: a process at the kernel, and the handles that the client knows by number.

The process is the session's own, so that taking it away gives back everything that the client held.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from llmos import AsyncClient
from llmos.wire import (
    Call, Cancel, Close, Connection, Credit, Event, FromClient, HandleFacts, Hello, Leave, Line, Narrow, Refused, Reply,
    Welcome, encode, pack, unpack,
)  # fmt: skip
from llmos_kernel import Done, Failed, Handle, MemoryHandle, Message, ReplyHandle, Task, TaskHandle, control
from llmos_kernel.api import MAX_SECONDS, Memory, Right, check_type
from llmos_kernel.errors import (
    Cancelled, HandleRevoked, InvalidArgument, KernelBug, KernelError, KernelStopped, Overloaded, PermissionDenied,
    PortBroken,
)  # fmt: skip
from llmos_server.options import ServerOptions

WINDOW = 64
"""Events of a task that are sent before the client says that it has read some."""
CALLS = 1024
"""Calls of one session that may be under way."""
FAREWELL = 1.0
"""Seconds in which a client has to take the last word."""
HANDLES = 2**18
"""Handles that one session may hold."""
MANAGING = (control.AddModel, control.Drain, control.Reload)
"""Control messages that change what everybody gets; from elsewhere they need the scope ``operator``.

With a key `UnloadModel` does too; who needs no key is on this machine, and may.
"""
OPERATOR = "operator"


class Left(Exception):
    """The client is done."""


@attrs.define
class _Source:
    """What is read for the client, and how many more messages it takes."""

    handle: Handle
    credits: int = 0
    pump: asyncio.Task[None] | None = None
    awaited: bool = False
    """Whether it is a task whose end the client was not told yet."""


class Session:
    """One remote client, over one connection after the other."""

    def __init__(self, name: str, owner: str, client: AsyncClient, options: ServerOptions) -> None:
        self.name, self.owner, self._client, self._options = name, owner, client, options
        self.leaving = False
        """Whether the server is about to stop: no more tasks are taken."""
        self._process = client.process
        self._line: Line[Any] = Line(msgspec.msgpack.Decoder(FromClient))
        self._line.limit = 2 * options.body  # an answer may hold what was asked and more
        self._sources: dict[int, _Source] = {}
        self._next = 1
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._connection: Connection | None = None
        for handle in (self._process.mailbox, self._process.control):  # `wire.BORN`
            self._put(handle)

    async def serve(self, connection: Connection, hello: Hello) -> None:
        """Go on over *connection*; raises `PortBroken` when it breaks, and `Left` when the client leaves."""
        before, self._connection = self._connection, connection
        if before is not None:
            await before.close()
        self._line.rewind(hello.seen)
        await connection.send(encode(self._welcome()))
        await self._line.carry(connection, self._hear)

    async def refuse(self, error: KernelError) -> None:
        """Tell the client, if it is there, why the session ends."""
        if self._connection is not None:
            await refuse(self._connection, error)

    def carried_by(self, connection: Connection) -> bool:
        """Return whether *connection* is the latest one."""
        return self._connection is connection

    def _welcome(self) -> Welcome:
        options = self._options
        return Welcome(
            session=self.name, seen=self._line.seen, grace=options.grace, timeout=self._client.timeout, window=WINDOW,
            frame=options.body, principal=pack(self._process.principal, self._put),
        )  # fmt: skip

    @property
    def busy(self) -> bool:
        """Whether the client, if it is there, waits for something."""
        waits = bool(self._calls) or self._line.unsent or any(one.awaited for one in self._sources.values())
        return waits and self._connection is not None

    async def close(self) -> None:
        """Cancel what runs, give everything back, and end the connection."""
        jobs = [*self._calls.values(), *(one.pump for one in self._sources.values() if one.pump is not None)]
        for job in jobs:
            job.cancel()
        self._sources.clear()
        await self._client.close()
        if jobs:
            await asyncio.wait(jobs)
        if self._connection is not None:
            await self._connection.close()

    # --- handles -----------------------------------------------------------------------------------------------------

    def _put(self, value: object) -> HandleFacts | None:
        """Give a handle a number that the client knows it by."""
        if not isinstance(value, Handle):
            return None
        if isinstance(value, MemoryHandle):
            raise _no_memory()
        if len(self._sources) >= HANDLES:
            raise Overloaded(f"the client holds {HANDLES} handles: close some", retry_after=1.0)
        id, self._next = self._next, self._next + 1
        self._sources[id] = _Source(value)
        task, model = (value.id, value.model) if isinstance(value, TaskHandle) else (0, "")
        if task:
            self._sources[id].awaited = True
            self._credit(id, WINDOW)
        sender = self._put(value.sender) if isinstance(value, ReplyHandle) else None
        return HandleFacts(id, value.kind, int(value.rights), task, model, 0 if sender is None else sender.id)

    def _take(self, facts: HandleFacts) -> Handle:
        source = self._sources.get(facts.id)
        if source is None:
            raise HandleRevoked("the handle was closed, revoked or transferred")
        return source.handle

    # --- what the client says ----------------------------------------------------------------------------------------

    def _hear(self, frame: object) -> None:
        match frame:
            case Call():
                self._call(frame)
            case Credit(handle=id, count=count):
                self._credit(id, count)
            case Cancel(id=id):
                if (job := self._calls.get(id)) is not None:
                    job.cancel()
            case Close(handle=id, how=how):
                self._close(id, how)
            case Narrow(handle=id, child=child, rights=rights):
                self._narrow(id, child, rights)
            case Leave():
                raise Left
            case Hello():
                raise InvalidArgument.of("frame", "hello", "the first frame only")

    def _call(self, call: Call) -> None:
        if call.id in self._calls:
            raise InvalidArgument.of("id", call.id, "a number that no other call has")
        if len(self._calls) >= CALLS:
            self._say(lambda value: Reply(id=call.id, value=value), Overloaded(f"{CALLS} calls wait", retry_after=1.0))
            return
        job = asyncio.ensure_future(self._answer(call))
        self._calls[call.id] = job
        job.add_done_callback(lambda done: self._calls.pop(call.id, None))

    async def _answer(self, call: Call) -> None:
        value: object
        try:
            value = await self._do(call.name, unpack(call.body, self._take), call.timeout)
        except KernelError as error:
            value = error
        except asyncio.CancelledError:
            value = Cancelled("nobody waits for the answer")
        except Exception as error:  # noqa: BLE001 - the client is told what it can be told
            value = KernelBug(f"{type(error).__name__} in {call.name}")
        self._say(lambda plain: Reply(id=call.id, value=plain), value)

    async def _do(self, name: str, arguments: Any, timeout: float | None) -> Any:  # noqa: ANN401
        if not isinstance(arguments, tuple) or len(arguments) != (3 if name == "send" else 1):
            raise InvalidArgument.of("body", type(arguments).__name__, f"the arguments of {name}")
        process = self._process
        if name == "alloc":
            if isinstance(arguments[0], Memory):
                raise _no_memory()
            return await process.alloc(arguments[0], timeout=timeout)
        if name == "schedule":
            check_type("task", arguments[0], Task, "a Task")
            if self.leaving:
                raise KernelStopped("the server is stopping, and takes no more tasks", state="draining")
            return await process.schedule(self._checked(arguments[0]), timeout=timeout)
        to, body, handles = arguments
        managing = isinstance(body, MANAGING) or (bool(self.owner) and isinstance(body, control.UnloadModel))
        if managing and OPERATOR not in process.principal.scopes:
            message = f"{type(body).__name__} from another process needs a key with the scope {OPERATOR}"
            raise PermissionDenied(message, action=f"control.{type(body).__name__}", right=OPERATOR)
        return await process.send(to, body, handles, timeout=timeout)

    def _checked(self, task: Task) -> Task:
        """Return *task*, ending when the server says at the latest; refuse functions that are not offered."""
        if task.kind == "call" and task.target is None and not self._options.offers(task.input):
            message = f"the server offers no function {task.input!r:.80} to clients elsewhere"
            raise PermissionDenied(message, action="call", right="functions")
        most = self._options.seconds
        return attrs.evolve(task, deadline=most if task.deadline is None else min(task.deadline, most))

    def _credit(self, id: int, count: int) -> None:
        source = self._sources.get(id)
        if source is None:
            self._say(lambda plain: Event(handle=id, value=plain), _revoked())
            return
        source.credits = min(source.credits + count, 2**20)
        if source.pump is None or source.pump.done():
            source.pump = asyncio.ensure_future(self._pump(id, source))

    def _narrow(self, id: int, child: int, rights: int) -> None:
        if child in self._sources:
            raise InvalidArgument.of("child", child, "a number that no other handle has")
        source = self._sources.get(id)
        if source is None or len(self._sources) >= HANDLES or rights > int(max(Right)) * 2:
            return  # the client hears of it where it uses the child
        with contextlib.suppress(KernelError):  # the same
            self._sources[child] = _Source(source.handle.narrow(Right(rights)))

    def _close(self, id: int, how: str) -> None:
        source = self._sources.get(id)
        if source is None:
            return
        if how == "ended":
            if isinstance(source.handle, TaskHandle):
                source.handle.cancel()
            return
        del self._sources[id]
        if source.pump is not None:
            source.pump.cancel()
        if how == "closed":
            source.handle.close()

    # --- what the client is told -------------------------------------------------------------------------------------

    async def _pump(self, id: int, source: _Source) -> None:
        """Send what comes to a handle, as long as the client takes it."""
        try:
            while source.credits:
                await self._line.room()
                message = await self._process.recv(source.handle, timeout=MAX_SECONDS)
                source.credits -= 1
                if isinstance(message.body, Done | Failed):
                    source.credits, source.awaited = 0, False
                self._tell(id, message)
        except KernelError as error:
            source.credits, source.awaited = 0, False
            self._say(lambda plain: Event(handle=id, value=plain), error)

    def _tell(self, id: int, message: Message) -> None:
        self._say(lambda plain: Event(handle=id, value=plain), message)

    def _say(self, make: Callable[[Any], Reply | Event], value: object) -> None:
        """Send *value*, or why it cannot be sent."""
        try:
            self._line.put(make(pack(value, self._put)))
        except KernelError as error:
            told: object = error
            body = value.body if isinstance(value, Message) else None
            if isinstance(value, Message) and isinstance(body, Done | Failed):  # it is the last that is heard of it
                told = attrs.evolve(value, body=Failed(body.task, error, "", body.usage))
            self._line.put(make(pack(told, self._put)))


async def refuse(connection: Connection, error: KernelError) -> None:
    """Say why the connection ends, if that can still be said."""
    with contextlib.suppress(PortBroken, TimeoutError):  # who does not hear it finds the connection ended
        async with asyncio.timeout(FAREWELL):
            await connection.send(encode(Refused(error=pack(error, lambda _: None))))


def _no_memory() -> InvalidArgument:
    expected = "Port, Reply, Model or Context"
    message = f"shared memory does not reach another machine; a remote client may ask for {expected}"
    return InvalidArgument(message, field="request", value="Memory", expected=expected)


def _revoked() -> HandleRevoked:
    return HandleRevoked("the handle was closed, revoked or transferred")
