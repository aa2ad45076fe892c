"""Tasks: from acceptance to the one end, on step executors and run executors, with processors around them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kernel.tests.rig import (
    FunctionBackend, FunctionProcessor, Recorder, SchedulerPlugin, ask, build, error, finish, in_thread, nothing_left,
    result, serve, until, wait_until_waiting,
)  # fmt: skip
from llmos.testing import EchoBackend, EchoExecutor, FirstCome, VirtualClock
from llmos_kernel import (
    Auto, Budget, Context, Credentials, Done, Failed, Kernel, Limits, Memory, Model, ModelSpec, Plan, Prepared,
    Process, Result, Router, Task, TaskHandle, TextFilter, Usage,
)  # fmt: skip
from llmos_kernel._ledger import Ledger
from llmos_kernel._waiting import LoopThread
from llmos_kernel.control import Metrics, Stats
from llmos_kernel.errors import (
    BudgetExceeded, Cancelled, DeadlineExceeded, ExecutorCrashed, HandleRevoked, InvalidArgument, KernelBug,
    KernelError, ModelUnavailable, NotFound, PluginFailed, PluginMissing, ReaderStalled, TaskFailed, WouldBlock,
)  # fmt: skip
from llmos_kernel.hookspecs import hookimpl


def call(function: Callable[..., Any] | str, *args: object, **kwargs: object) -> Task:
    """Return a task that calls *function*."""
    return Task("call", input=function, params={"args": args, "kwargs": kwargs})


def generate(prompt: str = "one two three", **fields: Any) -> Task:
    """Return a task for the echo model."""
    return Task("generate", "echo", prompt, **fields)


# --- events ----------------------------------------------------------------------------------------------------


def test_stream(process: Process) -> None:
    """A streaming task delivers pieces, and then its end with everything and what it used."""
    chunks, end = finish(process, process.schedule(generate(stream=True)))

    assert ["one", " two", " three"] == [chunk.text for chunk in chunks]
    assert isinstance(end, Done)
    assert "one two three" == end.text
    assert (3, 3) == (end.usage.prompt, end.usage.generated)


def test_end_is_the_last(process: Process) -> None:
    """After its end a task's handle is gone."""
    task = process.schedule(generate())
    result(process, task)

    with pytest.raises(HandleRevoked):
        process.recv(task)


@pytest.mark.parametrize("how", ["cancel", "close", "process"])
def test_cancel_while_running(kernel: Kernel, echo: EchoBackend, how: str) -> None:
    """A task that runs ends at once when it is cancelled or closed, or its process is, and the step is cut short."""
    process = kernel.attach()
    echo.gate.shut()
    task = process.schedule(generate())
    echo.gate.wait_for_visitor()
    if how == "cancel":
        task.cancel()
        task.cancel()

        assert isinstance(error(process, task), Cancelled)
    elif how == "close":
        task.close()
    process.close()

    assert 0 == process._seat.account.tasks
    with pytest.raises(HandleRevoked):
        process.recv(task)
    with pytest.raises(HandleRevoked):
        process.schedule(generate())
    until(lambda: not echo.executors[0].known)


def test_dropped_task_runs_unread(process: Process, echo: EchoBackend) -> None:
    """A task whose handle is dropped runs to its end, and leaves nothing."""
    echo.gate.shut()
    before = ask(process, Stats())["handles"]
    task = process.schedule(generate())
    echo.gate.wait_for_visitor()
    del task
    echo.gate.open()
    until(lambda: not ask(process, Stats())["tasks"])

    assert before == ask(process, Stats())["handles"]


def test_dropped_after_its_end(process: Process) -> None:
    """A handle that is dropped after the task's end is closed."""
    before = ask(process, Stats())["handles"]
    task = process.schedule(generate())
    until(lambda: not ask(process, Stats())["tasks"])
    del task

    assert before == ask(process, Stats())["handles"]


def test_deadline() -> None:
    """A task that has not ended in time fails, and a call may wait no longer than its own timeout."""
    clock, echo = VirtualClock(), EchoBackend()
    with build(echo, clock=clock) as kernel:
        process = kernel.attach()
        echo.gate.shut()
        task = process.schedule(generate(deadline=5.0))
        waiting = in_thread(lambda: process.recv(task, timeout=3))
        wait_until_waiting(process, task)
        clock.advance(4)
        with pytest.raises(DeadlineExceeded, match="3 s"):
            waiting()
        clock.advance(1)
        echo.gate.open()  # it acts with the next step
        late = error(process, task)

        assert isinstance(late, DeadlineExceeded)
        assert 5.0 == late.fields["seconds"]
        process.close()


def test_reader_stalls() -> None:
    """A task whose port is full is not stepped; it goes on when somebody reads, and fails when nobody does."""
    clock, echo = VirtualClock(), EchoBackend()
    with build(echo, clock=clock, stall_timeout=10.0) as kernel:
        process = kernel.attach()
        task = process.schedule(generate("a b c d", stream=True, capacity=2))
        until(lambda: ask(process, Stats())["tasks"] == {"stalled": 1})

        assert 2 == len(echo.executors[0].plans)
        assert "a" == process.recv(task).body.text
        until(lambda: len(echo.executors[0].plans) == 3 and ask(process, Stats())["tasks"] == {"stalled": 1})
        clock.advance(11)
        until(lambda: not ask(process, Stats())["tasks"])
        chunks, end = finish(process, task)

        assert [" b", " c"] == [chunk.text for chunk in chunks]
        assert isinstance(end, Failed)
        assert isinstance(end.error, ReaderStalled)
        assert "a b c" == end.text
        process.close()


def test_crash_of_a_step(process: Process, echo: EchoBackend) -> None:
    """A step that raises fails its tasks with the cause; the next ones run."""
    echo.faults.step = ValueError("bad luck")
    crash = error(process, process.schedule(generate()))
    echo.faults.step = None

    assert isinstance(crash, ExecutorCrashed)
    assert "ValueError: bad luck" == crash.fields["cause"]
    assert "one two three" == result(process, process.schedule(generate())).text


