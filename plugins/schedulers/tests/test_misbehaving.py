"""Schedulers that misbehave on a real kernel: one typed error that names them, and everybody else goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmos.testing import EchoBackend, VirtualClock, echo_spec
from llmos_kernel import Done, Failed, Kernel, KernelConfig, Process, Task, TaskHandle
from llmos_kernel.contracts import Limits, Plan
from llmos_kernel.errors import DeadlineExceeded, PluginFailed
from llmos_schedulers import fifo

LONG = " ".join(f"word{at}" for at in range(12))


class Fickle(fifo.Fifo):
    """Plans well until a task called *bad* has arrived, and then as `mischief` does."""

    mischief: Callable[[Fickle, Plan], Plan]

    def plan(self, now: float, limits: Limits) -> Plan:
        """Plan well, or not."""
        plan = super().plan(now, limits)
        bad = any(entry.view.priority < 0 for entry in self.tasks.values())
        return type(self).mischief(self, plan) if bad else plan


def explode(scheduler: Fickle, plan: Plan) -> Plan:
    """Raise."""
    raise RuntimeError("no plan today")


def unknown(scheduler: Fickle, plan: Plan) -> Plan:
    """Name a task that nobody knows."""
    return Plan(decode=((10**6, 1),))


def twice(scheduler: Fickle, plan: Plan) -> Plan:
    """Name a task twice."""
    return Plan(decode=plan.decode * 2)


def too_many(scheduler: Fickle, plan: Plan) -> Plan:
    """Admit everybody who waits, whatever is free."""
    return Plan(admit=tuple(id for id, entry in scheduler.tasks.items() if entry.view.state == "waiting"))


def say(process: Process, text: str, model: str = "echo", **fields: float) -> TaskHandle:
    """Schedule a task."""
    return process.schedule(Task("generate", model, text, **fields))  # type: ignore[arg-type]


def end(process: Process, handle: TaskHandle) -> Done | Failed:
    """Return how a task ended."""
    event = process.recv(handle).body
    assert isinstance(event, Done | Failed)
    return event


@pytest.mark.parametrize("mischief", [explode, unknown, twice, too_many])
def test_running_tasks_end_and_others_are_told(mischief: Callable[[Fickle, Plan], Plan]) -> None:
    """What runs ends well; what waits and what comes fails once, naming the scheduler; the other model is served."""
    echo = EchoBackend(rows=2)
    fickle = type("Made", (Fickle,), {"mischief": staticmethod(mischief)})
    config = KernelConfig(
        models=(echo_spec(), echo_spec("other")), workers=1, timeout=30.0, schedulers={"echo": "fickle"}
    )
    with Kernel(config, plugins=(echo, ("fifo", fifo), ("fickle", fickle))) as kernel, kernel.attach() as process:
        echo.gate.shut()
        running = [say(process, LONG)]
        echo.gate.wait_for_visitor()
        waiting = [say(process, LONG, priority=-1) for _ in range(4)]
        end(process, process.schedule(Task("tokenize", "echo", "all here")))
        echo.gate.open()

        assert [LONG] == [event.text for handle in running if isinstance(event := end(process, handle), Done)]
        for handle in waiting:
            event = end(process, handle)
            assert isinstance(event, Failed)
            assert isinstance(event.error, PluginFailed)
            assert "fickle" in event.error.message
        with pytest.raises(PluginFailed, match="fickle"):
            say(process, "late")
        assert isinstance(end(process, say(process, "fine", "other")), Done)
    for executor in echo.executors:
        assert executor.known == frozenset()


def test_a_second_for_a_plan() -> None:
    """A scheduler that takes a second for each plan holds up its own model's tasks and nobody else: they end, or miss
    their deadline, once; the other model is served without it.
    """
    clock, echo = VirtualClock(), EchoBackend(rows=2)

    class Slow(fifo.Fifo):
        def plan(self, now: float, limits: Limits) -> Plan:
            clock.advance(1.0)
            return super().plan(now, limits)

    config = KernelConfig(models=(echo_spec(), echo_spec("other")), timeout=1e6, schedulers={"echo": "slow"})
    plugins = (echo, ("fifo", fifo), ("slow", Slow))
    with Kernel(config, plugins=plugins, clock=clock) as kernel, kernel.attach() as process:
        fine, late = say(process, LONG), say(process, LONG, deadline=3.0)
        other = end(process, say(process, LONG, "other"))
        failed, done = end(process, late), end(process, fine)

        assert isinstance(done, Done)
        assert 12.0 <= done.usage.queued + done.usage.prefill + done.usage.decode
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, DeadlineExceeded)
        assert isinstance(other, Done)
