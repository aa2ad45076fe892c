"""The kit itself: what a test leans on must hold by itself."""

from __future__ import annotations

import asyncio
import threading

import attrs
import pytest

from llmos import Text
from llmos.testing.fixtures import make_kernel
from llmos.testing import EchoBackend, EchoExecutor, FirstCome, Gate, VirtualClock, echo_spec
from llmos_kernel import Kernel, Process
from llmos_kernel.api import Done, Task, Usage
from llmos_kernel.contracts import Admitted, NotNow, Plan, Result, TaskView
from llmos_kernel.errors import DeadlineExceeded, InvalidArgument, ModelUnavailable


def _run(executor: EchoExecutor, prompt: str, **params: object) -> list[Result]:
    prepared = executor.prepare(1, Task("generate", "echo", prompt, params=params))
    assert isinstance(executor.admit(1), Admitted)
    results = list(executor.step(Plan(prefill=((1, prepared.prompt_tokens),))))
    while results[-1].finish is None:
        results += executor.step(Plan(decode=((1, 1),)))
    return results


def test_echo_repeats_the_prompt_one_word_a_token() -> None:
    """Each step yields one word; the last one says that it ended by itself."""
    results = _run(EchoExecutor(), "the quick brown")

    assert [result.text for result in results] == ["the", " quick", " brown"]
    assert results[-1].finish == "stop"


def test_echo_stops_at_max_tokens() -> None:
    """With fewer tokens than words the finish is ``length``."""
    results = _run(EchoExecutor(), "the quick brown", max_tokens=2)

    assert ("".join(result.text for result in results), results[-1].finish) == ("the quick", "length")


def test_echo_stops_at_a_stop_string() -> None:
    """Nothing from the stop string on is said."""
    results = _run(EchoExecutor(), "the quick brown", stop=["brown"])

    assert ("".join(result.text for result in results), results[-1].finish) == ("the quick", "stop")


def test_prefill_in_chunks_yields_the_first_token_at_the_end() -> None:
    """Only the chunk that completes the prompt produces a token."""
    executor = EchoExecutor()
    executor.prepare(1, Task("generate", "echo", "a b c"))
    executor.admit(1)

    first = list(executor.step(Plan(prefill=((1, 2),))))
    last = list(executor.step(Plan(prefill=((1, 1),))))

    assert ([Result(1)], "a") == (first, last[0].text)


def test_dropping_a_task_forgets_its_cache_but_not_its_output() -> None:
    """After ``drop`` the prompt and what was said are prefilled again, and the output goes on where it was."""
    executor = EchoExecutor(rows=1)
    executor.prepare(1, Task("generate", "echo", "a b"))
    executor.admit(1)
    list(executor.step(Plan(prefill=((1, 2),))))
    executor.preempt(1, "drop")

    free = executor.limits.free
    again = executor.admit(1)
    rest = list(executor.step(Plan(prefill=((1, 3),))))

    assert (1, Admitted(cached=0), " b") == (free, again, rest[0].text)


def test_no_place_is_not_now() -> None:
    """A full executor answers `NotNow`."""
    executor = EchoExecutor(rows=1)
    for id in (1, 2):
        executor.prepare(id, Task("generate", "echo", "a"))
    executor.admit(1)

    assert NotNow() == executor.admit(2)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"tempratur": 1}, "tempratur"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, object], field: str) -> None:
    """Each bad parameter is an error that names it."""
    with pytest.raises(InvalidArgument) as caught:
        EchoExecutor().prepare(1, Task("generate", "echo", "a", params=params))

    assert field == caught.value.fields["field"]


def test_detokenize_undoes_tokenize() -> None:
    """The tokens of a text give the text back."""
    executor = EchoExecutor()
    answer = executor.prepare(1, Task("tokenize", "echo", "the quick fox")).answer
    assert answer is not None

    back = executor.prepare(2, Task("detokenize", "echo", answer.value)).answer

    assert back is not None
    assert back.text == "the quick fox"