def test_crash_of_a_row(process: Process, echo: EchoBackend) -> None:
    """A row that fails ends with its own typed error and what it had said."""
    echo.faults.row = (1, ModelUnavailable("worn out"))
    _, end = finish(process, process.schedule(generate()))

    assert isinstance(end, Failed)
    assert ("one", "worn out") == (end.text, str(end.error))


def test_not_now(process: Process, echo: EchoBackend) -> None:
    """An executor that says NotNow while others run is asked again; alone it has to take the task, or it fails."""
    echo.gate.shut()
    first = process.schedule(generate())
    echo.gate.wait_for_visitor()
    echo.faults.not_now = 1
    second = process.schedule(generate())
    until(lambda: len(echo.executors[0].known) == 2)
    echo.gate.open()

    assert "one two three" == result(process, first).text == result(process, second).text
    echo.faults.not_now = 1

    assert isinstance(error(process, process.schedule(generate())), ModelUnavailable)


def test_a_step_goes_on_for_who_is_left(process: Process, echo: EchoBackend) -> None:
    """A task that is cancelled while it shares a step with another does not cut the step short."""
    cuts: list[int] = []
    echo.gate.shut()
    tasks = [process.schedule(generate())]
    echo.gate.wait_for_visitor()
    tasks.append(process.schedule(generate("one two three four")))
    executor = echo.executors[0]
    executor.interrupt = lambda: cuts.append(1)  # type: ignore[method-assign]
    until(lambda: len(executor.known) == 2)

    def cancel(number: int, plan: Plan) -> None:
        if {tasks[0].id, tasks[1].id} == {id for id, _ in plan.prefill + plan.decode}:
            tasks[0].cancel()

    echo.faults.on_step = cancel
    echo.gate.open()

    assert isinstance(error(process, tasks[0]), Cancelled)
    assert "one two three four" == result(process, tasks[1]).text
    assert [] == cuts


class Interrupting(FirstCome):
    """Takes the first task that runs away once, and brings it back when something else has been done."""

    how: Any = "drop"
    plans = 0

    def plan(self, now: float, limits: Limits) -> Plan:
        """Preempt with the third plan."""
        self.plans += 1
        return Plan(preempt=((min(self._views), self.how),)) if self.plans == 3 else super().plan(now, limits)


@pytest.mark.parametrize("how", ["keep", "swap", "drop"])
def test_preempted_in_the_middle(echo: EchoBackend, how: str) -> None:
    """A task that is preempted and brought back says the same as one that is not."""
    scheduler = Interrupting()
    scheduler.how = how
    with nothing_left(), build(echo, SchedulerPlugin(scheduler), fifo=False) as kernel:
        process = kernel.attach()

        assert "one two three" == result(process, process.schedule(generate())).text
        assert 3 < scheduler.plans
        process.close()


def test_executor_that_cannot_preempt(echo: EchoBackend) -> None:
    """A `preempt` that raises is the crash of its task."""

    def refuse(id: int, how: str) -> None:
        raise RuntimeError("no hands free")

    with nothing_left(), build(echo, SchedulerPlugin(Interrupting()), fifo=False) as kernel:
        process = kernel.attach()
        process.alloc(Model("echo"))
        echo.executors[0].preempt = refuse  # type: ignore[method-assign]
        failure = error(process, process.schedule(generate()))

        assert isinstance(failure, ExecutorCrashed)
        assert "RuntimeError: no hands free" == failure.fields["cause"]
        process.close()


@pytest.mark.parametrize(
    ("task", "kind", "field"),
    [
        (generate(""), InvalidArgument, "input"),
        (generate(params={"max_tokens": 0}), InvalidArgument, "max_tokens"),
        (generate(params={"max_tokens": 10**9}), InvalidArgument, "max_tokens"),
        (generate(params={"temperature": float("nan")}), InvalidArgument, "temperature"),
        (generate(params={"heat": 1}), InvalidArgument, "heat"),
    ],
)
def test_bad_input(process: Process, task: Task, kind: type[KernelError], field: str) -> None:
    """Bad input is one typed error that names the field, by way of the task's end."""
    failure = error(process, process.schedule(task))

    assert isinstance(failure, kind)
    assert field == failure.fields["field"]


@pytest.mark.parametrize(
    ("task", "kind", "match"),
    [
        (Task("generate", "ecco", "x"), NotFound, "nearest: echo"),
        (Task("generate", "zzz", "x"), NotFound, "known: echo"),
        (Task("generate", Auto(), "x"), PluginMissing, "router"),
        (Task("generate", 5, "x"), InvalidArgument, "target"),
        (Task("generate", None, "x"), InvalidArgument, "target"),
        (Task("generate", "call", "x"), InvalidArgument, "kind"),
        (Task("call", "echo", "x"), InvalidArgument, "kind"),
        (generate(durable=True), PluginMissing, "journal"),
        ("task", InvalidArgument, "a Task"),
    ],
)
def test_refused_at_once(process: Process, task: Any, kind: type[KernelError], match: str) -> None:
    """What cannot be scheduled is refused by the call itself."""
    with pytest.raises(kind, match=match):
        process.schedule(task)


# --- budgets ---------------------------------------------------------------------------------------------------


def test_tasks_in_flight(kernel: Kernel, echo: EchoBackend) -> None:
    """`schedule` waits until the process has a place in flight."""
    process = kernel.attach(Credentials(budget=Budget(tasks=1)))
    echo.gate.shut()
    first = process.schedule(generate())

    with pytest.raises(WouldBlock):
        process.schedule_nowait(generate())
    second = in_thread(lambda: process.schedule(generate()))
    until(lambda: len(process._seat.account.room._waiters))
    first.cancel()
    echo.gate.open()

    assert "one two three" == result(process, second()).text
    process.close()


