"""The policies on the real kernel, over the echo backend: what is asked of a scheduler where it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llmos.testing import EchoBackend, EchoExecutor, EchoFaults, VirtualClock, echo_spec
from llmos_kernel import Chunk, Done, Failed, Kernel, KernelConfig, Process, Task, TaskHandle
from llmos_kernel.errors import Cancelled, ConfigError, DeadlineExceeded, Overloaded
from plugins.schedulers.tests.policies import MODULES


@contextmanager
def seat(echo: EchoBackend, clock: VirtualClock | None = None, **config: Any) -> Iterator[Process]:
    """A process at a kernel with an echo model, scheduled by ``fifo``; one worker prepares in order of acceptance."""
    settings = KernelConfig(**{"models": (echo_spec(),), "workers": 1, "timeout": 30.0, **config})
    with Kernel(settings, plugins=(echo, *MODULES.items()), clock=clock) as kernel, kernel.attach() as process:
        yield process
    for executor in echo.executors:
        assert executor.known == frozenset()


def say(process: Process, text: str, **fields: Any) -> TaskHandle:
    """Schedule a task that repeats *text*."""
    return process.schedule(Task("generate", "echo", text, **fields))


def end(process: Process, handle: TaskHandle) -> Done | Failed:
    """The terminal event of a task."""
    while True:
        event = process.recv(handle).body
        if not isinstance(event, Chunk):
            assert isinstance(event, Done | Failed)
            return event


def text_of(process: Process, handle: TaskHandle) -> str:
    """What a task that must end well said."""
    event = end(process, handle)
    assert isinstance(event, Done), event
    return event.text


def words(count: int, of: str = "word") -> str:
    """A text of so many words, which are the echo model's tokens."""
    return " ".join(f"{of}{at}" for at in range(count))


def first_served(executor: EchoExecutor) -> list[int]:
    """The tasks in the order in which their prompts were begun."""
    return list(dict.fromkeys(id for plan in executor.plans for id, _ in plan.prefill))


def in_a_step(echo: EchoBackend, process: Process, text: str, **fields: Any) -> TaskHandle:
    """Schedule a task and return when the executor stands in a step of it."""
    echo.gate.shut()
    handle = say(process, text, **fields)
    echo.gate.wait_for_visitor()
    return handle


def let_run(echo: EchoBackend, process: Process) -> None:
    """Open the gate once all tasks wait: the one worker answers this one after it has prepared all before it."""
    end(process, process.schedule(Task("tokenize", "echo", "all here")))
    echo.gate.open()


def test_served_in_order_of_arrival() -> None:
    """With one row, tasks are served one after the other as they came."""
    echo = EchoBackend(rows=1)
    with seat(echo) as process:
        handles = [in_a_step(echo, process, "first"), *(say(process, words(3, f"t{at}-")) for at in range(9))]
        let_run(echo, process)

        assert [text_of(process, handle) for handle in handles[1:]] == [words(3, f"t{at}-") for at in range(9)]
        assert first_served(echo.executors[0]) == [handle.id for handle in handles]


def test_more_tasks_than_rows() -> None:
    """Every task ends with its own text, and no step serves more tasks than there are rows."""
    echo = EchoBackend(rows=3)
    with seat(echo) as process:
        handles = {words(at % 7 + 1, f"t{at}-"): say(process, words(at % 7 + 1, f"t{at}-")) for at in range(60)}

        assert {text: text_of(process, handle) for text, handle in handles.items()} == {text: text for text in handles}
        assert max(len(plan.prefill) + len(plan.decode) for plan in echo.executors[0].plans) == 3


def test_tasks_join_and_leave_the_batch() -> None:
    """A short task that comes later ends while a long one runs: batching is per step."""
    echo = EchoBackend(rows=2)
    with seat(echo) as process:
        long, short = in_a_step(echo, process, words(200)), say(process, "short")
        let_run(echo, process)
        assert text_of(process, short) == "short"
        assert text_of(process, long) == words(200)

    (begun,) = (at for at, plan in enumerate(echo.executors[0].plans) if short.id in dict(plan.prefill))
    assert long.id in dict(echo.executors[0].plans[begun].decode)


