"""The kernel's own life: start, policies, administration, stop and fork."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from kernel.tests.rig import (
    FunctionBackend, FunctionPolicy, Recorder, SchedulerPlugin, ask, build, error, finish, in_thread, nothing_left,
    port_pair, result, serve, until, wait_until_waiting,
)  # fmt: skip
from llmos.testing import EchoBackend, EchoExecutor, FirstCome, VirtualClock, echo_spec
from llmos_kernel import (
    Action, Credentials, Decision, Done, Failed, Kernel, Limits, Memory, Model, ModelSpec, Plan, Port, Process, Reply,
    Task,
)  # fmt: skip
from llmos_kernel.kernel import _after_fork
from llmos_kernel.control import (
    AddModel, CancelTask, Drain, InspectModel, InspectTask, ListModels, ListPlugins, ListTasks, LoadModel, Reload,
    Reprioritise, Stats, UnloadModel,
)  # fmt: skip
from llmos_kernel.errors import (
    Cancelled, DeadlineExceeded, ExecutorCrashed, HandleRevoked, InvalidArgument, KernelError, KernelStopped,
    ModelUnavailable, NotFound, PermissionDenied, PluginFailed, PluginMissing,
)  # fmt: skip


def generate(prompt: str = "one two three", **fields: Any) -> Task:
    """Return a task for the echo model."""
    return Task("generate", "echo", prompt, **fields)


# --- start and stop --------------------------------------------------------------------------------------------


def test_nothing_before_start() -> None:
    """A kernel that is not started has no thread, accepts nothing, and can be stopped."""
    with nothing_left():
        threads = threading.enumerate()
        kernel = build()

        assert threads == threading.enumerate()
        assert "new" == kernel.state
        with pytest.raises(KernelStopped, match="new"):
            kernel.attach()
        assert () == kernel.stop()
        assert "stopped" == kernel.state
        with pytest.raises(KernelStopped, match="starts once"):
            kernel.start()


@pytest.mark.parametrize("config", [{"scheduler": "absent"}, {"schedulers": {"echo-2": "absent"}}])
def test_absent_scheduler_refuses_the_start(config: dict[str, Any]) -> None:
    """The scheduler of every model that is offered is made once before anything runs: none is found missing later."""
    with nothing_left():
        kernel = build(**config)
        with pytest.raises(PluginMissing, match="no scheduler plugin is called 'absent'"):
            kernel.start()

    assert "new" == kernel.state


def test_scheduler_that_nobody_needs() -> None:
    """Without models besides ``call`` no scheduler has to be there before the first task."""
    with build(models=(), scheduler="absent") as kernel:
        assert "running" == kernel.state


def test_wrong_arguments() -> None:
    """What is no configuration, no credentials or no number is refused."""
    with pytest.raises(InvalidArgument, match="config"):
        Kernel("config")  # type: ignore[arg-type]
    with build() as kernel:
        with pytest.raises(InvalidArgument, match="credentials"):
            kernel.attach("me")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="drain"):
            kernel.stop(drain=float("nan"))
        with pytest.raises(InvalidArgument, match="timeout"):
            kernel.stop(timeout=-1)


def test_a_name_taken_twice() -> None:
    """Two models of one name are refused, whoever brings them."""
    specs = [echo_spec("call", distribution="one")]
    with pytest.raises(InvalidArgument, match="taken by one"):
        build(models=specs).start()


async def test_async_kernel() -> None:
    """The kernel is an asynchronous context manager as well."""
    with nothing_left():
        async with build() as kernel, kernel.attach().aio as aio:
            task = await aio.schedule(generate("hi"))

            assert "hi" == (await aio.recv(task)).body.text
        assert "stopped" == kernel.state


def test_everything_ends_with_the_kernel(echo: EchoBackend) -> None:
    """Stopping ends tasks and wakes everybody who waits, typed, also for what runs at that moment."""
    with nothing_left():
        kernel = build(echo)
        kernel.start()
        process = kernel.attach()
        echo.gate.shut()
        task, port = process.schedule(generate()), process.alloc(Port(1))
        memory = process.alloc(Memory(1))
        echo.gate.wait_for_visitor()
        waiting = [in_thread(lambda: process.recv(port)), in_thread(process.recv)]
        wait_until_waiting(process, port)
        wait_until_waiting(process, process.mailbox)

        assert () == kernel.stop()
        for wait in waiting:
            with pytest.raises((KernelStopped, HandleRevoked)):
                wait()
        assert isinstance(error(process, task), KernelStopped)
        with pytest.raises(HandleRevoked):
            memory.map()  # type: ignore[attr-defined]
        with pytest.raises(KernelStopped):
            process.schedule(generate())
        with pytest.raises(KernelStopped):
            process.alloc(Port(1))
        assert () == kernel.stop()
        process.close()


def test_drain(echo: EchoBackend) -> None:
    """A draining kernel takes no new task; those accepted go on, are read, and may send and receive."""
    with nothing_left():
        kernel = build(echo)
        kernel.start()
        process = kernel.attach()
        echo.gate.shut()
        task = process.schedule(generate(stream=True))
        echo.gate.wait_for_visitor()
        stopping = in_thread(lambda: kernel.stop(drain=20))
        until(lambda: kernel.state == "draining")
        reading = in_thread(lambda: finish(process, task))
        with pytest.raises(KernelStopped, match="draining"):
            process.schedule(generate())
        with pytest.raises(KernelStopped, match="draining"):
            kernel.attach()
        process.send(process.mailbox, "still here")

        assert "still here" == process.recv().body
        echo.gate.open()
        _, end = reading()

        assert isinstance(end, Done)
        assert () == stopping()
        process.close()


def test_drain_that_takes_too_long() -> None:
    """What has not ended after the drain is failed."""
    clock, echo = VirtualClock(), EchoBackend()
    with nothing_left():
        kernel = build(echo, clock=clock)
        kernel.start()
        process = kernel.attach()
        echo.gate.shut()
        task = process.schedule(generate())
        stopping = in_thread(lambda: kernel.stop(drain=5))
        until(lambda: len(kernel._core.idle._waiters))
        clock.advance(6)

        assert () == stopping()
        assert isinstance(error(process, task), KernelStopped)
        process.close()


def test_threads_that_outlive_stop() -> None:
    """`stop` names the threads that do not end in time, all of them within that time, and tells the observers."""
    release, recorder = threading.Event(), Recorder()
    with nothing_left():
        kernel = build(recorder)
        kernel.start()
        process = kernel.attach()
        started = threading.Barrier(3)
        tasks = [process.schedule(Task("call", input=lambda: (started.wait(), release.wait(20)))) for _ in range(2)]
        started.wait()
        left = kernel.stop(timeout=0.01)

        assert {"llmos-call-run-0", "llmos-call-run-1"} == set(left)
        for task in tasks:
            assert isinstance(error(process, task), KernelStopped)
        assert ["kernel.threads_left", "kernel.stopped"] == [event.name for event in recorder.events[-2:]]
        release.set()
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("llmos")])
        process.close()


def test_stop_during_a_load() -> None:
    """A model that is loading when the kernel stops is closed again, and who waits for it is told."""
    release, inside = threading.Event(), threading.Event()
    executor = EchoExecutor()

    def load(spec: ModelSpec) -> EchoExecutor:
        inside.set()
        release.wait(20)
        return executor

    with nothing_left():
        kernel = build(FunctionBackend(load), models=(ModelSpec(name="fn", backend="function"),))
        kernel.start()
        process = kernel.attach()
        waiting = in_thread(lambda: process.alloc(Model("fn")))
        inside.wait(20)
        stopping = in_thread(kernel.stop)
        with pytest.raises(KernelStopped):
            waiting()
        release.set()

        assert () == stopping()
        assert executor.closed
        process.close()


def test_stop_from_a_task() -> None:
    """A call task may stop the kernel that runs it."""
    with nothing_left():
        kernel = build()
        kernel.start()
        process = kernel.attach()
        task = process.schedule(Task("call", input=kernel.stop))

        assert isinstance(error(process, task), KernelStopped)
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("llmos")])
        process.close()


def test_state_after_a_fork() -> None:
    """In a forked child kernels that ran say so, whoever held their lock, and others are as they were."""
    with nothing_left(), build() as kernel, build() as ended:
        process = kernel.attach()
        ended.stop()
        with kernel._core.lock:
            _after_fork()

        assert ("forked", "stopped") == (kernel.state, ended.state)
        with pytest.raises(KernelStopped, match="forked"):
            process.recv()
        process.close()

        assert () == kernel.stop()
        assert "forked" == kernel.state
        kernel._core.state = "running"  # this is no child: its threads are here, and have to end
        process.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork() -> None:
    """After a fork the child's kernel only says that it did not come along; a script that closes nothing ends well."""
    script = """
import os, warnings
warnings.simplefilter("ignore")
from kernel.tests.rig import build, result
from llmos_kernel import Port, Task
from llmos_kernel.errors import KernelStopped
kernel = build(); kernel.start(); process = kernel.attach()
port = process.alloc(Port(1))
task = process.schedule(Task("generate", "echo", "hi"))
pid = os.fork()
if not pid:
    try:
        process.recv(port)
    except KernelStopped as error:
        kernel.stop(); process.close()
        os._exit(0 if error.fields == {"state": "forked"} else 3)
    os._exit(4)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), result(process, task).text)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (0, "0 hi", "") == (done.returncode, done.stdout.strip(), done.stderr)


# --- policies --------------------------------------------------------------------------------------------------


def test_policies_are_asked_when_authority_is_obtained() -> None:
    """attach, alloc, schedule and grant are asked; send and recv are not."""
    asked: list[tuple[str, str]] = []

    def rule(action: Action) -> Decision:
        asked.append((action.name, action.resource))
        return Decision.ABSTAIN

    with build(FunctionPolicy(rule)) as kernel:
        process, other = kernel.attach(), kernel.attach()
        port, sender = port_pair(process, other)
        other.send(sender, "x")
        process.recv(port)
        result(process, process.schedule(Task("generate", process.alloc(Model("parrot")), "x")))
        process.close()
        other.close()

    assert asked == [
        ("attach", "kernel"), ("attach", "kernel"), ("alloc", "port"), ("grant", "port"), ("alloc", "model:echo"),
        ("schedule", "model:echo"),
    ]  # fmt: skip


def _raise(action: Action) -> Decision:
    raise RuntimeError("confused")


def _exit(action: Action) -> Decision:
    raise SystemExit


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda action: Decision.DENY, "denies alloc on port$"),
        (_raise, "because it failed .RuntimeError: confused"),
        (_exit, "because it failed .SystemExit"),
        (lambda action: True, "because it failed .it answered True"),
        (lambda action: None, "because it failed .it answered None"),
    ],
)
def test_denials(answer: Any, match: str) -> None:
    """One denial wins, and an exception or a wrong answer is one."""
    allow = FunctionPolicy(lambda action: Decision.ALLOW)
    allow.name = "friend"
    with build(allow, FunctionPolicy(lambda a: answer(a) if a.name == "alloc" else Decision.ALLOW)) as kernel:
        process = kernel.attach()
        with pytest.raises(PermissionDenied, match=match) as caught:
            process.alloc(Port(1))

        assert "rule" == caught.value.fields["policy"]
        process.close()


# --- the control port ------------------------------------------------------------------------------------------


def test_models_are_administered(process: Process) -> None:
    """Models are listed, inspected, added, loaded, unloaded and reloaded through the control port."""
    (echo, _) = ask(process, ListModels())

    assert ("echo", "unloaded", ["parrot"]) == (echo["name"], echo["state"], echo["aliases"])
    assert None is ask(process, InspectModel("echo"))["executor"]
    assert ask(process, LoadModel("echo"))["state"] in ("loading", "loaded")
    handle = process.alloc(Model("echo"))

    assert "echo" == ask(process, InspectModel("parrot"))["executor"]["provider"]
    assert "loaded" == ask(process, LoadModel("echo"))["state"]
    assert "unloaded" == ask(process, UnloadModel("echo"))["state"]
    assert isinstance(ask(process, UnloadModel("echo")), ModelUnavailable)
    assert "hi" == result(process, process.schedule(Task("generate", handle, "hi"))).text
    assert ask(process, Reload("echo"))["state"] in ("loading", "loaded")
    assert "new" == ask(process, AddModel(echo_spec("new")))["name"]
    assert isinstance(ask(process, AddModel(echo_spec("new", license="MIT"))), InvalidArgument)
    assert isinstance(ask(process, InspectModel("nwe")), NotFound)


def test_model_in_use_stays(process: Process, echo: EchoBackend) -> None:
    """A model that runs a task or is pinned is not unloaded."""
    pin = process.alloc(Model("echo", pinned=True))

    assert "1 pins" in str(ask(process, UnloadModel("echo")))
    pin.close()
    echo.gate.shut()
    task = process.schedule(generate())

    assert "1 tasks" in str(ask(process, UnloadModel("echo")))
    echo.gate.open()
    result(process, task)


def test_tasks_are_administered(kernel: Kernel, process: Process, echo: EchoBackend) -> None:
    """Tasks are listed, inspected, given another priority and cancelled, within the asker's tenant."""
    stranger = kernel.attach(Credentials(name="eve", tenant="elsewhere"))
    scopes: Any = ("operator",)
    operator = kernel.attach(Credentials(name="op", tenant="ops", scopes=scopes))
    echo.gate.shut()
    task = process.schedule(generate())
    echo.gate.wait_for_visitor()
    (facts,) = ask(process, ListTasks())

    assert (task.id, "echo", "running") == (facts["id"], facts["model"], facts["state"])
    assert [] == ask(stranger, ListTasks())
    assert isinstance(ask(stranger, CancelTask(task.id)), NotFound)
    assert 7 == ask(operator, Reprioritise(task.id, 7))["priority"]
    assert 7 == ask(process, InspectTask(task.id))["priority"]
    assert "cancelled" == ask(operator, CancelTask(task.id))["state"]
    assert "by op" in str(error(process, task))
    assert isinstance(ask(process, InspectTask(task.id)), NotFound)
    stranger.close()
    operator.close()


