"""Pieces that are made faster than their reader wants them: joined, never late by more than the pace, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.tests.rig import build, in_thread, nothing_left, serve, until, wait_until_waiting
from llmos.testing import VirtualClock
from llmos_kernel import Chunk, Done, Failed, Process, Result, Task, TaskHandle
from llmos_kernel.errors import DeadlineExceeded, KernelError, ModelUnavailable, WouldBlock

PACE = 1.0


class Speaker:
    """A model that says what the test tells it to, at once."""

    def __init__(self) -> None:
        self._words: SimpleQueue[Any] = SimpleQueue()
        self._said: SimpleQueue[None] = SimpleQueue()
        self.backend, self.spec = serve(self._run)

    def _run(self, id: int, task: Task, emit: Callable[[Result], Any]) -> Result | None:
        while (word := self._words.get()) is not None:
            if isinstance(word, KernelError):
                return Result(id, error=word)
            emit(Result(id, tokens=(1,), text=word) if isinstance(word, str) else Result(id, value=word))
            self._said.put(None)
        return None

    def say(self, *words: object) -> None:
        """Say them, one after the other, until they are on the task's port."""
        for word in words:
            self.begin(word)
            self.wait()

    def begin(self, word: object) -> None:
        """Begin to say a word, for which there may be no room yet."""
        self._words.put(word)

    def wait(self) -> None:
        """Return when a word that was begun is on the task's port."""
        self._said.get(timeout=10)

    def end(self, error: KernelError | None = None) -> None:
        """End, well or not."""
        self._words.put(error)


@pytest.fixture
def speaker() -> Speaker:
    """Return a model that is told what to say."""
    return Speaker()


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that stands still."""
    return VirtualClock()


@pytest.fixture
def process(speaker: Speaker, clock: VirtualClock) -> Iterator[Process]:
    """Attach to a kernel that serves the speaker."""
    with nothing_left(), build(speaker.backend, models=(speaker.spec,), clock=clock) as kernel:
        yield kernel.attach()


def paced(**fields: Any) -> Task:
    """Return a task whose pieces come at most once a second."""
    return Task("generate", "fn", "", stream=True, **{"pace": PACE, **fields})


def read(process: Process, task: TaskHandle) -> str:
    """Return the next piece, which is there."""
    event = process.recv_nowait(task).body

    assert isinstance(event, Chunk)
    return event.text


def nothing(process: Process, task: TaskHandle) -> bool:
    """Return whether there is nothing to read now."""
    with pytest.raises(WouldBlock):
        process.recv_nowait(task)
    return True


def test_first_piece_at_once_then_joined(process: Process, speaker: Speaker, clock: VirtualClock) -> None:
    """The first piece does not wait; what comes within the pace after it was read is told together, when it is over."""
    task = process.schedule(paced())
    speaker.say("a")

    assert "a" == read(process, task)
    speaker.say("b", "c")
    assert nothing(process, task)
    clock.advance(PACE)
    assert "bc" == read(process, task)
    speaker.end()


@pytest.mark.parametrize("aio", [False, True])
def test_who_waits_is_told_in_time(process: Process, speaker: Speaker, clock: VirtualClock, aio: bool) -> None:
    """Also when nothing more is said: a piece is not held until the next one comes."""
    task = process.schedule(paced())
    speaker.say("a")
    read(process, task)

    def wait() -> Any:
        return asyncio.run(process.aio.recv(task, timeout=9.0)) if aio else process.recv(task, timeout=9.0)

    waiting = in_thread(wait)
    wait_until_waiting(process, task)
    speaker.say("b")
    clock.wait_for_waiters(1)
    clock.advance(PACE)

    assert "b" == waiting().body.text
    speaker.end()


def test_who_waits_in_vain(process: Process, speaker: Speaker, clock: VirtualClock) -> None:
    """A call's timeout is what it was, shorter or longer than the pace."""
    task = process.schedule(paced())
    speaker.say("a")
    read(process, task)
    for seconds in (0.5, 3.0):
        waiting = in_thread(lambda seconds=seconds: process.recv(task, timeout=seconds))  # type: ignore[misc]
        clock.wait_for_waiters(1)
        clock.advance(seconds / 2)
        clock.wait_for_waiters(1)
        clock.advance(seconds / 2)
        with pytest.raises(DeadlineExceeded, match=f"{seconds} s"):
            waiting()

    speaker.say("b")
    assert "b" == read(process, task)
    speaker.end()