def test_prompts_come_in_chunks_and_decodes_first() -> None:
    """A running task is in every step while a long prompt is computed beside it, in chunks of the option's size."""
    echo = EchoBackend(rows=2)
    with seat(echo, options={"scheduler:fifo": {"chunk": 10}}) as process:
        running, long = in_a_step(echo, process, words(10)), say(process, words(95))
        let_run(echo, process)
        assert text_of(process, running) == words(10)
        assert text_of(process, long) == words(95)

    pieces = [(dict(plan.prefill)[long.id], plan) for plan in echo.executors[0].plans if long.id in dict(plan.prefill)]
    assert [count for count, _ in pieces] == [10] * 9 + [5]
    assert all(running.id in dict(plan.decode) for _, plan in pieces[:8])  # it ends with the eighth


def test_token_budget() -> None:
    """The executor's tokens per step are never exceeded, and everything ends."""
    echo = EchoBackend(rows=4, tokens=8, chunks=2)
    with seat(echo) as process:
        handles = [say(process, words(20 + at)) for at in range(12)]
        assert [text_of(process, handle) for handle in handles] == [words(20 + at) for at in range(12)]

    plans = echo.executors[0].plans
    assert max(sum(count for _, count in plan.prefill + plan.decode) for plan in plans) == 8
    assert max(len(plan.prefill) for plan in plans) <= 2


def test_stalled_reader_holds_up_nobody_else() -> None:
    """A task that nobody reads is not decoded; others go on, and it ends when it is read."""
    echo = EchoBackend(rows=2)
    with seat(echo) as process:
        unread = say(process, words(50), stream=True, capacity=1)
        others = [say(process, words(20)) for _ in range(5)]

        assert [text_of(process, handle) for handle in others] == [words(20)] * 5
        said = ""
        while not isinstance(event := process.recv(unread).body, Done):
            assert isinstance(event, Chunk)
            said += event.text
        assert said == event.text == words(50)


def test_cancelled_while_waiting() -> None:
    """A task that is cancelled while it waits never reaches the executor; those behind it move up."""
    echo = EchoBackend(rows=1)
    with seat(echo) as process:
        first = in_a_step(echo, process, "first")
        second, third = say(process, "second"), say(process, "third")
        second.cancel()
        let_run(echo, process)

        assert [text_of(process, first), text_of(process, third)] == ["first", "third"]
        failed = end(process, second)
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, Cancelled)
        assert first_served(echo.executors[0]) == [first.id, third.id]


def test_cancelled_while_running() -> None:
    """The row of a task that is cancelled in the middle of a step goes to the next one."""
    echo = EchoBackend(rows=1)
    with seat(echo) as process:
        first, second = in_a_step(echo, process, words(9)), say(process, "second")
        first.cancel()
        let_run(echo, process)

        assert text_of(process, second) == "second"
        assert isinstance(end(process, first), Failed)


def test_deadline_while_waiting() -> None:
    """A task whose deadline passes while it waits fails, and the others are served."""
    echo, clock = EchoBackend(rows=1), VirtualClock()
    with seat(echo, clock) as process:
        first = in_a_step(echo, process, "first")
        late, third = say(process, "late", deadline=5.0), say(process, "third")
        clock.advance(6.0)
        let_run(echo, process)

        assert [text_of(process, first), text_of(process, third)] == ["first", "third"]
        failed = end(process, late)
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, DeadlineExceeded)
        assert first_served(echo.executors[0]) == [first.id, third.id]


def test_refused_admission_is_repeated() -> None:
    """A task that the executor has no room for keeps its turn, and gets its place when something has changed."""
    faults = EchoFaults()
    echo = EchoBackend(rows=4, faults=faults)
    with seat(echo) as process:
        first = in_a_step(echo, process, words(5))
        faults.not_now = 1
        second = say(process, "second")
        let_run(echo, process)

        assert [text_of(process, first), text_of(process, second)] == [words(5), "second"]
        assert faults.not_now == 0