def test_unknown_option_of_a_spec_is_refused() -> None:
    """A misspelt option is not ignored."""
    with pytest.raises(ModelUnavailable, match="rowz"):
        EchoBackend().load(echo_spec(options={"rowz": 1}))


def test_gate_holds_and_cut_lets_go() -> None:
    """A visitor of a shut gate waits; `cut` sends it away with False."""
    gate, seen = Gate(), list[bool]()
    gate.shut()
    thread = threading.Thread(target=lambda: seen.append(gate.enter()))
    thread.start()
    gate.wait_for_visitor()

    gate.cut()
    thread.join()

    assert seen == [False]


def _view(id: int, **fields: object) -> TaskView:
    view = TaskView(id, "generate", "local", 0, None, 0.0, 4, 8)
    return attrs.evolve(view, **fields)  # type: ignore[arg-type]


def test_first_come_admits_in_order_of_arrival() -> None:
    """The earliest tasks get the free places."""
    scheduler = FirstCome()
    for id in (3, 1, 2):
        scheduler.arrived(_view(id))

    assert scheduler.plan(0.0, EchoExecutor(rows=2).limits).admit == (3, 1)


def test_first_come_prefills_then_decodes() -> None:
    """A running task is prefilled until its prompt is computed, then decoded."""
    scheduler, limits = FirstCome(), EchoExecutor(tokens=3).limits
    scheduler.arrived(_view(1))
    scheduler.changed(_view(1, state="running"))
    plans = [scheduler.plan(0.0, limits)]
    for count in (3, 1):
        scheduler.charged(1, count, 0)
        plans.append(scheduler.plan(0.0, limits))

    assert [plan.prefill for plan in plans] == [((1, 3),), ((1, 1),), ()]
    assert plans[-1].decode[0][0] == 1


def test_virtual_clock_ends_a_wait_when_it_is_due() -> None:
    """A thread's wait ends at its time and not before."""
    clock, seen, lock = VirtualClock(), list[bool](), threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lambda: seen.append(clock.wait(lock, clock.now() + 5)))
    thread.start()
    clock.wait_for_waiters(1)

    clock.advance(4.9)
    early = list(seen)
    clock.advance(0.2)
    thread.join()

    assert (early, seen) == ([], [False])


def test_virtual_clock_calls_back_in_the_loop() -> None:
    """A timer fires in its loop once it is due; a cancelled one does not."""

    async def main() -> list[str]:
        clock, seen = VirtualClock(), list[str]()
        loop = asyncio.get_running_loop()
        clock.call_at(loop, clock.now() + 1, lambda: seen.append("first"))
        clock.call_at(loop, clock.now() + 1, lambda: seen.append("cancelled"))()
        clock.advance(2)
        await asyncio.sleep(0)
        return seen

    assert asyncio.run(main()) == ["first"]


def test_the_kernel_fixture_knows_nothing_that_is_installed(kernel: Kernel, process: Process) -> None:
    """Whatever is installed is blocked; the echo model answers."""
    assert [] == [record for record in kernel.plugins.records() if record.distribution and record.state != "blocked"]
    with process.schedule(Task("generate", "parrot", "a b")) as task:
        assert "a b" == process.recv(task).body.text


def test_a_kernel_lives_in_virtual_time(echo: EchoBackend, clock: VirtualClock) -> None:
    """A deadline passes when the test says so."""
    echo.gate.shut()
    with make_kernel(echo, clock) as kernel:
        process = kernel.attach()
        task = process.schedule(Task("generate", "echo", "a b", deadline=60.0))
        echo.gate.wait_for_visitor()
        clock.advance(61.0)
        echo.gate.open()

        assert isinstance(process.recv(task).body.error, DeadlineExceeded)


def test_tokens_per_second() -> None:
    """Speed is counted after the first token, and is 0 where there is none."""
    usage = Usage(generated=11, decode=2.0)

    assert (5.0, 0.0) == (Text(done=Done(1, usage=usage)).tokens_per_second, Text("a").tokens_per_second)
