"""The kernel: what is started, stopped and attached to."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterable
from typing import Self

from llmos_kernel._calls import CALL_MODEL, CallBackend
from llmos_kernel._core import Core, Seat
from llmos_kernel._handles import Handle, handle_of
from llmos_kernel._memory import MemoryResource
from llmos_kernel._models import Models
from llmos_kernel._ports import PortResource
from llmos_kernel._waiting import CoreLock
from llmos_kernel.api import Credentials, Right, check_number, check_type
from llmos_kernel.clock import Clock, SystemClock
from llmos_kernel.config import KernelConfig
from llmos_kernel.control import ControlPort
from llmos_kernel.driver import Driver
from llmos_kernel.errors import KernelStopped
from llmos_kernel.loader import PluginRecord
from llmos_kernel.plugins import Plugins
from llmos_kernel.process import Process
from llmos_kernel.services import Policy, Router

_cores: weakref.WeakSet[Core] = weakref.WeakSet()


class Mailbox(PortResource):
    """The port that every process is born with, free of charge."""

    __slots__ = ()
    charge = ("ports", 0)


class Kernel:
    """A kernel for *config*, with plugin objects given directly.  A context manager, sync and async.

    Nothing (thread, socket, file) exists before `start`, and nothing is left after `stop`.
    """

    def __init__(
        self, config: KernelConfig | None = None, plugins: Iterable[object] = (), *,
        clock: Clock | None = None, driver: Driver | None = None,
    ) -> None:  # fmt: skip
        self.config = config or KernelConfig()
        check_type("config", self.config, KernelConfig, "a KernelConfig")
        self.plugins = Plugins(self.config, (CallBackend(self.config.call_rows), *plugins))
        self._core = Core(self.config, driver or Driver(clock or SystemClock()), self.plugins)
        self._core.models = Models(self._core)
        self.plugins.on_change = self._plugin_changed

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        import asyncio  # noqa: PLC0415 - costs 100 ms

        await asyncio.to_thread(self.stop)

    def _plugin_changed(self, record: PluginRecord) -> None:
        self._core.events.emit(f"plugin.{record.state}", plugin=record.key, why=record.why)

    @property
    def state(self) -> str:
        """``new``, ``running``, ``draining``, ``stopped`` or ``forked``."""
        return self._core.state

    def start(self) -> None:
        """Load policies, router, schedulers and observers, list the models, and accept calls.

        Raises what is wrong with a policy, the router, or the scheduler of a model that is offered.
        """
        core = self._core
        if core.state != "new":
            raise KernelStopped(f"a kernel starts once; this one is {core.state}", state=core.state)
        core.policies = self.plugins.policies()
        if self.config.router is not None:
            core.router = self.plugins.router(self.config.router)
        core.models.add(self.plugins.models())
        core.models.add(self.config.models)
        core.models.alias(dict(self.config.aliases))
        for name in dict.fromkeys(self.config.scheduler_of(served.name) for served in core.models.served.values()):
            self.plugins.scheduler(name)  # each executor gets one of its own; one that cannot be had refuses the start
        core.models.add([CALL_MODEL])
        deciding = {f"policy:{key}": one for key, one in core.policies} | {f"router:{self.config.router}": core.router}
        deaf = (Policy.heard, Router.heard)
        hearing = [(key, one.heard) for key, one in deciding.items() if one is not None and type(one).heard not in deaf]
        core.events.start([*self.plugins.observers(), *hearing], self.plugins.mark_failed)
        self._control = core.table.open(ControlPort(core), Right.SEND | Right.RECV | Right.DUPLICATE, core.seat)
        _cores.add(core)
        core.state = "running"
        core.events.emit("kernel.started")

    def attach(self, credentials: Credentials | None = None) -> Process:
        """Give a principal a seat; raises `PermissionDenied` if a policy denies it."""
        core, who = self._core, credentials or Credentials()
        check_type("credentials", who, Credentials, "Credentials")
        core.demand_running()
        seat = Seat(core, next(core.numbers), who)
        core.allow(seat.principal, "attach", "kernel")
        with core.lock:
            core.demand_running()
            core.seats[seat.principal.process] = seat
            mailbox = core.table.open(Mailbox(seat, 1024), Right.SEND | Right.RECV | Right.DUPLICATE, seat)
            control = core.table.open(self._control.resource, Right.SEND, seat, self._control)
            return Process(core, seat, handle_of(seat, mailbox), Handle(seat, control))

    def stop(self, *, drain: float = 0.0, timeout: float = 10.0) -> tuple[str, ...]:
        """Refuse new work, let accepted tasks end for *drain* seconds, fail the rest with `KernelStopped`.

        Returns the names of threads that did not end within *timeout* seconds: plugin code that does not return.
        """
        check_number("drain", drain, 0, 86400, whole=False)
        check_number("timeout", timeout, 0, 86400, whole=False)
        core = self._core
        if core.state in ("new", "stopped", "forked"):
            core.state = "stopped" if core.state == "new" else core.state
            return ()
        with core.lock:
            core.state = "draining"
        if drain:
            with contextlib.suppress(TimeoutError):
                core.wait(lambda: core.idle if core.tasks else None, drain)
        threads, until = self._abort(), core.clock.now() + timeout
        left = tuple(thread.name for thread in threads if not _joined(thread, max(0.0, until - core.clock.now())))
        if left:
            core.report("kernel.threads_left", threads=left)
        core.events.emit("kernel.stopped", left=left)
        core.events.stop(timeout)
        return left

    def _abort(self) -> list[threading.Thread]:
        """End every task, wake everybody who waits, and close what is open; return the threads that are to end."""
        core = self._core
        with core.lock:
            core.state = "stopped"
            for rec in list(core.tasks.values()):
                rec.end(core.clock.now(), error=KernelStopped(f"the kernel stopped before task {rec.id} ended"))
            drivers = [served.detach() for served in core.models.served.values() if served.driver is not None]
            loads = [served.loading for served in core.models.served.values() if served.loading is not None]
            threads = [*(load.thread for load in loads), *core.workers.threads]
            for seat in [*core.seats.values(), core.seat]:
                seat.account.room.wake_all()
                for entry in core.table.owned(seat):
                    if isinstance(entry.resource, PortResource | MemoryResource) and entry.parent is None:
                        core.table.revoke(entry)
            for waiting in (core.idle, *(load.waiters for load in loads)):
                waiting.wake_all()
        core.workers.close()
        return [*threads, *(thread for driver in drivers for thread in driver.threads())]


def _joined(thread: threading.Thread, timeout: float) -> bool:
    if thread is threading.current_thread():
        return True
    thread.join(timeout)
    return not thread.is_alive()


def _after_fork() -> None:
    """The threads did not come along and the lock may be held: the child's kernels only say so."""
    for core in list(_cores):
        if core.state in ("running", "draining"):
            core.state = "forked"
        core.lock = CoreLock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