def test_stats_plugins_and_drain(kernel: Kernel, process: Process) -> None:
    """Counts and plugins are told; a drain through the control port is answered, and so are questions after it."""
    stats = ask(process, Stats())

    assert ("running", 1) == (stats["state"], stats["processes"])
    assert {"used": 0, "limit": 2**34} == stats["devices"]["cpu"]
    assert "backend:echo" in [record["key"] for record in ask(process, ListPlugins())]
    assert {"unfinished": 0} == ask(process, Drain())
    assert "draining" == ask(process, Stats())["state"]
    assert isinstance(ask(process, Drain()), KernelStopped)
    assert isinstance(ask(process, LoadModel("echo")), KernelStopped)


@pytest.mark.parametrize("body", ["hello", None, Port(1), Task("call")])
def test_nonsense_on_the_control_port(process: Process, body: object) -> None:
    """What is no control message is answered with what would be."""
    assert isinstance(ask(process, body), InvalidArgument)


def test_unanswerable_questions(process: Process) -> None:
    """A question without a reply, or whose reply is gone or no reply at all, hurts nobody and leaves nothing."""
    control, reply = process.control, process.alloc(Reply())
    held = process._seat.account.ports
    process.send(control, Stats())
    process.send(control, Stats(), (reply.sender,))  # type: ignore[attr-defined]
    reply.close()
    process.send(control, Stats(), (process.alloc(Memory(1)), process.alloc(Port(1))))

    assert "running" == ask(process, Stats())["state"]
    until(lambda: process._core.seat.account.nbytes == 0 and process._core.seat.account.ports == 1)
    assert held - 1 == process._seat.account.ports


