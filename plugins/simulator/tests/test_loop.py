"""A kernel on the simulation's loop serves the calls of threads, in one thread and at exact times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import (
    Backend, Done, Footprint, Kernel, KernelConfig, Limits, Model, ModelSpec, Port, Process, Reply,
    RunExecutor, Task, control,
)  # fmt: skip
from llmos_kernel.errors import Cancelled, DeadlineExceeded, InvalidArgument
from llmos_simulator.executors import ModelledBackend
from llmos_simulator.loop import EventLoop
from llmos_simulator.records import Arrival
from plugins.simulator.tests.test_engine import PROFILE


@pytest.fixture
def loop() -> EventLoop:
    """A loop whose time begins at 100."""
    return EventLoop(100.0)


@pytest.fixture
def echo() -> EchoBackend:
    """A backend whose steps take no virtual time."""
    return EchoBackend()


@pytest.fixture
def kernel(loop: EventLoop, echo: EchoBackend) -> Iterator[Kernel]:
    """A kernel on the loop with an echo model and a modelled one."""
    models = (echo_spec(), ModelSpec(name="modelled", backend="simulated"))
    plugins = [echo, ModelledBackend(loop, {"modelled": PROFILE}), FirstComePlugin()]
    with Kernel(KernelConfig(models=models), plugins, driver=loop) as running:
        yield running


@pytest.fixture
def process(kernel: Kernel) -> Iterator[Process]:
    """A process of it."""
    with kernel.attach() as attached:
        yield attached


def ask(process: Process, message: object) -> Any:
    """Put a question to the control port."""
    with process.alloc(Reply()) as reply:
        process.send(process.control, message, (reply.sender,))  # type: ignore[attr-defined]
        return process.recv(reply).body


def test_blocking_calls(process: Process, loop: EventLoop) -> None:
    """A program that is written for threads runs as it is."""
    process.alloc(Model("echo")).close()
    event = process.recv(process.schedule(Task("generate", "echo", "one two three"))).body

    assert isinstance(event, Done)
    assert "one two three" == event.text
    assert 100.0 == loop.time


def test_time_goes_on_while_a_call_waits(process: Process, loop: EventLoop) -> None:
    """A call that waits for a task returns at the time at which the task ends."""
    task = process.schedule(Task("generate", "modelled", Arrival(0.0, prompt=4, output=3)))
    event = process.recv(task).body

    assert isinstance(event, Done)
    assert 100.0 + 2.125 + 2 * 1.125 == loop.time
    assert (0.0, 2.125, 2.25) == (event.usage.queued, event.usage.prefill, event.usage.decode)


def test_timeouts_are_exact(process: Process, loop: EventLoop) -> None:
    """A call without an answer gives up at its time, which comes at once."""
    with process.alloc(Port(1)) as port, pytest.raises(DeadlineExceeded):
        process.recv(port, timeout=12.5)

    assert 112.5 == loop.time


def test_control_messages(process: Process) -> None:
    """Workers answer, and models are unloaded and loaded again."""
    process.alloc(Model("modelled")).close()

    assert "loaded" == ask(process, control.InspectModel("modelled"))["state"]
    assert "unloaded" == ask(process, control.UnloadModel("modelled"))["state"]
    process.alloc(Model("modelled")).close()
    assert "loaded" == ask(process, control.InspectModel("modelled"))["state"]


def test_callables(process: Process) -> None:
    """A callable runs as soon as its turn comes; what it schedules itself is served meanwhile."""

    def work() -> str:
        event = process.recv(process.schedule(Task("generate", "echo", "deep"))).body
        return str(event.text)

    event = process.recv(process.schedule(Task("call", input=work))).body

    assert isinstance(event, Done)
    assert "deep" == event.value


def test_a_step_is_cut_short_when_nobody_wants_it(process: Process, loop: EventLoop) -> None:
    """Cancelling the only task of a step ends the step, and the next begins at once."""
    long = process.schedule(Task("generate", "modelled", Arrival(0.0, prompt=8, output=9)))
    with process.alloc(Port(1)) as port, pytest.raises(DeadlineExceeded):
        process.recv(port, timeout=0.5)
    long.cancel()
    next_one = process.schedule(Task("generate", "modelled", Arrival(0.0)))

    assert isinstance(process.recv(long).body.error, Cancelled)
    assert isinstance(process.recv(next_one).body, Done)
    assert 100.5 + 1.375 == loop.time


class Sleeper(RunExecutor):
    """Sleeps, and says how it ended."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.ends: list[str] = []

    @property
    def limits(self) -> Limits:
        """Two at once."""
        return Limits(2, 2)

    async def run(self, id: int, task: Task, emit: Any) -> float:
        """Sleep for the input's seconds."""
        try:
            await self._loop.sleep(task.input)
        except GeneratorExit:
            self.ends.append("cut")
            raise
        self.ends.append("slept")
        return self._loop.time


class Sleepers(Backend):
    """Brings one."""

    name = "sleepers"

    def __init__(self, executor: Sleeper) -> None:
        self.executor = executor

    def measure(self, spec: ModelSpec) -> Footprint:
        """Nothing."""
        return Footprint("none", 0)

    def load(self, spec: ModelSpec) -> Sleeper:
        """Return it."""
        return self.executor


def test_coroutines_of_an_executor(loop: EventLoop) -> None:
    """They overlap in virtual time, are cancelled with their task, and with their kernel."""
    executor = Sleeper(loop)
    config = KernelConfig(models=(ModelSpec(name="sleep", backend="sleepers"),))
    with Kernel(config, [Sleepers(executor), FirstComePlugin()], driver=loop) as kernel:
        process = kernel.attach()
        tasks = [process.schedule(Task("generate", "sleep", seconds)) for seconds in (5.0, 2.0, 4.0, 60.0, 1.0)]
        values = [process.recv(task).body.value for task in tasks[:3]]
        tasks[3].cancel()

        assert isinstance(process.recv(tasks[3]).body.error, Cancelled)
        assert 107.0 == process.recv(tasks[4]).body.value
        process.schedule(Task("generate", "sleep", 60.0))
        loop.advance(loop.time)
        process.close()
        assert () == kernel.stop()

    assert [105.0, 102.0, 106.0] == values
    assert ["slept", "slept", "slept", "cut", "slept"] == executor.ends[:5]
    assert 107.0 == loop.time


def test_a_wait_that_nothing_can_end(loop: EventLoop) -> None:
    """It is an error, and not a hang."""
    import threading  # noqa: PLC0415 - only here

    lock = threading.Lock()
    lock.acquire()
    with pytest.raises(DeadlineExceeded, match="nothing can happen"):
        loop.clock.wait(lock, None)


async def test_no_loop_of_asyncio(process: Process) -> None:
    """Calls for asyncio that would wait are refused with an error that says what to use."""
    port = process.alloc(Port(1))

    with pytest.raises(InvalidArgument, match="whose calls block"):
        await process.aio.recv(port)
