"""A process at a kernel elsewhere: the four system calls, with the names and the errors of the one in this process."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Self, cast

import attrs

from llmos import wire
from llmos._dialing import Address
from llmos._link import Dial, Link
from llmos_kernel import Process
from llmos_kernel.api import Credentials, Memory, Message, Principal, Receipt, Right, Task
from llmos_kernel.errors import HandleRevoked, InvalidArgument, PermissionDenied


class RemoteHandle:
    """As a `Handle` of the kernel: a process's authority over one resource.  Closing it gives the resource back."""

    def __init__(self, link: Link, facts: wire.HandleFacts, parent: RemoteHandle | None = None) -> None:
        self._link, self._facts, self._parent = link, facts, parent
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._facts.id}>"

    def told(self, link: Link) -> wire.HandleFacts:
        """Return what names the handle at the server that *link* leads to."""
        if link is not self._link:
            raise PermissionDenied("the handle belongs to another process", action="use", right="owner")
        return wire.HandleFacts(self._facts.id)

    def _known(self) -> wire.HandleFacts:
        if self._parent is not None:
            _ = self._parent._known()  # noqa: SLF001 - what a handle is derived from revokes it
        if not self._open or self._link.lost(self._facts.id):
            raise HandleRevoked("the handle was closed, revoked or transferred")
        return self._facts

    @property
    def rights(self) -> Right:
        """What it may be used for; raises `HandleRevoked` when it is no longer valid."""
        return Right(self._known().rights)

    @property
    def kind(self) -> str:
        """What it refers to: ``port``, ``model``, ``context`` or ``task``."""
        return self._known().kind

    def narrow(self, rights: Right) -> RemoteHandle:
        """Return a child with only *rights*; it is revoked with this one.  Needs the right DUPLICATE."""
        have = self.rights
        if not have & Right.DUPLICATE:
            message = "the handle lacks the right to be duplicated"
            raise PermissionDenied(message, action="grant", right="DUPLICATE")
        if rights & ~(have | (Right.SEND_ONCE if have & Right.SEND else Right(0))) or not rights:
            expected = f"some of {have!r}"
            message = f"rights must be {expected}, not {Right(rights)!r}"
            raise InvalidArgument(message, field="rights", value=rights, expected=expected)
        child = next(self._link.children)
        self._link.tell(self._link.narrow, self._facts.id, child, int(rights))
        return RemoteHandle(self._link, wire.HandleFacts(child, self._facts.kind, int(rights)), self)

    def duplicate(self) -> RemoteHandle:
        """Return a child with the same rights."""
        return self.narrow(self.rights)

    def close(self) -> None:
        """Give the resource back and revoke what was derived from it.  Closing twice is not an error."""
        self._open = False
        self._link.tell(self._link.close, self._facts.id)


class RemoteReplyHandle(RemoteHandle):
    """What ``alloc(Reply())`` returns: receive from it, transfer its `sender`."""

    def __init__(self, link: Link, facts: wire.HandleFacts) -> None:
        super().__init__(link, facts)
        self.sender = RemoteHandle(link, wire.HandleFacts(facts.sender, rights=Right.SEND_ONCE | Right.TRANSFER))
        """The single-use right to send."""


class RemoteTaskHandle(RemoteHandle):
    """A scheduled task.  Closing it cancels the task; dropping it lets the task run to its end unread."""

    def __init__(self, link: Link, facts: wire.HandleFacts) -> None:
        super().__init__(link, facts)
        self.id: int = facts.task
        self.model: str = facts.model
        """The name of the model that serves it, also where a router chose."""

    def __del__(self) -> None:
        self._link.tell(self._link.close, self._facts.id, "forgotten")

    def cancel(self) -> None:
        """End the task with `Cancelled` unless it has ended."""
        self._link.tell(self._link.close, self._facts.id, "ended")


class _Calls:
    """What both faces of a remote process share."""

    def __init__(self, link: Link) -> None:
        self._link = link

        rights = Right.SEND | Right.RECV | Right.DUPLICATE
        self.mailbox = RemoteHandle(link, wire.HandleFacts(wire.MAILBOX, rights=rights))
        """Where messages to this process arrive."""
        self.control = RemoteHandle(link, wire.HandleFacts(wire.CONTROL, rights=Right.SEND))
        """Send-only: the kernel's control port."""

    @property
    def principal(self) -> Principal:
        """Who this process is, as the server says; waits until it has said it."""
        found: Principal = wire.unpack(self._link.opened.result().principal, lambda _: None)
        return found

    def close(self) -> None:
        """Cancel the tasks, close the ports and revoke the handles of this process.  Twice is not an error."""
        self._link.leave()

    def _alloc(self, request: object, timeout: float | None) -> Future[Any]:
        if isinstance(request, Memory):
            expected = "Port, Reply, Model or Context"
            message = f"shared memory does not reach another machine; a remote client may ask for {expected}"
            raise InvalidArgument(message, field="request", value="Memory", expected=expected)
        body = self._packed((request,))
        return self._link.submit(lambda: self._link.call("alloc", body, timeout), _undo)

    def _schedule(self, task: object, timeout: float | None) -> Future[Any]:
        if isinstance(task, Task) and task.kind == "call" and callable(task.input):
            task = attrs.evolve(task, input=wire.reference(task.input))
        body = self._packed((task,))
        return self._link.submit(lambda: self._link.call("schedule", body, timeout), _undo)

    def _send(self, to: object, body: object, handles: Iterable[Any], timeout: float | None) -> Future[Any]:
        moving = tuple(handles)
        packed = self._packed((to, body, moving))

        async def send() -> Receipt:
            receipt: Receipt = await self._link.call("send", packed, timeout)
            for handle in moving:
                self._link.moved(handle.told(self._link).id)
            return receipt

        return self._link.submit(send, _undo)

    def _recv(self, source: RemoteHandle | None, timeout: float | None) -> tuple[Future[Any], int]:
        id = (self.mailbox if source is None else source).told(self._link).id
        undo = functools.partial(self._link.unread, id)
        return self._link.submit(lambda: self._link.recv(id, timeout), undo), id

    def _packed(self, value: object) -> Any:  # noqa: ANN401 - plain values
        return wire.pack(value, self._told)

    def _told(self, value: object) -> wire.HandleFacts | None:
        return value.told(self._link) if isinstance(value, RemoteHandle) else None


