"""What tests of the kernel are built from: plugin objects made of functions, and readers of ports."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernel.tests.table_integrity import check_integrity
from llmos.testing import EchoBackend, FirstCome, FirstComePlugin, echo_spec
from llmos_kernel import (
    Action, Backend, Chunk, Clock, Decision, Done, Event, Failed, Footprint, Handle, Kernel, KernelConfig, Limits,
    ModelSpec, Policy, Process, Processor, Reply, Result, RunExecutor, StepExecutor, TaskHandle, hookimpl,
)  # fmt: skip

PATIENCE = 20.0
"""Seconds of real time after which a test gives up on something that should have happened at once."""


class FunctionExecutor(RunExecutor):
    """Runs a plain function."""

    def __init__(self, function: Callable[..., Any], rows: int) -> None:
        self._function, self._limits = function, Limits(rows, rows)

    @property
    def limits(self) -> Limits:
        """So many rows."""
        return self._limits

    def run(self, id: int, task: Any, emit: Callable[[Result], Any]) -> Any:
        """Call the function."""
        return self._function(id, task, emit)


class CoroutineExecutor(FunctionExecutor):
    """Runs a coroutine function."""

    async def run(self, id: int, task: Any, emit: Callable[[Result], Any]) -> Any:
        """Await the function."""
        return await self._function(id, task, emit)


class FunctionBackend(Backend):
    """Serves one executor, whatever it is; or what a function makes of the specification."""

    name = "function"

    def __init__(self, load: Callable[[ModelSpec], Any], device: str = "none") -> None:
        self._load, self._device = load, device

    def measure(self, spec: ModelSpec) -> Footprint:
        """Take what the specification says."""
        return Footprint(self._device, spec.nbytes)

    def load(self, spec: ModelSpec) -> StepExecutor | RunExecutor:
        """Call the function."""
        executor: StepExecutor | RunExecutor = self._load(spec)
        return executor


class FunctionPolicy(Policy):
    """Asks a function."""

    name = "rule"

    def __init__(self, rule: Callable[[Action], Any]) -> None:
        self._rule = rule

    def check(self, action: Action) -> Decision:
        """Return what the function says, right or wrong."""
        answer: Decision = self._rule(action)
        return answer


class FunctionProcessor(Processor):
    """Passes values through a function."""

    def __init__(self, name: str, function: Callable[[Any], Any]) -> None:
        self.name, self._function = name, function

    def process(self, value: Any, params: Mapping[str, Any]) -> Any:
        """Call the function."""
        return self._function(value)


class Recorder:
    """An observer that remembers every event."""

    name = "recorder"

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Remember it."""
        self.events.append(event)

    def ended(self) -> list[int]:
        """Return the tasks that ended, once for each time that they did."""
        names = ("task.done", "task.failed", "task.cancelled")
        return [int(str(event.fields["task"])) for event in self.events if event.name in names]

    def accepted(self) -> list[int]:
        """Return the tasks that were accepted."""
        return [int(str(event.fields["task"])) for event in self.events if event.name == "task.accepted"]


class SchedulerPlugin:
    """Brings one scheduler, which the test holds as well."""

    api = 1

    def __init__(self, scheduler: FirstCome, name: str = "fifo") -> None:
        self.scheduler, self.name = scheduler, name

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> FirstCome:
        """Return it."""
        return self.scheduler


def build(*plugins: object, clock: Clock | None = None, fifo: bool = True, **config: Any) -> Kernel:
    """Return a kernel, not started, with these plugin objects; models ``echo`` and ``echo-2`` unless told."""
    models = config.pop("models", (echo_spec("echo", aliases=("parrot",)), echo_spec("echo-2")))
    settings = KernelConfig(models=models, **{"timeout": PATIENCE, **config})
    brought = (*plugins, *((FirstComePlugin(),) if fifo else ()))
    if not any(isinstance(plugin, Backend) for plugin in plugins):
        brought = (*brought, EchoBackend())
    return Kernel(settings, plugins=brought, clock=clock)


def serve(function: Callable[..., Any], rows: int = 4, *, aio: bool = False) -> tuple[FunctionBackend, ModelSpec]:
    """Return a backend whose model ``fn`` runs *function*, and the model's specification."""
    kind = CoroutineExecutor if aio else FunctionExecutor
    return FunctionBackend(lambda spec: kind(function, rows)), ModelSpec(name="fn", backend="function")


