"""A process: a principal's seat at the kernel, from which it makes the four system calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from llmos_kernel._core import ALL, Core, Seat
from llmos_kernel._handles import Handle, ReplyHandle, TaskHandle
from llmos_kernel._models import CALL, Served
from llmos_kernel._waiting import WaitList
from llmos_kernel.api import (
    MAX_SECONDS, Auto, Context, Memory, Message, Model, Port, Principal, Receipt, Reply, Right, Task, check_number,
    check_type,
)  # fmt: skip
from llmos_kernel.services import Router
from llmos_kernel.errors import InvalidArgument, KernelError, PluginFailed, PluginMissing, WouldBlock

if TYPE_CHECKING:
    from llmos_kernel.aio import AsyncProcess

Attempt = tuple[Callable[..., Any], tuple[Any, ...]]


class Calls:
    """What both faces of a process share: checks and policies, which come before the attempt under the lock."""

    def __init__(self, core: Core, seat: Seat, mailbox: Handle, control: Handle) -> None:
        self._core, self._seat = core, seat
        self.mailbox = mailbox
        """Where messages to this process arrive; hand out children of it that can send."""
        self.control = control
        """Send-only: the kernel's control port."""

    @property
    def principal(self) -> Principal:
        """Who this process is."""
        return self._seat.principal

    def close(self) -> None:
        """Cancel the tasks, close the ports and revoke the handles of this process.  Twice is not an error."""
        self._core.close_seat(self._seat)

    def _alloc(self, request: object) -> Attempt:
        core, seat = self._core, self._seat
        check_type("request", request, (Memory, Port, Reply, Model, Context), "Memory, Port, Reply, Model or Context")
        match request:
            case Memory(nbytes):
                core.allow(seat.principal, "alloc", "memory", {"nbytes": nbytes})
                return core.alloc_memory, (seat, nbytes)
            case Port(capacity):
                core.allow(seat.principal, "alloc", "port", {"capacity": capacity})
                return core.alloc_port, (seat, capacity, ALL)
            case Model(name, pinned):
                core.demand_running()
                served = core.models.find(name)
                core.allow(seat.principal, "alloc", f"model:{served.name}", {"pinned": pinned})
                return core.alloc_model, (seat, served, pinned, {})
            case Context(model, tokens):
                served, _ = self._target(model)
                core.allow(seat.principal, "alloc", f"context:{served.name}", {"tokens": tokens})
                return core.alloc_context, (seat, served, *served.open_context(tokens))
        core.allow(seat.principal, "alloc", "reply")
        return self._reply, ()

    def _reply(self) -> Any:  # noqa: ANN401
        core, seat = self._core, self._seat
        root = core.alloc_port(seat, 1, Right.RECV | Right.TRANSFER)
        if root.__class__ is WaitList:
            return root
        entry = core.table.check(seat, root, 0)
        handle = ReplyHandle(seat, entry)
        once = core.table.open(entry.resource, Right.SEND_ONCE | Right.TRANSFER, seat, entry)
        handle.sender = Handle(seat, once)
        return handle

    def _schedule(self, task: object) -> Attempt:
        if not isinstance(task, Task):
            raise InvalidArgument(f"task must be a Task, not {task!r:.80}", field="task", value=task, expected="a Task")
        if task.durable:
            message = "durable tasks need a journal store; install and configure one, or leave durable out"
            raise PluginMissing(message, plugin="store", field="durable")
        core, seat = self._core, self._seat
        served, context = self._target(task.target, task)
        if (task.kind == "call") != (served.name == CALL):
            expected = "kind 'call' without a target, or another kind with a model"
            raise InvalidArgument(f"kind {task.kind!r} does not fit the target; expected {expected}",
                                  field="kind", value=task.kind, expected=expected)  # fmt: skip
        core.allow(seat.principal, "schedule", f"model:{served.name}", {"kind": task.kind, "priority": task.priority})
        return core.schedule, (seat, task, served, context, {})

    def _target(self, target: object, task: Task | None = None) -> tuple[Served, int | None]:
        """Return the model of *target*, and the context where it is one."""
        core = self._core
        core.demand_running()
        if target is None and task is not None and task.kind == "call":
            return core.models.find(CALL), None
        if isinstance(target, str):
            return core.models.find(target), None
        if isinstance(target, Auto) and task is not None:
            router = core.router
            if router is None:
                raise PluginMissing("no router is configured: name the model, or configure one", plugin="router")
            return self._route(router, task.kind, target), None
        if not isinstance(target, Handle):
            expected = "a Model or Context handle, a model's name or Auto"
            message = f"target must be {expected}, not {target!r:.80}"
            raise InvalidArgument(message, field="target", value=target, expected=expected)
        with core.lock:
            resource = core.table.check(self._seat, target, Right.RUN).resource
        return resource.served, resource.id if resource.kind == "context" else None

    def _route(self, router: Router, kind: str, want: Auto) -> Served:
        try:
            return self._core.models.find(router.route(kind, want, self._core.models.candidates(kind)))
        except KernelError:
            raise
        except (Exception, SystemExit) as error:
            name = f"router:{self._core.config.router}"
            raise PluginFailed(f"{name} raised {type(error).__name__}: {error}", plugin=name) from error

    def _send(self, to: Handle, body: object, handles: Iterable[Handle]) -> Attempt:
        handles = tuple(handles)
        if handles and self._core.policies:
            for handle in handles:
                self._core.allow(self._seat.principal, "grant", handle.kind, {"rights": int(handle.rights)})
        return self._core.send, (self._seat, to, body, handles)

    def _recv(self, source: Handle | None) -> Attempt:
        return self._core.recv, (self._seat, self.mailbox if source is None else source)

    def _now(self, attempt: Attempt) -> Any:  # noqa: ANN401
        call, arguments = attempt
        with self._core.lock:
            got = call(*arguments)
        if got.__class__ is WaitList:
            raise WouldBlock("the call could only have waited")
        return got

    def alloc_nowait(self, request: object) -> Handle:
        """As ``alloc``, raising `WouldBlock` instead of waiting."""
        handle: Handle = self._now(self._alloc(request))
        return handle

    def schedule_nowait(self, task: Task) -> TaskHandle:
        """As ``schedule``, raising `WouldBlock` instead of waiting."""
        handle: TaskHandle = self._now(self._schedule(task))
        return handle

    def send_nowait(self, to: Handle, body: object, handles: Iterable[Handle] = ()) -> Receipt:
        """As ``send``, raising `WouldBlock` instead of waiting."""
        receipt: Receipt = self._now(self._send(to, body, handles))
        return receipt

    def recv_nowait(self, source: Handle | None = None) -> Message:
        """As ``recv``, raising `WouldBlock` instead of waiting."""
        message: Message = self._now(self._recv(source))
        return message


