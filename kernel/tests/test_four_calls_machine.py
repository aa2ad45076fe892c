"""The four calls under everything that can go wrong, at every moment: each task ends once, and nothing is left."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernel.tests.table_integrity import check_integrity
from kernel.tests.rig import PATIENCE, Recorder, build, check_clean, finish, give, nothing_left, until
from llmos.testing import EchoBackend, Gate, VirtualClock
from llmos_kernel import Chunk, Context, Done, Failed, Kernel, Memory, Model, Plan, Port, Process, Task, TaskHandle
from llmos_kernel.control import Reload, Reprioritise, UnloadModel
from llmos_kernel.errors import HandleRevoked, KernelError, KernelStopped, PermissionDenied

WORDS = "one two three four five six"


class FourCalls(RuleBasedStateMachine):
    """Two or three processes at one kernel; time moves only when a rule says so."""

    @initialize()
    def start(self) -> None:
        """Start a kernel, and remember what was there before."""
        self.before = contextlib.ExitStack()
        self.before.enter_context(nothing_left())
        self.gate, self.clock, self.recorder = Gate(), VirtualClock(), Recorder()
        self.echo = EchoBackend(gate=self.gate, rows=2)
        self.release = threading.Event()
        self.kernel = build(self.echo, self.recorder, clock=self.clock, call_rows=2, stall_timeout=30.0)
        self.kernel.start()
        self.processes = [self.kernel.attach(), self.kernel.attach()]
        self.all_processes = list(self.processes)
        self.tasks: list[tuple[Process, TaskHandle | None]] = []
        self.ends: dict[int, int] = {}
        for model in ("echo", "call"):
            self.processes[0].alloc(Model(model)).close()
        self.ports = [process.alloc(Port(2)) for process in self.processes]

    def process(self, number: int) -> Process:
        """Pick a process, maybe one that is closed."""
        return self.all_processes[number % len(self.all_processes)]

    def attempt(self, call: Callable[[], object]) -> None:
        """Make a call that may fail, but only with one of the kernel's errors."""
        with contextlib.suppress(KernelError):
            call()

    def schedule(self, number: int, task: Task) -> None:
        """Schedule, if the process still can."""
        process, handle = self.process(number), None
        with contextlib.suppress(KernelError):
            handle = process.schedule(task, timeout=0)  # it does not wait for a model that is loading
        self.tasks.append((process, handle))

    @rule(number=st.integers(0, 3), capacity=st.sampled_from([1, 256]), stream=st.booleans(),
          pace=st.sampled_from([0.0, 0.0, 1.0]), deadline=st.sampled_from([None, None, 3.0]),
          prompt=st.sampled_from([WORDS, "one", ""]))  # fmt: skip
    def generate(
        self, number: int, capacity: int, stream: bool, pace: float, deadline: float | None, prompt: str
    ) -> None:
        """Schedule a generation; an empty prompt fails when it is prepared."""
        how: dict[str, Any] = {"stream": stream, "capacity": capacity, "pace": pace, "deadline": deadline}
        self.schedule(number, Task("generate", "echo", prompt, **how))

    @rule(number=st.integers(0, 3), what=st.sampled_from(["return", "raise", "wait", "child"]))
    def call(self, number: int, what: str) -> None:
        """Schedule a function that returns, raises, waits for this test, or waits for a child."""
        process = self.process(number)

        def child() -> object:
            task = process.schedule(Task("call", input=int))
            return process.recv(task, timeout=PATIENCE).body

        functions: dict[str, Callable[[], object]] = {
            "return": int, "raise": lambda: 1 // 0, "wait": lambda: self.release.wait(PATIENCE), "child": child,
        }  # fmt: skip
        self.schedule(number, Task("call", input=functions[what]))

    @precondition(lambda self: self.tasks)
    @rule(number=st.integers(0, 20), how=st.sampled_from(["cancel", "close", "drop", "give", "read", "read"]))
    def touch(self, number: int, how: str) -> None:
        """Cancel, close, drop, give away or read a task."""
        number %= len(self.tasks)
        process, task = self.tasks[number]
        if task is None:
            return
        if how == "cancel":
            self.attempt(task.cancel)
        elif how == "close":
            self.attempt(task.close)
        elif how == "drop":
            self.tasks[number] = (process, None)
        elif how == "give":
            self.attempt(lambda: give(process, self.processes[-1], task))
        else:
            self.attempt(lambda: self.read(process, task))

    def read(self, process: Process, task: TaskHandle) -> None:
        """Take one event, if there is one."""
        event = process.recv_nowait(task).body
        if isinstance(event, Done | Failed):
            self.ends[event.task] = self.ends.get(event.task, 0) + 1
        else:
            assert isinstance(event, Chunk)

    @rule(shut=st.booleans())
    def turn_gate(self, shut: bool) -> None:
        """Hold the executor's steps, or let them go."""
        if shut:
            self.gate.shut()
        else:
            self.gate.open()

    @rule(fault=st.sampled_from(["step", "row", "prepare", "not_now", "load", "none"]))
    def break_something(self, fault: str) -> None:
        """Let the executor fail in one way, or in none."""
        faults, broken = self.echo.faults, RuntimeError("injected")
        faults.step = broken if fault == "step" else None
        faults.prepare = broken if fault == "prepare" else None
        faults.load = broken if fault == "load" else None
        faults.row = (1, KernelError("injected")) if fault == "row" else None
        faults.not_now = 3 if fault == "not_now" else 0

    @rule(seconds=st.sampled_from([1.0, 5.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        """Let deadlines and the patience with readers run out."""
        self.clock.advance(seconds)

    @rule(number=st.integers(0, 3), nbytes=st.sampled_from([1, 4096]), keep=st.booleans())
    def memory(self, number: int, nbytes: int, keep: bool) -> None:
        """Take memory, send it to a port, and map it or not."""
        process = self.process(number)

        def use() -> None:
            handle = process.alloc(Memory(nbytes), timeout=0)
            if keep:
                process.send_nowait(process.mailbox, "memory", (handle,))
            else:
                with handle.map(write=True) as pages:  # type: ignore[attr-defined]
                    pages.view[0] = 1
                handle.close()

        self.attempt(use)

    @rule(number=st.integers(0, 3), to=st.integers(0, 1), body=st.booleans())
    def message(self, number: int, to: int, body: bool) -> None:
        """Send to a port that may be full or somebody else's, or receive from it."""
        process, port = self.process(number), self.ports[to]
        if body:
            self.attempt(lambda: process.send_nowait(port, "hello"))
        else:
            self.attempt(lambda: process.recv_nowait(port))

    @rule(what=st.sampled_from([Reload("echo"), UnloadModel("echo"), Reprioritise(3, 5)]))
    def administer(self, what: object) -> None:
        """Put something to the control port; what comes of it depends on the moment."""
        self.attempt(lambda: self.processes[0].send_nowait(self.processes[0].control, what))

    @rule(number=st.integers(0, 1))
    def context(self, number: int) -> None:
        """Ask for a context, which echo models do not keep."""
        self.attempt(lambda: self.process(number).alloc(Context("echo", 4), timeout=0))

    @precondition(lambda self: len(self.processes) > 1)
    @rule()
    def close_process(self) -> None:
        """Close one process with all that it has."""
        self.processes.pop(0).close()

    @precondition(lambda self: len(self.all_processes) < 4)
    @rule()
    def attach(self) -> None:
        """Let one more process in."""
        self.processes.append(self.kernel.attach())
        self.all_processes.append(self.processes[-1])

    @invariant()
    def consistent(self) -> None:
        """The table adds up, and no account is below zero."""
        if not hasattr(self, "kernel"):
            return
        core = self.kernel._core
        with core.lock:
            check_integrity(core.table)
            for process in self.all_processes:
                account = process._seat.account
                assert min(account.tasks, account.ports, account.nbytes) >= 0

    def teardown(self) -> None:
        """Stop at this moment, whatever it is: every task has ended once, and nothing is left."""
        if not hasattr(self, "kernel"):
            return
        stopping = threading.Thread(target=self.kernel.stop)
        stopping.start()
        until(lambda: self.kernel.state == "stopped")
        self.release.set()
        stopping.join()
        for process, task in self.tasks:
            for _ in range(300 if task is not None else 0):
                try:
                    self.read(process, task)  # type: ignore[arg-type]
                except (HandleRevoked, KernelStopped, PermissionDenied):
                    break
        self.tasks.clear()
        for process in self.all_processes:
            process.close()
        check_clean(self.kernel, self.all_processes)
        accepted = self.recorder.accepted()

        assert sorted(accepted) == sorted(self.recorder.ended())
        assert {1} >= set(self.ends.values())
        assert [] == [id for executor in self.echo.executors for id in executor.known]
        self.before.close()


TestFourCalls = FourCalls.TestCase
TestFourCalls.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def _crash(kernel: Kernel, process: Process, task: TaskHandle, clock: VirtualClock) -> None:
    raise RuntimeError("injected")


def _stop(kernel: Kernel, process: Process, task: TaskHandle, clock: VirtualClock) -> None:
    threading.Thread(target=kernel.stop, name="stopping").start()
    until(lambda: kernel.state == "stopped")


INJECTIONS: dict[str, Callable[[Kernel, Process, TaskHandle, VirtualClock], object]] = {
    "crash": _crash,
    "cancel": lambda kernel, process, task, clock: task.cancel(),
    "close": lambda kernel, process, task, clock: task.close(),
    "deadline": lambda kernel, process, task, clock: clock.advance(11),
    "process": lambda kernel, process, task, clock: process.close(),
    "stop": _stop,
}


@pytest.mark.parametrize("step", range(1, 7))
@pytest.mark.parametrize("injection", INJECTIONS)
def test_every_step(injection: str, step: int) -> None:
    """Whatever happens during whichever step, the task it happens to ends once and its neighbour is not touched."""
    clock, recorder, echo = VirtualClock(), Recorder(), EchoBackend()
    with nothing_left():
        kernel = build(echo, recorder, clock=clock)
        kernel.start()
        victim, neighbour = kernel.attach(), kernel.attach()
        echo.gate.shut()
        beside = neighbour.schedule(Task("generate", "echo-2", WORDS))
        task = victim.schedule(Task("generate", "echo", WORDS, stream=True, deadline=10.0))

        def inject(number: int, plan: Plan) -> None:
            if number == step and task.id in dict(plan.prefill + plan.decode):
                INJECTIONS[injection](kernel, victim, task, clock)

        echo.faults.on_step = inject
        echo.gate.open()
        with contextlib.suppress(KernelError):
            finish(victim, task)
        if injection != "stop":
            _, end = finish(neighbour, beside)

            assert isinstance(end, Done)
        kernel.stop()
        for thread in threading.enumerate():
            if thread.name == "stopping":
                thread.join()
        victim.close()
        neighbour.close()
        check_clean(kernel, [victim, neighbour])

        assert sorted(recorder.accepted()) == sorted(recorder.ended())
        assert frozenset() == frozenset().union(*(executor.known for executor in echo.executors))