class RemoteProcess(_Calls):
    """The four system calls for threads, at a kernel elsewhere."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def aio(self) -> AsyncRemoteProcess:
        """The same seat for asyncio."""
        return AsyncRemoteProcess(self._link)

    def alloc(self, request: object, *, timeout: float | None = None) -> Any:  # noqa: ANN401 - a handle
        """As `Process.alloc`."""
        return _wait(self._alloc(request, timeout))

    def schedule(self, task: Task, *, timeout: float | None = None) -> RemoteTaskHandle:
        """As `Process.schedule`."""
        handle: RemoteTaskHandle = _wait(self._schedule(task, timeout))
        return handle

    def send(self, to: object, body: object, handles: Iterable[Any] = (), *, timeout: float | None = None) -> Receipt:
        """As `Process.send`."""
        receipt: Receipt = _wait(self._send(to, body, handles, timeout))
        return receipt

    def recv(self, source: RemoteHandle | None = None, *, timeout: float | None = None) -> Message:
        """As `Process.recv`."""
        future, id = self._recv(source, timeout)
        message: Message = _wait(future, lambda late: self._link.tell(self._link.unread, id, late))
        return message


class AsyncRemoteProcess(_Calls):
    """As `RemoteProcess`, with coroutines.  Cancelling a call cancels only that call."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def alloc(self, request: object, *, timeout: float | None = None) -> Any:  # noqa: ANN401 - a handle
        """As `Process.alloc`."""
        return await _awaited(self._alloc(request, timeout))

    async def schedule(self, task: Task, *, timeout: float | None = None) -> RemoteTaskHandle:
        """As `Process.schedule`."""
        handle: RemoteTaskHandle = await _awaited(self._schedule(task, timeout))
        return handle

    async def send(
        self, to: object, body: object, handles: Iterable[Any] = (), *, timeout: float | None = None
    ) -> Receipt:
        """As `Process.send`."""
        receipt: Receipt = await _awaited(self._send(to, body, handles, timeout))
        return receipt

    async def recv(self, source: RemoteHandle | None = None, *, timeout: float | None = None) -> Message:
        """As `Process.recv`."""
        future, id = self._recv(source, timeout)
        message: Message = await _awaited(future, lambda late: self._link.tell(self._link.unread, id, late))
        return message


def _undo(value: object) -> None:
    if isinstance(value, RemoteHandle):
        value.close()


def _wait(future: Future[Any], undo: Any = _undo) -> Any:  # noqa: ANN401
    try:
        return future.result()
    except BaseException:  # an interrupt, for instance
        _give_up(future, undo)
        raise


async def _awaited(future: Future[Any], undo: Any = _undo) -> Any:  # noqa: ANN401
    try:
        return await asyncio.wrap_future(future)
    except BaseException:
        _give_up(future, undo)
        raise


def _give_up(future: Future[Any], undo: Any) -> None:  # noqa: ANN401
    """Cancel what nobody waits for, or undo what it brought meanwhile."""
    if not future.cancel() and future.exception() is None:
        undo(future.result())


class Remote:
    """A kernel elsewhere, as far as clients know kernels: something to attach to."""

    def __init__(self, address: str, token: str | None, dial: Dial | None = None) -> None:
        where = Address(address)
        dial = dial or functools.partial(where.dial, token)
        self._link = Link(dial, address, self._handle)
        self._process = RemoteProcess(self._link)

    @property
    def timeout(self) -> float:
        """Seconds after which a call without a timeout gives up."""
        return self._link.opened.result().timeout

    def attach(self, credentials: Credentials | None) -> Process:
        """Return the process.  Who it is follows from the key, so *credentials* are refused."""
        if credentials is not None:
            message = "credentials are for a kernel in this process; a server knows who comes by the key, token="
            raise InvalidArgument(message, field="credentials", value="given", expected="a token")
        return cast("Process", self._process)  # the same methods; what carries them is all that differs

    def release(self) -> None:
        """End the session, and wait until the server has taken it away."""
        self._link.leave()
        self._link.join()

    def _handle(self, facts: wire.HandleFacts) -> RemoteHandle:
        kinds = RemoteTaskHandle if facts.task else RemoteReplyHandle if facts.sender else RemoteHandle
        return kinds(self._link, facts)