def test_memory_budget(kernel: Kernel) -> None:
    """`alloc` waits for room, never for what can never fit, and a mapping holds its charge."""
    process = kernel.attach(Credentials(budget=Budget(nbytes=100)))

    with pytest.raises(BudgetExceeded, match="the budget is 100"):
        process.alloc(Memory(101))
    memory = process.alloc(Memory(60))
    mapping = memory.map(write=True)  # type: ignore[attr-defined]
    memory.close()
    with pytest.raises(WouldBlock):
        process.alloc_nowait(Memory(60))
    waiting = in_thread(lambda: process.alloc(Memory(60)))
    until(lambda: len(process._seat.account.room._waiters))
    mapping.close()

    assert "memory" == waiting().kind
    with pytest.raises(InvalidArgument, match="request"):
        process.alloc("memory")
    process.close()


def test_mapping_that_ends_under_the_lock(process: Process) -> None:
    """A mapping collected while the kernel's lock is held gives its charge back with the next call."""
    memory = process.alloc(Memory(10))
    mapping = memory.map()  # type: ignore[attr-defined]
    memory.close()
    with process._core.lock:
        mapping.close()

    assert 10 == process._seat.account.nbytes
    process.alloc(Memory(1)).close()

    assert 0 == process._seat.account.nbytes


def test_closing_a_process_wakes_who_waits_for_room(kernel: Kernel) -> None:
    """Who waits for room when the process is closed is told."""
    process = kernel.attach(Credentials(budget=Budget(nbytes=10)))
    memory = process.alloc(Memory(10))
    with memory.map():  # type: ignore[attr-defined]
        waiting = in_thread(lambda: process.alloc(Memory(10)))
        until(lambda: len(process._seat.account.room._waiters))
        process.close()
        process.close()

        with pytest.raises(HandleRevoked, match="process is closed"):
            waiting()


def test_tokens_per_minute() -> None:
    """A process that used its tokens up is refused until time has passed, and told when."""
    clock = VirtualClock()
    with build(EchoBackend(), clock=clock) as kernel:
        process = kernel.attach(Credentials(budget=Budget(tokens_per_minute=6)))
        result(process, process.schedule(generate()))
        with pytest.raises(BudgetExceeded, match="tokens per minute") as caught:
            process.schedule(generate())

        clock.advance(float(str(caught.value.fields["retry_after"])))

        assert "one two three" == result(process, process.schedule(generate())).text
        process.close()
        none = kernel.attach(Credentials(budget=Budget(tokens_per_minute=0)))
        result(none, none.schedule(generate()))
        with pytest.raises(BudgetExceeded):
            none.schedule(generate())
        none.close()