def finish(process: Process, task: TaskHandle) -> tuple[list[Chunk], Done | Failed]:
    """Read a task to its end."""
    chunks: list[Chunk] = []
    while True:
        event = process.recv(task, timeout=PATIENCE).body
        if isinstance(event, Done | Failed):
            return chunks, event
        chunks.append(event)


def result(process: Process, task: TaskHandle) -> Done:
    """Read a task that must end well."""
    _, event = finish(process, task)
    if isinstance(event, Failed):
        raise event.error
    return event


def error(process: Process, task: TaskHandle) -> BaseException:
    """Read a task that must fail."""
    _, event = finish(process, task)

    assert isinstance(event, Failed), event
    return event.error


def ask(process: Process, message: object) -> Any:
    """Put a question to the control port and return the answer."""
    with process.alloc(Reply()) as reply:
        process.send(process.control, message, (reply.sender,))  # type: ignore[attr-defined]
        return process.recv(reply, timeout=PATIENCE).body


def port_pair(owner: Process, other: Process, capacity: int = 4) -> tuple[Handle, Handle]:
    """Return a new port of *owner*, and a handle by which *other* can send to it."""
    from llmos_kernel import Port, Right  # noqa: PLC0415 - only here

    port = owner.alloc(Port(capacity))
    give(owner, other, port.narrow(Right.SEND | Right.TRANSFER))
    return port, other.recv(timeout=PATIENCE).handles[0]


def give(owner: Process, other: Process, *handles: Handle) -> None:
    """Move handles to the mailbox of another process."""
    core = owner._core
    with core.lock:  # as if the other had handed out a right to send to its mailbox
        mailbox = core.table.check(other._seat, other.mailbox, 0)
        entry = core.table.open(mailbox.resource, 1, owner._seat, mailbox)
    with Handle(owner._seat, entry) as right:
        owner.send(right, "for you", handles)


def in_thread(function: Callable[[], object]) -> Callable[[], Any]:
    """Start *function* in a thread; return what waits for it and gives its result, or raises what it raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as raised:  # noqa: BLE001 - passed on
            outcome.append((None, raised))

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> Any:
        thread.join(PATIENCE)
        if thread.is_alive():
            raise TimeoutError("the thread still runs")
        value, raised = outcome[0]
        if raised is not None:
            raise raised
        return value

    return wait


def wait_until_waiting(process: Process, handle: Handle, count: int = 1) -> None:
    """Return when *count* callers wait to receive from a port or a task."""

    def waiting() -> int:
        core = process._core
        with core.lock:
            resource = core.table.check(process._seat, handle, 0).resource
            port = resource.channel() if resource.kind == "task" else resource
            return len(port.readers._waiters) + len(port.room._waiters)

    until(lambda: waiting() >= count)


def until(condition: Callable[[], object]) -> None:
    """Look until *condition* holds; for what no call can wait for."""
    pause, turns = threading.Event(), int(PATIENCE * 1000)
    for _ in range(turns):
        if condition():
            return
        pause.wait(0.001)
    raise TimeoutError("it never came true")


def descriptors() -> int:
    """Count the open file descriptors of this process; 0 where nobody can tell."""
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if a thread or a file descriptor outlives the block."""
    gc.collect()
    threads, files = set(threading.enumerate()), descriptors()
    yield
    gc.collect()

    left = {thread for thread in threading.enumerate() if thread not in threads}
    assert set() == {thread for thread in left if not thread.name.startswith("asyncio_")}  # the test's own loop's
    assert files == descriptors()


def check_clean(kernel: Kernel, processes: list[Process]) -> None:
    """Fail unless a stopped kernel, whose processes are closed, holds nothing."""
    core = kernel._core
    check_integrity(core.table)

    assert {} == core.tasks
    assert {"cpu": 0} == core.ledger.used
    assert [(0, 0, 0)] * len(processes) == [_held(process) for process in processes]
    left = [entry for entry in core.table._entries if entry.resource is not None]

    assert [] == [(one.resource.kind, one.rights, one.seat, one.parent) for one in left]


def _held(process: Process) -> tuple[int, int, int]:
    account = process._seat.account
    return account.tasks, account.ports, account.nbytes