def test_policies_on_control() -> None:
    """Each message is an action of its own, with its fields."""
    asked: list[Action] = []

    def rule(action: Action) -> Decision:
        asked.append(action)
        return Decision.DENY if action.name == "control.Drain" else Decision.ALLOW

    with build(FunctionPolicy(rule)) as kernel:
        process = kernel.attach()

        assert isinstance(ask(process, Drain()), PermissionDenied)
        assert isinstance(ask(process, CancelTask(99)), NotFound)
        assert "running" == kernel.state
        last = next(action for action in reversed(asked) if action.name == "control.CancelTask")

        assert {"id": 99} == dict(last.detail)
        process.close()


def test_question_that_a_plugin_fails() -> None:
    """A plugin that raises behind a question is in the answer."""

    class Mute(EchoExecutor):
        def describe(self) -> Any:
            raise RuntimeError("no words")

    backend = FunctionBackend(lambda spec: Mute())
    with build(backend, models=(ModelSpec(name="fn", backend="function"),)) as kernel:
        process = kernel.attach()
        process.alloc(Model("fn"))

        assert "no words" in str(ask(process, InspectModel("fn")))
        process.close()


# --- plugins that fail in use ----------------------------------------------------------------------------------


class Faulty(FirstCome):
    """A scheduler that raises in one method, when told."""

    def __init__(self, method: str, raised: BaseException) -> None:
        super().__init__()
        self.armed = False
        original = getattr(self, method)

        def fail(*args: Any) -> Any:
            if self.armed:
                raise raised
            return original(*args)

        setattr(self, method, fail)