def test_memory_that_the_system_refuses(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that cannot be made costs nothing."""

    def refuse(nbytes: int) -> None:
        raise MemoryError

    monkeypatch.setattr("llmos_kernel._core.Region", refuse)
    with pytest.raises(MemoryError):
        process.alloc(Memory(1))

    assert 0 == process._seat.account.nbytes


# --- call tasks ------------------------------------------------------------------------------------------------


def test_call(process: Process) -> None:
    """A `call` task runs a callable, live or by reference, with arguments, and its value is the result."""
    assert 7 == result(process, process.schedule(call(lambda a, b: a + b, 3, b=4))).value
    assert "a/b" == result(process, process.schedule(call("posixpath:join", "a", "b"))).value


@pytest.mark.parametrize("what", ["no.such.module:x", "os:no_such_name", "os", 5])
def test_call_of_nothing(process: Process, what: Any) -> None:
    """What is nothing that can be called is a wrong input."""
    failure = error(process, process.schedule(call(what)))

    assert isinstance(failure, InvalidArgument)
    assert "input" == failure.fields["field"]


def test_call_that_raises(process: Process) -> None:
    """An exception of the function is the cause of a `TaskFailed`; the kernel's own errors pass as they are."""

    def leave() -> None:
        raise SystemExit(1)

    def refuse() -> None:
        raise NotFound("nothing here")

    async def later(raised: BaseException) -> None:
        raise raised

    failures = [error(process, process.schedule(call(function))) for function in (lambda: 1 // 0, leave)]
    failures.append(error(process, process.schedule(call(later, KeyError("x")))))

    assert [TaskFailed] * 3 == [type(failure) for failure in failures]
    assert [ZeroDivisionError, SystemExit, KeyError] == [type(failure.__cause__) for failure in failures]
    assert isinstance(error(process, process.schedule(call(refuse))), NotFound)
    assert isinstance(error(process, process.schedule(call(later, NotFound("no")))), NotFound)


def test_call_coroutine_function(process: Process) -> None:
    """Coroutine functions run together on one event loop, which starts once."""
    both = asyncio.Event()
    count = 0

    async def meet() -> str:
        nonlocal count
        count += 1
        if count == 2:
            both.set()
        await both.wait()
        return threading.current_thread().name

    tasks = [process.schedule(call(meet)) for _ in range(2)]

    assert {"llmos-call-loop"} == {result(process, task).value for task in tasks}


def test_cancel_call(process: Process) -> None:
    """A cancelled coroutine is cancelled; a thread is left to return, its task has ended and its row is taken."""
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    async def forever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = process.schedule(call(forever))
    started.wait(20)
    task.cancel()

    assert isinstance(error(process, task), Cancelled)
    assert ended.wait(20)
    started.clear()

    def wait() -> None:
        started.set()
        release.wait(20)

    task = process.schedule(call(wait))
    started.wait(20)
    task.cancel()

    assert isinstance(error(process, task), Cancelled)
    driver = process._core.models.find("call").driver
    assert driver is not None
    assert 7 == driver._limits().free
    release.set()
    until(lambda: driver._limits().free == 8)


def test_waiting_for_a_child_lends_the_row() -> None:
    """With one row and one place in flight, a task can still wait for its children, one inside the other."""
    with nothing_left(), build(call_rows=1) as kernel:
        process = kernel.attach(Credentials(budget=Budget(tasks=2)))

        def nested(depth: int) -> int:
            return 1 + int(result(process, process.schedule(call(nested, depth - 1))).value) if depth else 0

        assert 5 == result(process, process.schedule(call(nested, 5))).value
        until(lambda: process._seat.account.tasks == 0)
        process.close()


def test_waiting_for_many_children_lends_the_row() -> None:
    """A coroutine that gathers its children lends its row until the last of them is there."""
    with nothing_left(), build(call_rows=1) as kernel:
        process = kernel.attach()

        async def parent() -> list[int]:
            aio = process.aio
            children = [await aio.schedule(call(int, number)) for number in range(3)]
            return [message.body.value for message in await asyncio.gather(*map(aio.recv, children))]

        assert [0, 1, 2] == result(process, process.schedule(call(parent))).value
        driver = kernel._core.models.find("call").driver

        assert driver is not None
        assert 0 == driver.lent
        process.close()


def test_row_is_taken_back_when_the_wait_ends() -> None:
    """A task whose wait for a child timed out has its row again; one that is cancelled while it waits gives it back."""
    with nothing_left(), build(call_rows=1) as kernel:
        process = kernel.attach()
        release, waiting = threading.Event(), threading.Event()

        def parent() -> int:
            child = process.schedule(call(release.wait, 20))
            with pytest.raises(DeadlineExceeded):
                process.recv(child, timeout=0)
            waiting.set()
            driver = kernel._core.models.find("call").driver
            return driver.lent if driver else -1

        task = process.schedule(call(parent))

        assert 0 == result(process, task).value
        release.set()

        def patient() -> None:
            process.recv(process.schedule(generate("x " * 9)))

        assert None is result(process, process.schedule(call(patient))).value
        process.close()


def test_cancelled_while_lent(echo: EchoBackend) -> None:
    """A task that is cancelled while its row is lent leaves the books right."""
    with nothing_left(), build(echo, call_rows=1) as kernel:
        process = kernel.attach()
        echo.gate.shut()
        caught: list[BaseException] = []

        def parent() -> None:
            try:
                process.recv(process.schedule(generate()))
            except KernelError as failure:
                caught.append(failure)

        task = process.schedule(call(parent))
        driver = kernel._core.models.find("call").driver
        assert driver is not None
        until(lambda: driver.lent == 1)
        task.cancel()

        assert isinstance(error(process, task), Cancelled)
        echo.gate.open()
        until(lambda: not process._seat.account.tasks and driver._limits().free == 1)

        assert 0 == driver.lent
        process.close()


# --- run executors ---------------------------------------------------------------------------------------------


def fn(**fields: Any) -> Task:
    """Return a task for the model ``fn``."""
    return Task("generate", "fn", "x", **fields)


def test_run_executor_emits() -> None:
    """A run executor streams what it emits, and its value or its Result is the end."""

    def run(id: int, task: Task, emit: Callable[[Result], Any]) -> Result:
        emit(Result(id, text="a", tokens=(1,)))
        emit(Result(id, value={"n": 1}))
        return Result(id, text="b", value=5, finish="length")

    backend, spec = serve(run)
    with nothing_left(), build(backend, models=(spec,)) as kernel:
        process = kernel.attach()
        chunks, end = finish(process, process.schedule(fn(stream=True)))

        assert [("a", None), ("", {"n": 1}), ("b", 5)][:2] == [(chunk.text, chunk.value) for chunk in chunks][:2]
        assert isinstance(end, Done)
        assert ("ab", 5, "length", 1) == (end.text, end.value, end.finish, end.usage.generated)
        process.close()


def test_run_executor_says_what_was_used() -> None:
    """Tokens that were counted elsewhere are the task's usage, for its reader and for observers; time stays ours."""

    def run(id: int, task: Task, emit: Callable[[Result], Any]) -> Result:
        emit(Result(id, text="a", usage=Usage(9)))
        return Result(id, text="b", finish="stop", usage=Usage(9, 4, 3, queued=99.0))

    backend, spec = serve(run)
    recorder = Recorder()
    with nothing_left(), build(backend, recorder, models=(spec,)) as kernel:
        process = kernel.attach()
        _, end = finish(process, process.schedule(fn()))

        assert (9, 4, 3) == (end.usage.prompt, end.usage.cached, end.usage.generated)
        assert end.usage.queued < 99.0
        process.close()
    done = next(event.fields for event in recorder.events if event.name == "task.done")

    assert (9, 4, 3) == (done["prompt"], done["cached"], done["generated"])


@pytest.mark.parametrize("aio", [False, True])
def test_run_executor_is_held_back(aio: bool) -> None:
    """`emit` waits while the port is full; when nobody reads for too long the task fails, and `emit` says so."""
    outcomes: list[object] = []
    sent: list[int] = []
    clock = VirtualClock()

    def run(id: int, task: Task, emit: Callable[[Result], Any]) -> None:
        try:
            for number in range(9):
                emit(Result(id, text=str(number)))
                sent.append(number)
        except KernelError as failure:
            outcomes.append(failure)
            raise

    async def arun(id: int, task: Task, emit: Callable[[Result], Any]) -> None:
        try:
            for number in range(9):
                await emit(Result(id, text=str(number)))
                sent.append(number)
        except KernelError as failure:
            outcomes.append(failure)
            raise

    backend, spec = serve(arun if aio else run, aio=aio)
    with nothing_left(), build(backend, models=(spec,), clock=clock, stall_timeout=10.0) as kernel:
        process = kernel.attach()
        task = process.schedule(fn(stream=True, capacity=2))
        until(lambda: ask(process, Stats())["tasks"] == {"stalled": 1})

        assert "0" == process.recv(task).body.text
        driver = kernel._core.models.find("fn").driver
        assert driver is not None
        until(lambda: len(sent) == 3 and not driver.dispatcher.notes)
        until(lambda: ask(process, Stats())["tasks"] == {"stalled": 1})
        clock.advance(11)
        until(lambda: not ask(process, Stats())["tasks"])
        chunks, end = finish(process, task)

        assert ["1", "2"] == [chunk.text for chunk in chunks]
        assert isinstance(end, Failed)
        assert isinstance(end.error, ReaderStalled)
        until(lambda: outcomes)

        assert isinstance(outcomes[0], Cancelled)
        process.close()


@pytest.mark.parametrize("aio", [False, True])
def test_run_executor_raises(aio: bool) -> None:
    """What a run executor raises, or returns as the error of a Result, is the task's end."""

    def run(id: int, task: Task, emit: object) -> Result:
        if task.params:
            return Result(id, error=ModelUnavailable("gone"))
        raise ValueError("no")

    async def arun(id: int, task: Task, emit: object) -> Result:
        return run(id, task, emit)

    backend, spec = serve(arun if aio else run, aio=aio)
    with nothing_left(), build(backend, models=(spec,)) as kernel:
        process = kernel.attach()

        assert isinstance(error(process, process.schedule(fn())), ExecutorCrashed)
        assert isinstance(error(process, process.schedule(fn(params={"n": 1}))), ModelUnavailable)
        process.close()


def test_coroutine_that_cancels_itself() -> None:
    """A coroutine that ends by its own cancellation ends its task as cancelled."""

    async def run(id: int, task: Task, emit: object) -> None:
        raise asyncio.CancelledError

    backend, spec = serve(run, aio=True)
    with nothing_left(), build(backend, models=(spec,)) as kernel:
        process = kernel.attach()

        assert isinstance(error(process, process.schedule(fn())), Cancelled)
        process.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_cancelled_on_the_way_to_the_loop(stopped: bool) -> None:
    """A function whose task ends before it returns a coroutine, even by the kernel's stop, does not get it run."""
    ran, started, release = [], threading.Event(), threading.Event()

    async def never() -> None:
        ran.append(1)

    def run(id: int, task: Task, emit: object) -> Any:
        started.set()
        release.wait(20)
        return never()

    backend, spec = serve(run)
    with nothing_left(), build(backend, models=(spec,)) as kernel:
        process = kernel.attach()
        task = process.schedule(fn())
        started.wait(20)
        driver = kernel._core.models.find("fn").driver
        assert driver is not None
        threads = driver.threads()
        if stopped:
            assert ("llmos-fn-run-0",) == kernel.stop(timeout=0.1)
        task.close()
        release.set()
        until(lambda: driver._limits().free == 4)
        process.close()
        kernel.stop()
        for thread in threads:
            thread.join(20)

    assert [] == ran


def test_row_of_a_coroutine_that_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of a coroutine is given back even if the coroutine ends before its starter goes on."""
    returned, spawn = threading.Event(), LoopThread.spawn

    def slowly(self: LoopThread, main: Any) -> Any:
        cancel = spawn(self, main)
        returned.wait(20)
        threading.Event().wait(0.05)  # time in which the row must not be given back: it is not taken yet
        return cancel

    async def run(id: int, task: Task, emit: object) -> int:
        returned.set()
        return 5

    monkeypatch.setattr(LoopThread, "spawn", slowly)
    backend, spec = serve(run, rows=1, aio=True)
    with nothing_left(), build(backend, models=(spec,)) as kernel:
        process = kernel.attach()
        tasks = [process.schedule(fn()) for _ in range(2)]

        assert [5, 5] == [result(process, task).value for task in tasks]
        process.close()


def test_loop_that_ends_cancels_what_runs() -> None:
    """A coroutine that still runs when its loop is closed is cancelled, and ends before the loop's thread does."""
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(threading.current_thread().name)

    with nothing_left():
        loop = LoopThread("some-loop")
        loop.spawn(forever)
        loop.close()
        loop.thread.join(20)

    assert ["some-loop"] == ended


def test_ended_while_it_is_admitted() -> None:
    """A task that is cancelled by the time it is admitted never runs."""
    ran: list[str] = []
    tasks: list[TaskHandle] = []
    planning = threading.Event()

    class Cancelling(FirstCome):
        def plan(self, now: float, limits: Limits) -> Plan:
            planning.wait(20)
            tasks[0].cancel()
            return super().plan(now, limits)

    def run(id: int, task: Task, emit: object) -> None:
        ran.append(task.input)

    backend, spec = serve(run)
    with nothing_left(), build(backend, SchedulerPlugin(Cancelling()), models=(spec,), fifo=False) as kernel:
        process = kernel.attach()
        tasks.append(process.schedule(fn()))
        planning.set()

        assert isinstance(error(process, tasks[0]), Cancelled)
        process.close()

    assert [] == ran


# --- processors ------------------------------------------------------------------------------------------------


class Doubling(TextFilter):
    """Says everything twice."""

    def feed(self, text: str) -> str:
        """Say it twice."""
        return text * 2

    def end(self) -> str:
        """Say goodbye."""
        return "!"


class Twice(FunctionProcessor):
    """Filters piece by piece."""

    def filter(self, params: Any) -> TextFilter:
        """Return a new filter."""
        return Doubling()


def broken(value: object) -> object:
    """Raise."""
    raise RuntimeError("broken")


def test_processors(echo: EchoBackend) -> None:
    """Input passes the pre-processors in order, text the post-processors; streaming ones piece by piece."""
    upper, drop = FunctionProcessor("upper", str.upper), FunctionProcessor("drop", lambda text: text.replace("A", ""))
    with nothing_left(), build(echo, upper, drop, Twice("twice", str)) as kernel:
        process = kernel.attach()

        assert "B" == result(process, process.schedule(generate("ab", pre=("upper", "drop")))).text
        chunks, end = finish(process, process.schedule(generate("a b", post=("twice",), stream=True)))

        assert ["aa", " b b!"] == [chunk.text for chunk in chunks]
        assert "aa b b!" == end.text
        assert "ONE TWO THREE" == result(process, process.schedule(generate(post=("upper",)))).text
        process.close()


def test_processors_around_a_run_executor() -> None:
    """Run executors get the same processors."""

    def run(id: int, task: Task, emit: Callable[[Result], Any]) -> Result:
        emit(Result(id, text=task.input))
        return Result(id, text="end")

    backend, spec = serve(run)
    upper = FunctionProcessor("upper", str.upper)
    with nothing_left(), build(backend, upper, Twice("twice", str), models=(spec,)) as kernel:
        process = kernel.attach()
        end = result(process, process.schedule(fn(pre=("upper",), post=("twice",))))

        assert "XXendend!" == end.text
        process.close()


@pytest.mark.parametrize("where", ["pre", "post"])
def test_processor_fails(where: str, echo: EchoBackend) -> None:
    """A processor that raises or does not exist fails its task by name; one that raises a kernel error says its own."""

    def refuse(value: object) -> object:
        raise InvalidArgument("no such language", field="input")

    rigged = [FunctionProcessor("broken", broken), FunctionProcessor("strict", refuse)]
    with nothing_left(), build(echo, *rigged) as kernel:
        process = kernel.attach()

        def fail(name: str) -> BaseException:
            names: Any = {where: (name,)}
            return error(process, process.schedule(generate(**names)))

        failure = fail("broken")

        assert isinstance(failure, PluginFailed)
        assert "processor:broken" == failure.fields["plugin"]
        assert isinstance(fail("strict"), InvalidArgument)
        assert isinstance(fail("missing"), PluginMissing)
        process.close()


def test_last_words_are_awaited(echo: EchoBackend) -> None:
    """A sequence that has ended is not stepped again while a slow post-processor holds its last words."""
    release = threading.Event()

    def slow(text: str) -> str:
        release.wait(20)
        return text

    with nothing_left(), build(echo, FunctionProcessor("slow", slow)) as kernel:
        process = kernel.attach()
        task = process.schedule(generate("one", post=("slow",)))
        until(lambda: ask(process, Stats())["tasks"] == {"stalled": 1})
        assert "two" == result(process, process.schedule(generate("two"))).text
        rows = [id for plan in echo.executors[0].plans for id, _ in plan.prefill + plan.decode]

        assert 1 == rows.count(task.id)
        release.set()

        assert "one" == result(process, task).text
        process.close()


def test_cancelled_while_filtered(echo: EchoBackend) -> None:
    """What a post-processor says after its task was cancelled is lost."""
    release, inside = threading.Event(), threading.Event()

    def slow(text: str) -> str:
        inside.set()
        release.wait(20)
        return text

    with nothing_left(), build(echo, FunctionProcessor("slow", slow)) as kernel:
        process = kernel.attach()
        task = process.schedule(generate("one", post=("slow",)))
        inside.wait(20)
        task.cancel()
        release.set()

        assert isinstance(error(process, task), Cancelled)
        process.close()


# --- preparing -------------------------------------------------------------------------------------------------


def test_prepare_raises(process: Process, echo: EchoBackend) -> None:
    """A `prepare` that raises fails its task alone."""
    echo.faults.prepare = RuntimeError("cannot read")

    assert isinstance(error(process, process.schedule(generate())), PluginFailed)


def test_prepare_hears_of_the_tenant() -> None:
    """`prepare` is told whose tenant's task it gets; the task itself cannot claim one."""
    heard: list[str] = []

    class Hearing(EchoExecutor):
        def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
            heard.append(tenant)
            return super().prepare(id, task, tenant)

    backend = FunctionBackend(lambda spec: Hearing())
    with nothing_left(), build(backend, models=(ModelSpec(name="fn", backend="function"),)) as kernel:
        for tenant in ("north", "south"):
            with kernel.attach(Credentials(tenant=tenant)) as process:
                result(process, process.schedule(fn()))

    assert ["north", "south"] == heard


def test_prepare_answers_nonsense() -> None:
    """A `prepare` that returns no Prepared is the plugin's failure."""

    class Nonsense(EchoExecutor):
        def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
            return 5  # type: ignore[return-value]

    backend = FunctionBackend(lambda spec: Nonsense())
    with nothing_left(), build(backend, models=(ModelSpec(name="fn", backend="function"),)) as kernel:
        process = kernel.attach()

        assert "returned 5" in str(error(process, process.schedule(fn())))
        process.close()


@pytest.mark.parametrize("pools", [(), ((8, 2),)])
def test_prepare_names_no_class_of_the_executor(pools: tuple[tuple[int, int], ...]) -> None:
    """A `prepare` that puts a task in a class that the executor's limits do not have is the plugin's failure."""

    class Classless(EchoExecutor):
        def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
            return attrs.evolve(super().prepare(id, task, tenant), length_class=1)

        @property
        def limits(self) -> Limits:
            return attrs.evolve(super().limits, pools=pools)

    backend = FunctionBackend(lambda spec: Classless())
    with nothing_left(), build(backend, models=(ModelSpec(name="fn", backend="function"),)) as kernel:
        process = kernel.attach()
        failure = error(process, process.schedule(fn()))

        assert isinstance(failure, PluginFailed)
        assert "length_class=1" in str(failure)
        process.close()


def test_prepare_blocks() -> None:
    """A task whose `prepare` takes too long fails, the next one is not held up, and late answers change nothing."""
    release, inside = threading.Event(), threading.Event()
    clock = VirtualClock()

    class Slow(EchoExecutor):
        def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
            if task.input == "slow":
                inside.set()
                release.wait(20)
            return super().prepare(id, task, tenant)

    executor = Slow()
    spec = ModelSpec(name="fn", backend="function")
    with (
        nothing_left(),
        build(FunctionBackend(lambda spec: executor), models=(spec,), clock=clock, workers=2) as kernel,
    ):
        process = kernel.attach()
        task = process.schedule(Task("generate", "fn", "slow"))
        inside.wait(20)

        assert "quick" == result(process, process.schedule(Task("generate", "fn", "quick"))).text
        clock.advance(31)
        failure = error(process, task)

        assert isinstance(failure, PluginFailed)
        assert "30.0 s" in str(failure)
        release.set()
        until(lambda: not executor.known)
        process.close()


def test_tokenize_needs_no_step(process: Process, echo: EchoBackend) -> None:
    """A task that `prepare` answers ends without the executor."""
    tokens = result(process, process.schedule(Task("tokenize", "echo", "a b"))).value

    assert 2 == len(tokens)
    assert [] == echo.executors[0].plans


# --- models ----------------------------------------------------------------------------------------------------


def test_load_failure_reaches_all(echo: EchoBackend) -> None:
    """Everybody who waits for a load hears how it failed, typed; the next attempt tries again."""
    release, inside = threading.Event(), threading.Event()

    def load(spec: ModelSpec) -> Any:
        inside.set()
        release.wait(20)
        raise ValueError("corrupt")

    with nothing_left(), build(FunctionBackend(load), models=(ModelSpec(name="fn", backend="function"),)) as kernel:
        process = kernel.attach()
        waits = [in_thread(lambda: process.alloc(Model("fn"))) for _ in range(3)]
        inside.wait(20)
        served = kernel._core.models.find("fn")
        until(lambda: served.loading and len(served.loading.waiters._waiters) == 3)
        with pytest.raises(WouldBlock):
            process.alloc_nowait(Model("fn"))
        release.set()
        for wait in waits:
            with pytest.raises(PluginFailed, match="corrupt"):
                wait()
        with pytest.raises(PluginFailed):
            process.schedule(fn())
        process.close()


@pytest.mark.parametrize("loaded", [5, None])
def test_loads_no_executor(loaded: object) -> None:
    """A backend that loads something else is named."""
    with build(FunctionBackend(lambda spec: loaded), models=(ModelSpec(name="fn", backend="function"),)) as kernel:
        process = kernel.attach()
        with pytest.raises(PluginFailed, match="no executor"):
            process.alloc(Model("fn"))


def echo_models(*sizes: int) -> tuple[ModelSpec, ...]:
    """Return echo models of so many bytes."""
    return tuple(ModelSpec(name=f"m{number}", backend="echo", nbytes=size) for number, size in enumerate(sizes))


def test_least_recently_used_goes(echo: EchoBackend) -> None:
    """A model that needs room pushes out what is idle, longest unused first; pinned and busy ones stay."""
    models = echo_models(40, 40, 40, 90, 200)
    with nothing_left(), build(echo, models=models, devices={"cpu": 100}) as kernel:
        process = kernel.attach()

        def run(name: str) -> str:
            return result(process, process.schedule(Task("generate", name, "x"))).text

        def loaded() -> list[str]:
            models = kernel._core.models.served.values()
            return [served.name for served in models if served.driver and served.name != "call"]

        run("m0")
        run("m1")
        run("m2")

        assert ["m1", "m2"] == loaded()
        pinned = process.alloc(Model("m1", pinned=True))
        run("m0")

        assert ["m0", "m1"] == loaded()
        with pytest.raises(MemoryError, match="room for 60"):
            run("m3")
        with pytest.raises(MemoryError):
            run("m4")
        pinned.close()
        run("m3")

        assert ["m3"] == loaded()
        assert {"cpu": 90} == kernel._core.ledger.used
        process.close()


def test_other_devices_give_no_room() -> None:
    """A model leaves only for what needs the room of its own device."""
    function = FunctionBackend(lambda spec: EchoExecutor(), device="other")
    far = ModelSpec(name="far", backend="function", nbytes=50)
    models = (far, *echo_models(60, 60))
    with nothing_left(), build(function, EchoBackend(), models=models, devices={"cpu": 100, "other": 50}) as kernel:
        process = kernel.attach()
        for name in ("far", "m0", "m1"):
            result(process, process.schedule(Task("generate", name, "x")))

        assert {"cpu": 60, "other": 50} == kernel._core.ledger.used
        process.close()


def test_more_given_back_than_taken() -> None:
    """A device of which more is given back than was taken is a mistake of the kernel."""
    with pytest.raises(KernelBug, match="below zero"):
        Ledger({"cpu": 9}).release("cpu", 1)


def test_unknown_device() -> None:
    """A device that the configuration does not know has no room, for nothing at all."""
    backend = FunctionBackend(lambda spec: EchoExecutor(), device="cuda:9")
    with build(backend, models=(ModelSpec(name="fn", backend="function"),)) as kernel:
        process = kernel.attach()
        with pytest.raises(MemoryError, match="cuda:9"):
            process.alloc(Model("fn"))


class Keeping(EchoExecutor):
    """Keeps contexts of one byte a token."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: set[int] = set()

    def open_context(self, id: int, tokens: int) -> int:
        """Keep it."""
        if tokens == 13:
            raise RuntimeError("unlucky")
        self.contexts.add(id)
        return tokens

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Run only in a context that is kept."""
        assert task.target in self.contexts
        return super().prepare(id, task, tenant)

    def release(self, ids: Any) -> None:
        """Forget contexts too."""
        super().release(ids)
        self.contexts -= set(ids)


def test_contexts() -> None:
    """A context is charged to its owner, keeps its model, runs tasks, and is released with its handle."""
    executor, spec = Keeping(), ModelSpec(name="fn", backend="function")
    with nothing_left(), build(FunctionBackend(lambda spec: executor), models=(spec,)) as kernel:
        process = kernel.attach(Credentials(budget=Budget(nbytes=100)))
        with pytest.raises(ModelUnavailable, match="not loaded"):
            process.alloc(Context("fn", 10))
        model = process.alloc(Model("fn"))
        context = process.alloc(Context(model, 60))

        assert 60 == process._seat.account.nbytes
        assert "hi" == result(process, process.schedule(Task("generate", context, "hi"))).text
        for tokens in (60, 200):
            with pytest.raises(BudgetExceeded):
                process.alloc(Context(model, tokens))
        with pytest.raises(ExecutorCrashed, match="unlucky"):
            process.alloc(Context(model, 13))
        until(lambda: len(executor.contexts) == 1)

        assert not kernel._core.models.find("fn").idle
        context.close()
        until(lambda: not executor.contexts)

        assert kernel._core.models.find("fn").idle
        assert 0 == process._seat.account.nbytes
        process.close()


def test_context_that_outlives_its_kernel() -> None:
    """A context whose kernel has stopped is closed with its process, and its charge given back."""
    spec = ModelSpec(name="fn", backend="function")
    with nothing_left(), build(FunctionBackend(lambda spec: Keeping()), models=(spec,)) as kernel:
        process = kernel.attach()
        process.alloc(Model("fn"))
        context = process.alloc(Context("fn", 60))
        kernel.stop()

        assert 60 == process._seat.account.nbytes
        context.close()

    assert 0 == process._seat.account.nbytes


def test_echo_keeps_no_contexts(process: Process) -> None:
    """A model that keeps no contexts says so."""
    model = process.alloc(Model("echo"))

    with pytest.raises(InvalidArgument, match="keeps no contexts"):
        process.alloc(Context(model, 10))


class FunctionRouter(Router):
    """Asks a function."""

    name = "way"

    def __init__(self, function: Callable[..., str]) -> None:
        self._function = function

    def route(self, kind: str, want: Auto, candidates: Any) -> str:
        """Call it."""
        return self._function(kind, want, candidates)


def test_router(echo: EchoBackend) -> None:
    """`auto` goes where the router says; a router that raises is named."""

    def route(kind: str, want: Auto, candidates: Any) -> str:
        if want.context == 1:
            raise RuntimeError("lost")
        if want.context == 2:
            raise NotFound("none will do")
        return str(candidates[-1].spec.name)

    with nothing_left(), build(echo, FunctionRouter(route), router="way") as kernel:
        process = kernel.attach()

        assert "x" == result(process, process.schedule(Task("generate", Auto(), "x"))).text
        with pytest.raises(PluginFailed, match="lost"):
            process.schedule(Task("generate", Auto(context=1), "x"))
        with pytest.raises(NotFound):
            process.schedule(Task("generate", Auto(context=2), "x"))
        process.close()


def test_observers_hear_of_steps() -> None:
    """Tasks, steps and models are told to observers."""
    recorder = Recorder()
    with build(EchoBackend(), recorder) as kernel:
        process = kernel.attach()
        result(process, process.schedule(generate("one")))
        process.close()
    told = {event.name: event.fields for event in recorder.events}

    assert {"kernel.started", "model.loaded", "task.accepted", "step", "task.done", "kernel.stopped"} <= set(told)
    assert ({told["task.done"]["task"]: 1}, "stop") == (told["step"]["tokens"], told["task.done"]["finish"])


def test_observers_hear_who_asked() -> None:
    """Every event of a task has its trace; its children have the same unless told otherwise, on threads and loops."""
    recorder = Recorder()
    with build(EchoBackend(), recorder) as kernel:
        process = kernel.attach()

        def parent() -> None:
            for child in (generate("child"), generate("child", trace="another")):
                result(process, process.schedule(child))

        async def coroutine() -> None:
            await process.aio.recv(await process.aio.schedule(generate("child")))

        for task in (call(parent), call(coroutine), generate("one")):
            result(process, process.schedule(attrs.evolve(task, trace=f"of {task.kind}")))
        result(process, process.schedule(call(parent)))
        process.close()
    told = [event.fields for event in recorder.events if event.name.startswith("task.")]

    for task in {fields["task"] for fields in told}:
        assert 1 == len({fields["trace"] for fields in told if fields["task"] == task})
    children = ["of call", "another", "of call", "of generate", "", "another"]
    assert children == [one["trace"] for one in told if one["kind"] == "generate" and "process" in one]


class Measuring:
    """An observer that measures nothing and answers with what it was asked."""

    name = "measuring"

    @hookimpl
    def llmos_event(self) -> None:
        """Do nothing."""

    @hookimpl
    def llmos_metrics(self, accept: str, facts: Any) -> Any:
        """Return both."""
        return accept, facts


def test_metrics_are_asked_of_an_observer() -> None:
    """It is given what the kernel counts and of whom the asker may hear; without one there is no answer."""
    echo = EchoBackend()
    with build(echo) as kernel, kernel.attach() as process:
        assert ask(process, Metrics("text")) is None
    with build(echo, Measuring()) as kernel:
        echo.gate.shut()
        ann, boss = (
            kernel.attach(Credentials("ann", "acme")),
            kernel.attach(Credentials(scopes=frozenset({"operator"}))),
        )
        handle = ann.schedule(generate("one"))
        until(lambda: ask(ann, Stats())["tasks"] == {"running": 1})
        (accept, facts), (_, everything) = ask(ann, Metrics("text")), ask(boss, Metrics())
        echo.gate.open()
        ann.recv(handle)

    assert ("text", "acme", None) == (accept, facts["tenant"], everything["tenant"])
    assert {("echo", "acme", "running"): 1} == facts["tasks"] == everything["tasks"]
    assert ["echo"] == [model["name"] for model in facts["models"] if model["executor"]["provider"] == "echo"]
    assert 2 == facts["stats"]["processes"]
