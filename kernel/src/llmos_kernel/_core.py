"""The core: one lock, and the four system calls as attempts under it.

An attempt either does its work at once or returns the `WaitList` to wait on.  `Core.wait` repeats it for threads and
`Core.wait_async` for event loops, so both faces have the same semantics.  The lock is never held across plugin code.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from llmos_kernel._drivers import running_task
from llmos_kernel._events import Events
from llmos_kernel._handles import Entry, Handle, ReplyHandle, Resource, Table, TaskHandle, handle_of
from llmos_kernel._ledger import Account, Ledger
from llmos_kernel._log import log
from llmos_kernel._memory import MemoryResource, Region
from llmos_kernel._models import ContextResource, ModelResource
from llmos_kernel._ports import PortResource
from llmos_kernel._tasks import TaskRecord
from llmos_kernel._waiting import Attempt, CoreLock, T, ThreadWaiter, Waiter, WaitList, Workers, finish
from llmos_kernel.api import MAX_SECONDS, Budget, Credentials, Message, Principal, Receipt, Right, Task, check_number
from llmos_kernel.config import KernelConfig
from llmos_kernel.driver import Driver
from llmos_kernel.errors import (
    BudgetExceeded, Cancelled, DeadlineExceeded, HandleRevoked, InvalidArgument, KernelError, KernelStopped,
    Overloaded, PermissionDenied, PluginFailed,
)  # fmt: skip
from llmos_kernel.services import Action, Decision, Policy, Router

if TYPE_CHECKING:
    from llmos_kernel._models import Models, Served
    from llmos_kernel.plugins import Plugins

# Plain integers: an `IntFlag` takes a microsecond for what these take 30 ns for.
_SEND, _RECV, _TRANSFER = int(Right.SEND | Right.SEND_ONCE), int(Right.RECV), int(Right.TRANSFER)
_MANY = int(Right.SEND)
_TASK = int(Right.RECV | Right.CANCEL | Right.TRANSFER)
ALL = Right.SEND | Right.RECV | Right.DUPLICATE | Right.TRANSFER


class Seat:
    """A process as the core knows it."""

    def __init__(self, core: Core, number: int, who: Credentials) -> None:
        self.core = core
        self.principal = Principal(number, who.name, who.tenant, who.scopes)
        ours, theirs = attrs.astuple(core.config.budget), attrs.astuple(who.budget)
        self.account = Account(Budget(*map(min, ours, theirs)))
        self.open = True


class Core:
    """What all processes of one kernel share."""

    def __init__(self, config: KernelConfig, driver: Driver, plugins: Plugins) -> None:
        self.config, self.driver, self.clock, self.plugins = config, driver, driver.clock, plugins
        self.lock = CoreLock()
        self.state = "new"
        """``new``, ``running``, ``draining``, ``stopped`` or ``forked``."""
        self.events = Events(driver)
        self.table = Table(self.events)
        self.tasks: dict[int, TaskRecord] = {}
        """Accepted and not ended."""
        self.idle = WaitList()
        """Woken when the last task ends."""
        self.seats: dict[int, Seat] = {}
        self.numbers = itertools.count(1)
        self.ledger = Ledger(config.devices)
        self.workers = Workers(driver, "llmos-worker", config.workers)
        self.policies: tuple[tuple[str, Policy], ...] = ()
        self.router: Router | None = None
        self._later: deque[Callable[[], None]] = deque()
        """What finalizers left to do."""
        self.models: Models
        self.seat = Seat(self, 0, Credentials("kernel", "kernel"))

    # --- waiting -----------------------------------------------------------------------------------------------

    def wait(self, attempt: Attempt[T], timeout: float | None = None) -> T:
        """Repeat *attempt* until it does not ask to wait, or raise `DeadlineExceeded`.  Blocks the thread."""
        if timeout is not None:
            check_number("timeout", timeout, 0, MAX_SECONDS, whole=False)
        with self.lock:
            got = attempt()
        if not isinstance(got, WaitList):  # as a rule; a coroutine would cost as much as the call
            return got
        return finish(self.wait_async(attempt, timeout, ThreadWaiter))

    async def wait_async(self, attempt: Attempt[T], timeout: float | None, kind: Callable[[], Waiter]) -> T:
        """Do the same for an event loop, or whoever else waits in a *kind* of waiter of its own.

        A call that gives up or is cancelled consumes nothing.
        """
        if timeout is not None:
            check_number("timeout", timeout, 0, MAX_SECONDS, whole=False)
        waiter, until, late = None, None, False
        while True:
            with self.lock:
                if waiter is not None and late:
                    waiter.room.leave(waiter)
                elif waiter is not None:
                    waiter.lend(-1)
                try:
                    got = attempt()
                except BaseException:
                    if waiter is not None:
                        waiter.room.wake()  # what woke this call is for the next one
                    raise
                if not isinstance(got, WaitList):
                    return got
                waiter = kind()
                waiter.core_lock = self.lock
                got.join(waiter)
            timeout = self.config.timeout if timeout is None else timeout
            until = self.clock.now() + timeout if until is None else until
            try:
                late = await waiter.expired(self.clock, min(until, waiter.until))
                if late and waiter.until >= until:
                    raise DeadlineExceeded(f"nothing happened for {timeout} s", seconds=timeout)
            except BaseException:
                with self.lock:
                    waiter.room.leave(waiter)
                raise

    # --- authority ---------------------------------------------------------------------------------------------

    def allow(self, principal: Principal, name: str, resource: str, detail: Any = None) -> None:  # noqa: ANN401
        """Ask the policies; raise `PermissionDenied` if one denies, or fails, and `Overloaded` if one says so."""
        for plugin, policy in self.policies:
            try:
                decision: object = policy.check(Action(principal, name, resource, detail or {}))
                denied = decision is Decision.DENY
                wrong = None if isinstance(decision, Decision) else f"it answered {decision!r}"
            except Overloaded:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a policy that fails denies
                denied, wrong = True, f"{type(error).__name__}: {error}"
            if denied or wrong:
                why = f" because it failed ({wrong})" if wrong else ""
                message = f"policy {plugin} denies {name} on {resource}{why}"
                raise PermissionDenied(message, action=name, resource=resource, policy=plugin)

    def tasks_of(self, tenant: str) -> int:
        """Return how many tasks of *tenant* have not ended, those that lend their place not counted."""
        with self.lock:
            return sum(seat.account.tasks for seat in self.seats.values() if seat.principal.tenant == tenant)

    def demand_running(self, *, drain: bool = False) -> None:
        """Raise `KernelStopped` unless the kernel runs, or (with *drain*) lets accepted tasks go on to their end."""
        if self.state != "running" and not (drain and self.state == "draining"):
            raise KernelStopped(f"the kernel is {self.state}", state=self.state)

    def _enter(self, seat: Seat) -> None:
        self.demand_running(drain=True)
        if not seat.open:
            raise HandleRevoked("the process is closed")
        self.settle()

    def settle(self) -> None:
        """Do what finalizers left.  Under the lock."""
        while self._later:
            self._later.popleft()()

    def later(self, job: Callable[[], None]) -> None:
        """Do *job* under the lock: now, or with the next call if it is held, maybe by whom a finalizer interrupts."""
        self._later.append(job)
        if self.lock.acquire(blocking=False):
            try:
                self.settle()
            finally:
                self.lock.release()

    def dropped(self, index: int, generation: int) -> None:
        """Note that nobody can read a task any more: its handle was collected.  Under the lock."""
        entry = self.table.at(index, generation)
        if entry is not None and entry.resource.kind == "task":
            if entry.resource.ended:
                self.table.revoke(entry)
            else:
                entry.resource.entry = entry  # nobody can read it: `ended` will revoke it

    def close_handle(self, seat: Seat, handle: Handle) -> None:
        """Revoke *handle* if it is still valid and belongs to *seat*."""
        with self.lock:
            entry = self.table.named(handle)
            if entry is not None and entry.seat is seat:
                self.table.revoke(entry)

    # --- attempts ----------------------------------------------------------------------------------------------

    def alloc_memory(self, seat: Seat, nbytes: int) -> Handle | WaitList:
        """Charge and map *nbytes*."""
        self._enter(seat)
        if (room := seat.account.take("nbytes", nbytes)) is not None:
            return room
        try:
            region = Region(nbytes)
        except BaseException:
            seat.account.give("nbytes", nbytes)
            raise
        rights = Right.READ | Right.WRITE | Right.DUPLICATE | Right.TRANSFER
        return handle_of(seat, self.table.open(MemoryResource(seat, region), rights, seat))

    def alloc_port(self, seat: Seat, capacity: int, rights: int = ALL) -> Handle | WaitList:
        """Charge and open a port."""
        self._enter(seat)
        if (room := seat.account.take("ports", 1)) is not None:
            return room
        return handle_of(seat, self.table.open(PortResource(seat, capacity), rights, seat))

    def alloc_reply(self, seat: Seat) -> ReplyHandle | WaitList:
        """Charge and open a port for one message, and the single right to send it."""
        root = self.alloc_port(seat, 1, Right.RECV | Right.TRANSFER)
        if isinstance(root, WaitList):
            return root
        entry = self.table.check(seat, root, 0)
        handle = ReplyHandle(seat, entry)
        handle.sender = Handle(seat, self.table.open(entry.resource, Right.SEND_ONCE | Right.TRANSFER, seat, entry))
        return handle

    def alloc_model(self, seat: Seat, served: Served, pinned: bool, state: dict[str, Any]) -> Handle | WaitList:
        """Open a handle to a model, once it is loaded."""
        self._enter(seat)
        driver = served.ready(state)
        if driver.__class__ is WaitList:
            return driver
        resource = ModelResource(seat, served, pinned=pinned)
        return handle_of(seat, self.table.open(resource, Right.RUN | Right.DUPLICATE | Right.TRANSFER, seat))

    def alloc_context(self, seat: Seat, served: Served, id: int, nbytes: int) -> Handle:
        """Charge a context that the executor has opened; it does not wait for room, because it holds some there."""
        try:
            self._enter(seat)
            if seat.account.take("nbytes", nbytes) is not None:
                message = f"a context of {nbytes} bytes has no room beside what the process holds"
                raise BudgetExceeded(message, resource="nbytes", asked=nbytes, limit=seat.account.budget.nbytes)
        except KernelError:
            served.close_context(id)
            raise
        rights = Right.RUN | Right.TRANSFER
        return handle_of(seat, self.table.open(ContextResource(seat, served, id, nbytes), rights, seat))

    def schedule(
        self, seat: Seat, task: Task, served: Served, context: int | None, state: dict[str, Any]
    ) -> TaskHandle | WaitList:
        """Accept *task* for *served*, once its model is loaded and the process has room."""
        self._enter(seat)
        self.demand_running()
        driver = served.ready(state)
        if driver.__class__ is WaitList:
            return driver
        if driver.dispatcher.broken is not None:
            raise PluginFailed(f"{served.name} takes no tasks: {driver.dispatcher.broken}", plugin=served.name)
        now = self.clock.now()
        seat.account.check_rate(now)
        if (room := seat.account.take("tasks", 1)) is not None:
            return room
        rec = TaskRecord(next(self.numbers), task, seat, driver, now)
        rec.context, rec.served, parent = context, served, running_task.get()
        if parent is not None and parent.seat.core is self:
            rec.parent, rec.trace = parent.id, task.trace or parent.trace
        served.unfinished += 1
        self.tasks[rec.id] = rec
        handle = TaskHandle(seat, self.table.open(rec, _TASK, seat))
        if self.events.enabled:
            self.events.emit("task.accepted", process=seat.principal.process, **rec.facts())
        driver.accept(rec)
        return handle

    def send(self, seat: Seat, to: Handle, body: object, handles: Iterable[Handle]) -> Receipt | WaitList:
        """Queue a message, with the handles that move with it."""
        self._enter(seat)
        entry = self.table.check(seat, to, _SEND)
        port: PortResource = entry.resource
        moving = tuple(self._movable(seat, handle, entry) for handle in handles) if handles else ()
        if moving and len({*moving}) < len(moving):
            raise InvalidArgument("handles names one twice", field="handles", expected="each handle once")
        if (room := port.ready()) is not None:
            return room
        self._bill(moving, port.seat)
        for moved in moving:
            self.table.move(moved, None)
        # A handle may be revoked on its way, and its place taken by another: the message holds a name, no entry.
        port.put(Message(seat.principal, body, tuple(Handle(port.seat, moved) for moved in moving)))
        depth = len(port.items)
        if not entry.rights & _MANY:
            self.table.revoke(entry)
        return Receipt(depth)

    def _movable(self, seat: Seat, handle: Handle, through: Entry) -> Entry:
        entry = self.table.check(seat, handle, _TRANSFER)
        if entry is through or (entry.resource is through.resource and entry.rights & _RECV):
            expected, message = "handles of other resources", "a port's own handle cannot travel through it"
            raise InvalidArgument(message, field="handles", value=repr(handle), expected=expected)
        return entry

    def _bill(self, entries: Iterable[Entry], seat: Seat) -> None:
        """Move the charges of root handles to *seat*: all of them, or none and `BudgetExceeded`."""
        billed: list[tuple[Resource, Seat]] = []
        try:
            for entry in entries:
                if entry.parent is None:
                    billed.append((entry.resource, entry.resource.seat))
                    entry.resource.bill(seat)
        except BudgetExceeded:
            for resource, before in billed:
                resource.bill(before)
            raise

    def recv(self, seat: Seat, source: Handle) -> Message | WaitList:
        """Take the next message from a port or the next event from a task."""
        entry = self.table.check(seat, source, _RECV)
        resource = entry.resource
        if resource.kind == "task":
            return self._recv_event(entry, resource)
        if not resource.items:
            self._enter(seat)
        return self.take(seat, resource)

    def take(self, seat: Seat, port: PortResource) -> Message | WaitList:
        """Take the next message of *port* for *seat*, with its handles.  Under the lock."""
        names = port.items[0].handles if port.items else ()
        if not names:
            return port.pop()
        moved = [self.table.named(name) for name in names]
        self._bill(filter(None, moved), seat)
        for entry in filter(None, moved):
            self.table.move(entry, seat)
        handles = tuple(handle_of(seat, entry) if entry else name for name, entry in zip(names, moved, strict=True))
        message: Any = port.pop()
        return attrs.evolve(message, handles=handles)  # type: ignore[no-any-return]

    def _recv_event(self, entry: Entry, rec: TaskRecord) -> Message | WaitList:
        port = rec.channel()
        if not port.items or not (len(port.items) > 1 or rec.full or rec.ended or self.clock.now() >= rec.due):
            self.demand_running(drain=True)
            # A `call` task that waits for its own child lends its row, or a full executor would wait for itself.
            parent = running_task.get()
            port.readers.lender = parent if parent is not None and parent.id == rec.parent else None
            port.readers.until = rec.due if self.clock.now() < rec.due else float("inf")
            return port.readers
        event: Any = port.pop()
        rec.due = self.clock.now() + rec.task.pace * bool(event.text)  # part of a letter is nothing to read yet
        if rec.stalled is not None and not rec.full:
            rec.driver.note("room", rec)
        if not port.items and rec.ended:
            self.table.revoke(entry)
        return Message(self.seat.principal, event)

    # --- ends --------------------------------------------------------------------------------------------------

    def cancel_handle(self, seat: Seat, handle: Handle) -> None:
        """Cancel the task behind *handle*."""
        with self.lock:
            rec = self.table.check(seat, handle, Right.CANCEL).resource
            rec.end(self.clock.now(), error=Cancelled(f"task {rec.id} was cancelled", task=rec.id))

    def ended(self, rec: TaskRecord, now: float, error: KernelError | None, finish: str) -> None:
        """Settle a task that has just ended, with *error* or by *finish*.  Under the lock."""
        del self.tasks[rec.id]
        if rec.lent:
            rec.driver.lent -= 1
        else:
            rec.seat.account.give("tasks", 1)
        rec.served.unfinished -= 1
        rec.served.used_at = now
        rec.driver.task_ended(rec)
        if rec.entry is not None and rec.entry.resource is rec:
            self.table.revoke(rec.entry)
        if not self.tasks:
            self.idle.wake_all()
        if self.events.enabled:
            why = {"error": "", "finish": finish} if error is None else {"error": type(error).__name__, "finish": ""}
            self.events.emit(f"task.{rec.state}", **why, **rec.facts(), **attrs.asdict(rec.usage(now)))

    def close_seat(self, seat: Seat) -> None:
        """End a process: cancel its tasks, close its ports, revoke its handles and what was derived from them."""
        with self.lock:
            if not seat.open or self.state == "forked":
                return
            seat.open = False
            seat.account.room.wake_all()
            self.seats.pop(seat.principal.process, None)
            for rec in [rec for rec in self.tasks.values() if rec.seat is seat]:
                error = Cancelled(f"task {rec.id} was cancelled: its process closed", task=rec.id)
                rec.end(self.clock.now(), error=error)
            for entry in sorted(self.table.owned(seat), key=lambda entry: entry.resource.kind != "port"):
                if entry.resource is not None:  # it may have gone with another
                    self.table.revoke(entry)

    def report(self, event: str, **fields: Any) -> None:  # noqa: ANN401
        """Log something that an operator should know, and tell the observers."""
        log("warning", event, **fields)
        self.events.emit(event, **fields)

    def report_broken(self, plugin: str, error: PluginFailed) -> None:
        """A scheduler failed; `doctor` will say so."""
        self.plugins.mark_failed(f"scheduler:{plugin}", str(error))
        self.report("scheduler.failed", plugin=plugin, error=str(error))