@pytest.mark.parametrize("raised", [RuntimeError("confused"), SystemExit(1)])
@pytest.mark.parametrize("method", ["arrived", "changed", "charged", "finished", "plan"])
def test_scheduler_fails(method: str, raised: BaseException) -> None:
    """A scheduler that raises anywhere: what runs ends well, what waits fails once, and new tasks are refused."""
    scheduler, echo = Faulty(method, raised), EchoBackend(rows=1)
    with nothing_left(), build(echo, SchedulerPlugin(scheduler), fifo=False) as kernel:
        process = kernel.attach()
        process.alloc(Model("echo"))
        echo.gate.shut()
        running = process.schedule(generate("a b c"))
        echo.gate.wait_for_visitor()
        waiting = process.schedule(generate("d"))
        until(lambda: len(echo.executors[0].known) == 2)
        scheduler.armed = True
        echo.gate.open()

        assert "a b c" == result(process, running).text
        _, late = finish(process, waiting)
        if method == "changed":  # it is called when the second runs as well
            assert isinstance(late, Done)
        else:
            assert isinstance(late, Failed)
            assert isinstance(late.error, PluginFailed)
            assert type(raised).__name__ in str(late.error)
        with pytest.raises(PluginFailed, match="takes no tasks"):
            until(lambda: process.schedule(generate()) is None)
        facts = ask(process, InspectModel("echo"))

        assert ("failed", True) == (facts["state"], "scheduler fifo raised" in facts["why"])
        scheduler.armed = False
        ask(process, Reload("echo"))
        process.close()