class Process(Calls):
    """The four system calls for threads.  Thread-safe; a context manager that closes it.

    Each call ends: with a result or one typed error, at the latest after *timeout* seconds (``KernelConfig.timeout``
    if none is given) with `DeadlineExceeded`.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def aio(self) -> AsyncProcess:
        """The same seat for asyncio."""
        from llmos_kernel.aio import AsyncProcess  # noqa: PLC0415 - asyncio costs 100 ms to import

        return AsyncProcess(self._core, self._seat, self.mailbox, self.control)

    def alloc(self, request: object, *, timeout: float | None = None) -> Handle:
        """Take a resource out of the budget; waits until there is room, or until a model is loaded.

        Raises `BudgetExceeded` if it can never fit, `NotFound`, `ModelUnavailable`, `OutOfMemory`, `PermissionDenied`.
        """
        handle: Handle = self._wait(self._alloc(request), timeout)
        return handle

    def schedule(self, task: Task, *, timeout: float | None = None) -> TaskHandle:
        """Accept *task*; waits only for admission.  Read its events with `recv`."""
        handle: TaskHandle = self._wait(self._schedule(task), timeout)
        return handle

    def send(
        self, to: Handle, body: object, handles: Iterable[Handle] = (), *, timeout: float | None = None
    ) -> Receipt:
        """Put a message on a port; waits while it is full.  *handles* move to the receiver.

        Raises `PortBroken` if nobody is left to read, `HandleRevoked`, `PermissionDenied`, `BudgetExceeded`.
        """
        receipt: Receipt = self._wait(self._send(to, body, handles), timeout)
        return receipt

    def recv(self, source: Handle | None = None, *, timeout: float | None = None) -> Message:
        """Take the next message from a port, the next event from a task, or the next message of the mailbox."""
        message: Message = self._wait(self._recv(source), timeout)
        return message

    def _wait(self, attempt: Attempt, timeout: float | None) -> Any:  # noqa: ANN401
        if timeout is not None:
            check_number("timeout", timeout, 0, MAX_SECONDS, whole=False)
        return self._core.wait(*attempt, timeout)