@pytest.mark.parametrize("failure", [None, ModelUnavailable("worn out")])
def test_the_end_does_not_wait(process: Process, speaker: Speaker, failure: KernelError | None) -> None:
    """What was held is read first, then how the task ended, and no time passes."""
    task = process.schedule(paced())
    speaker.say("a")
    read(process, task)
    speaker.say("b", "c")
    speaker.end(failure)
    piece, end = process.recv(task, timeout=None).body, process.recv(task, timeout=None).body

    assert "bc" == piece.text
    assert isinstance(end, Failed if failure else Done)
    assert "abc" == end.text


def test_what_says_nothing_does_not_count(process: Process, speaker: Speaker) -> None:
    """A token that is part of a letter has no text, and what comes after it is the first piece."""
    task = process.schedule(paced())
    speaker.say("")

    assert "" == read(process, task)
    speaker.say("a")
    assert "a" == read(process, task)
    speaker.say("b")
    assert nothing(process, task)
    speaker.end()


def test_values_are_not_joined(process: Process, speaker: Speaker, clock: VirtualClock) -> None:
    """What is not text stays by itself, and nothing waits behind it."""
    task = process.schedule(paced())
    speaker.say("a")
    read(process, task)
    speaker.say("b", {"number": 1}, "c")

    assert "b" == read(process, task)
    clock.advance(PACE)
    assert {"number": 1} == process.recv_nowait(task).body.value
    speaker.end()


def test_a_reader_that_does_not_come(process: Process, speaker: Speaker, clock: VirtualClock) -> None:
    """Its task is held up as every task is: pieces of later times take places of their own until there is none."""
    task = process.schedule(paced(capacity=2))
    speaker.say("a")
    read(process, task)
    speaker.say("b")
    clock.advance(PACE)
    speaker.say("c")
    driver = process._core.models.find("fn").driver

    assert driver is not None
    speaker.begin("d")
    until(lambda: driver.dispatcher._stalled)
    assert "b" == read(process, task)
    speaker.wait()  # there is room for it again
    clock.advance(PACE)
    assert "cd" == read(process, task)
    speaker.end()


def test_no_room_for_one_more(process: Process, speaker: Speaker) -> None:
    """A port of one place is read whatever the pace: nobody would be woken any more."""
    task = process.schedule(paced(capacity=1))
    speaker.say("a")
    read(process, task)
    speaker.say("b")

    assert "b" == read(process, task)
    speaker.end()


@settings(max_examples=60, deadline=None)
@given(moves=st.lists(st.sampled_from(["say", "wait", "read"]), max_size=24), pace=st.sampled_from([0.0, 1.0, 2.5]))
def test_like_a_model_of_it(moves: list[str], pace: float) -> None:
    """Whatever is said when: a reader gets each word once, in order, and nothing sooner than the pace allows."""
    speaker, clock = Speaker(), VirtualClock()
    with build(speaker.backend, models=(speaker.spec,), clock=clock) as kernel:
        process = kernel.attach()
        task = process.schedule(paced(pace=pace))
        places: list[str] = []  # what is unread, as the words of one place each
        due, now, word = 0.0, 0.0, 0
        for move in moves:
            if move == "say":
                speaker.say(str(word % 10))
                if places and now < due:
                    places[-1] += str(word % 10)
                else:
                    places.append(str(word % 10))
                word += 1
            elif move == "wait":
                clock.advance(0.75)
                now += 0.75
            elif places and (now >= due or len(places) > 1):
                assert places.pop(0) == read(process, task)
                due = now + pace
            else:
                assert nothing(process, task)
        speaker.end()
        said = ""
        while not isinstance(event := process.recv(task, timeout=None).body, Done):
            said += event.text

        assert "".join(places) == said
        assert "".join(str(number % 10) for number in range(word)) == event.text