class Ending(EchoExecutor):
    """Fails where a step executor is not expected to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.armed = where, False

    @property
    def limits(self) -> Limits:
        """Fail, if it is here."""
        if self.armed and self.where == "limits":
            raise SystemExit
        return super().limits

    def admit(self, id: int) -> Any:
        """Fail, if it is here, in one of two ways."""
        if self.where == "admit":
            raise SystemExit
        return None if self.where == "nonsense" else super().admit(id)

    def step(self, plan: Plan) -> Any:
        """Fail, if it is here."""
        if self.where == "step":
            raise SystemExit
        results = super().step(plan)
        if self.where == "missing":
            return []
        return [*results, *results] if self.where == "twice" else results

    def release(self, ids: Any) -> None:
        """Fail, if it is here."""
        if self.where == "release":
            raise RuntimeError("release")

    def interrupt(self) -> None:
        """Fail, if it is here."""
        super().interrupt()
        if self.where == "interrupt":
            raise RuntimeError("interrupt")

    def close(self) -> None:
        """Fail, if it is here."""
        if self.where == "close":
            raise SystemExit


@pytest.mark.parametrize("where", ["limits", "admit", "nonsense", "step", "missing", "twice"])
def test_executor_fails(where: str) -> None:
    """An executor that fails in any call fails the tasks concerned, typed, and its thread lives."""
    executor = Ending(where)
    backend, models = FunctionBackend(lambda spec: executor), (ModelSpec(name="fn", backend="function"),)
    with nothing_left(), build(backend, models=models) as kernel:
        process = kernel.attach()
        process.alloc(Model("fn"))
        executor.armed = True
        failure = error(process, process.schedule(Task("generate", "fn", "a b")))

        assert isinstance(failure, ExecutorCrashed | PluginFailed)
        executor.where = ""

        assert "a b" == result(process, process.schedule(Task("generate", "fn", "a b"))).text
        process.close()


@pytest.mark.parametrize("where", ["release", "interrupt", "close"])
def test_executor_fails_unnoticed(where: str) -> None:
    """An executor that fails where no task is concerned is reported, and nobody is hurt."""
    executor, recorder = Ending(where), Recorder()
    backend, models = FunctionBackend(lambda spec: executor), (ModelSpec(name="fn", backend="function"),)
    with nothing_left():
        with build(backend, recorder, models=models) as kernel:
            process = kernel.attach()
            executor.gate.shut()
            task = process.schedule(Task("generate", "fn", "a b"))
            executor.gate.wait_for_visitor()
            task.close()
            if where == "interrupt":
                until(lambda: "executor.interrupt_failed" in [event.name for event in recorder.events])
            executor.gate.open()

            assert "a" == result(process, process.schedule(Task("generate", "fn", "a"))).text
            process.close()

        assert f"executor.{where}_failed" in [event.name for event in recorder.events]


def test_an_interrupt_that_comes_late_cuts_nobody(echo: EchoBackend) -> None:
    """The order to cut a step that has meanwhile ended by itself does not reach the next one."""
    with nothing_left(), build(echo, workers=1) as kernel:
        process = kernel.attach()
        process.alloc(Model("echo"))
        release, inside = threading.Event(), threading.Event()
        echo.gate.shut()
        task = process.schedule(generate("a"))
        echo.gate.wait_for_visitor()

        def busy() -> None:
            inside.set()
            release.wait(20)

        kernel._core.workers.submit(busy)
        inside.wait(20)
        task.close()
        cut: list[int] = []
        executor = echo.executors[0]
        executor.interrupt = lambda: cut.append(1)  # type: ignore[method-assign]
        echo.gate.open()
        until(lambda: not executor.known)
        release.set()

        assert "b" == result(process, process.schedule(generate("b"))).text
        assert [] == cut
        process.close()


def test_run_executor_without_a_scheduler() -> None:
    """When the scheduler of a run executor fails, what runs there ends, and is forgotten."""
    release, started = threading.Event(), threading.Event()

    def run(*_: object) -> str:
        started.set()
        release.wait(20)
        return "done"

    backend, spec = serve(run)
    scheduler = Faulty("plan", RuntimeError("confused"))
    with nothing_left(), build(backend, SchedulerPlugin(scheduler), models=(spec,), fifo=False) as kernel:
        process = kernel.attach()
        running = process.schedule(Task("generate", "fn", "x"))
        started.wait(20)
        scheduler.armed = True
        waiting = process.schedule(Task("generate", "fn", "x"))

        assert isinstance(error(process, waiting), PluginFailed)
        release.set()

        assert "done" == result(process, running).value
        driver = kernel._core.models.find("fn").driver
        assert driver is not None
        until(lambda: not driver.dispatcher.tasks)
        process.close()


def test_raising_reaches_callers_of_every_kind(process: Process) -> None:
    """Errors of calls are the kernel's, whatever is asked for."""
    wrong: list[Any] = [Model("nobody"), Memory, None, 5]
    for request in wrong:
        with contextlib.suppress(KernelError):
            process.alloc(request)
            raise AssertionError(request)
    with pytest.raises(DeadlineExceeded):
        process.recv(timeout=0)
    with pytest.raises(Cancelled):
        raise error(process, _cancelled(process))


def _cancelled(process: Process) -> Any:
    task = process.schedule(Task("call", input=threading.Event().wait, params={"args": (0.2,)}))
    task.cancel()
    return task
