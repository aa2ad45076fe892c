"""A process: a principal's seat at the kernel, from which it makes the four system calls."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Self

from llmos_kernel._core import Core, Seat
from llmos_kernel._dispatch import failed
from llmos_kernel._handles import Handle, TaskHandle
from llmos_kernel._models import CALL, Served
from llmos_kernel._waiting import Attempt, T, WaitList
from llmos_kernel.api import (
    Auto, Context, Memory, Message, Model, Port, Principal, Receipt, Reply, Right, Task, check_type,
)  # fmt: skip
from llmos_kernel.services import Router
from llmos_kernel.errors import InvalidArgument, PluginFailed, PluginMissing, WouldBlock

if TYPE_CHECKING:
    from llmos_kernel.aio import AsyncProcess


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

    def _alloc(self, request: object) -> Attempt[Handle]:
        core, seat = self._core, self._seat
        check_type("request", request, (Memory, Port, Reply, Model, Context), "Memory, Port, Reply, Model or Context")
        match request:
            case Memory(nbytes):
                self._allow("alloc", "memory", nbytes=nbytes)
                return partial(core.alloc_memory, seat, nbytes)
            case Port(capacity):
                self._allow("alloc", "port", capacity=capacity)
                return partial(core.alloc_port, seat, capacity)
            case Model(name, pinned):
                core.demand_running()
                served = core.models.find(name)
                self._allow("alloc", f"model:{served.name}", pinned=pinned)
                return partial(core.alloc_model, seat, served, pinned, {})
            case Context(model, tokens):
                served, _ = self._target(model)
                self._allow("alloc", f"context:{served.name}", tokens=tokens)
                return partial(core.alloc_context, seat, served, *served.open_context(tokens))
        self._allow("alloc", "reply")
        return partial(core.alloc_reply, seat)

    def _allow(self, action: str, resource: str, **detail: object) -> None:
        self._core.allow(self._seat.principal, action, resource, detail)

    def _schedule(self, task: Task) -> Attempt[TaskHandle]:
        check_type("task", task, Task, "a Task")
        if task.durable:
            message = "durable tasks need a journal store; install and configure one, or leave durable out"
            raise PluginMissing(message, plugin="store", field="durable")
        served, context = self._target(task.target, task)
        if (task.kind == "call") != (served.name == CALL):
            raise InvalidArgument.of("kind", task.kind, "'call' without a target, or another kind with a model")
        if self._core.policies:
            facts = {name: getattr(task, name) for name in ("kind", "priority", "deadline", "params")}
            tasks = self._core.tasks_of(self.principal.tenant)
            self._allow("schedule", f"model:{served.name}", **facts, unfinished=served.unfinished, tasks=tasks)
        return partial(self._core.schedule, self._seat, task, served, context, {})

    def _target(self, target: object, task: Task | None = None) -> tuple[Served, int | None]:
        """Return the model of *target*, and the context where it is one."""
        core = self._core
        core.demand_running()
        if target is None and task is not None and task.kind == "call":
            return core.models.find(CALL), None
        if isinstance(target, str):
            return core.models.find(target), None
        if isinstance(target, Auto) and task is not None:
            if core.router is None:
                raise PluginMissing("no router is configured: name the model, or configure one", plugin="router")
            return self._route(core.router, task.kind, target), None
        check_type("target", target, Handle, "a Model or Context handle, a model's name or Auto")
        with core.lock:
            resource = core.table.check(self._seat, target, Right.RUN).resource
        return resource.served, resource.id if resource.kind == "context" else None

    def _route(self, router: Router, kind: str, want: Auto) -> Served:
        models, plugin = self._core.models, f"router:{self._core.config.router}"
        candidates = models.candidates(kind)
        try:
            name: object = router.route(kind, want, candidates)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            raise failed(plugin, "route", error)  # noqa: B904 - it has its cause
        if name not in [one.spec.name for one in candidates]:
            raise PluginFailed(f"{plugin} chose {name!r:.80}, which is none of the candidates", plugin=plugin)
        return models.find(str(name))

    def _send(self, to: Handle, body: object, handles: Iterable[Handle]) -> Attempt[Receipt]:
        handles = tuple(handles)
        for handle in handles if self._core.policies else ():
            self._allow("grant", handle.kind, rights=int(handle.rights))
        return partial(self._core.send, self._seat, to, body, handles)

    def _recv(self, source: Handle | None) -> Attempt[Message]:
        return partial(self._core.recv, self._seat, self.mailbox if source is None else source)

    def _now(self, attempt: Attempt[T]) -> T:
        with self._core.lock:
            got = attempt()
        if isinstance(got, WaitList):
            raise WouldBlock("the call could only have waited")
        return got

    def alloc_nowait(self, request: object) -> Handle:
        """As ``alloc``, raising `WouldBlock` instead of waiting."""
        return self._now(self._alloc(request))

    def schedule_nowait(self, task: Task) -> TaskHandle:
        """As ``schedule``, raising `WouldBlock` instead of waiting."""
        return self._now(self._schedule(task))

    def send_nowait(self, to: Handle, body: object, handles: Iterable[Handle] = ()) -> Receipt:
        """As ``send``, raising `WouldBlock` instead of waiting."""
        return self._now(self._send(to, body, handles))

    def recv_nowait(self, source: Handle | None = None) -> Message:
        """As ``recv``, raising `WouldBlock` instead of waiting."""
        return self._now(self._recv(source))


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
        return self._core.wait(self._alloc(request), timeout)

    def schedule(self, task: Task, *, timeout: float | None = None) -> TaskHandle:
        """Accept *task*; waits only for admission.  Read its events with `recv`."""
        return self._core.wait(self._schedule(task), timeout)

    def send(
        self, to: Handle, body: object, handles: Iterable[Handle] = (), *, timeout: float | None = None
    ) -> Receipt:
        """Put a message on a port; waits while it is full.  *handles* move to the receiver.

        Raises `PortBroken` if nobody is left to read, `HandleRevoked`, `PermissionDenied`, `BudgetExceeded`.
        """
        return self._core.wait(self._send(to, body, handles), timeout)

    def recv(self, source: Handle | None = None, *, timeout: float | None = None) -> Message:
        """Take the next message from a port, the next event from a task, or the next message of the mailbox."""
        return self._core.wait(self._recv(source), timeout)