def test_one_failing_row_leaves_the_others() -> None:
    """A row that fails ends its task; what waited takes the place."""
    echo = EchoBackend(rows=2, faults=EchoFaults(row=(3, Cancelled("no more"))))
    with seat(echo) as process:
        handles = [say(process, words(count)) for count in (5, 2, 5, 2, 2)]
        ends = [end(process, handle) for handle in handles]

        assert [type(event).__name__ for event in ends] == ["Failed", "Done", "Failed", "Done", "Done"]


def test_calls_are_only_admitted() -> None:
    """The same scheduler serves callables, which run from start to end: in order, and as many at once as configured."""
    started: list[int] = []

    def job(number: int) -> Callable[[], int]:
        def work() -> int:
            started.append(number)
            return number * number

        return work

    with seat(EchoBackend(), call_rows=1) as process:
        handles = [process.schedule(Task("call", input=job(number))) for number in range(20)]
        ends = [end(process, handle) for handle in handles]

    assert [event.value for event in ends if isinstance(event, Done)] == [number * number for number in range(20)]
    assert started == list(range(20))


def test_wrong_option_refuses_the_start() -> None:
    """A scheduler that cannot be made is an error that names the option."""
    options = {"scheduler:fifo": {"chunks": 10}}
    with pytest.raises(ConfigError, match="'chunk'"), seat(EchoBackend(), options=options):
        pass


@pytest.mark.parametrize("name", MODULES)
def test_every_policy_serves_everybody(name: str) -> None:
    """Whoever is preempted, however often, says in the end what was to be said."""
    echo = EchoBackend(rows=3, tokens=16)
    options = {"scheduler:round-robin": {"quantum": 2}, "scheduler:mlfq": {"quantum": 2, "starvation": 0.001}}
    with seat(echo, scheduler=name, options=options) as process:
        first = in_a_step(echo, process, words(40), priority=-9)
        sent = {words(at % 9 + 1, f"t{at}-"): {"priority": at % 5, "deadline": 100.0 + at % 7} for at in range(60)}
        handles = {text: say(process, text, **fields) for text, fields in sent.items()}
        let_run(echo, process)

        assert list(sent) == [text_of(process, handle) for handle in handles.values()]
        assert text_of(process, first) == words(40)
    preempted = any(plan.preempt for plan in echo.executors[0].plans)
    assert not (preempted and name in ("fifo", "fair", "sjf"))


def test_urgent_task_is_served_in_the_middle_of_another() -> None:
    """With one row, an urgent task comes, has its place at once, ends, and the other goes on where it stopped."""
    echo = EchoBackend(rows=1)
    with seat(echo, scheduler="priority") as process:
        long = in_a_step(echo, process, words(9))
        urgent = say(process, "now", priority=5)
        let_run(echo, process)

        assert (text_of(process, urgent), text_of(process, long)) == ("now", words(9))

    rows = [id for plan in echo.executors[0].plans for id, _ in plan.prefill + plan.decode]
    assert [long.id, urgent.id, long.id] == [id for at, id in enumerate(rows) if at == 0 or rows[at - 1] != id]


def test_late_task_is_refused_at_once() -> None:
    """Under edf a task that could not end in time is told so before its time is over, with an error that names it."""
    echo, clock = EchoBackend(rows=1), VirtualClock()
    with seat(echo, clock, scheduler="edf", options={"scheduler:edf": {"step_seconds": 1.0}}) as process:
        running = in_a_step(echo, process, words(9), deadline=90.0)
        late, fine = say(process, words(9), deadline=5.0), say(process, "fine", deadline=95.0)
        let_run(echo, process)

        failed = end(process, late)
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, Overloaded)
        assert "edf" in failed.error.message
        assert [text_of(process, running), text_of(process, fine)] == [words(9), "fine"]
