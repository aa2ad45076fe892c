"""Observers: told in order on one thread, never waited for, switched off when they raise."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import structlog.testing

from llmos.testing import VirtualClock
from llmos_kernel._events import CAPACITY, Events
from llmos_kernel.driver import Driver
from llmos_kernel.services import Event


def ignore(name: str, error: BaseException) -> None:
    """Hear of a failure that the test does not expect."""
    pytest.fail(f"{name} raised {error!r}")


@pytest.fixture
def events() -> Iterator[Events]:
    """Events of a clock that stands at 7, stopped afterwards."""
    made = Events(Driver(VirtualClock(7.0)))
    yield made
    assert made.stop(30.0)


class Stuck:
    """An observer that blocks in its first event until `go`."""

    def __init__(self) -> None:
        self.entered, self.gate, self.seen = threading.Event(), threading.Event(), 0

    def __call__(self, event: Event) -> None:
        """Wait."""
        self.entered.set()
        self.gate.wait(30.0)
        self.seen += 1


def test_nothing_without_observers(events: Events) -> None:
    """Without observers nothing is queued and no thread is started."""
    before = threading.active_count()
    events.start([], ignore)
    events.emit("step", rows=1)

    assert (False, before, 0) == (events.enabled, threading.active_count(), events._queue.qsize())


def test_told_in_order(events: Events) -> None:
    """Each observer hears every event, in order, with the kernel's time; stopping delivers what is queued."""
    first: list[Event] = []
    second: list[Event] = []
    events.start([("a", first.append), ("b", second.append)], ignore)
    events.emit("one", name="x", rows=3)
    events.emit("two")
    before = threading.active_count()

    assert events.stop(30.0)
    assert [Event("one", 7.0, {"name": "x", "rows": 3}), Event("two", 7.0, {})] == first
    assert first == second
    assert before - 1 == threading.active_count()


def test_stopped_events_are_silent(events: Events) -> None:
    """After stop nothing is heard; after another start it is again."""
    heard: list[Event] = []
    for _ in range(2):
        events.start([("a", heard.append)], ignore)
        events.stop(30.0)
        events.emit("late")
    events.start([("a", heard.append)], ignore)
    events.emit("again")
    events.stop(30.0)

    assert ["again"] == [event.name for event in heard]


@pytest.mark.parametrize("error", [OSError("disk"), SystemExit(1)])
def test_one_that_raises_is_switched_off(events: Events, error: BaseException) -> None:
    """It is told no more, logged once, and reported; the others go on."""
    calls: list[str] = []
    heard: list[Event] = []
    failures: list[tuple[str, BaseException]] = []

    def broken(event: Event) -> None:
        calls.append(event.name)
        raise error

    with structlog.testing.capture_logs() as logs:
        events.start([("observer:bad", broken), ("good", heard.append)], lambda *failure: failures.append(failure))
        events.emit("one")
        events.emit("two")
        events.stop(30.0)

    assert (["one"], ["one", "two"]) == (calls, [event.name for event in heard])
    assert [("observer:bad", error)] == failures
    expected = {"event": "observer.failed", "plugin": "observer:bad", "error": repr(error), "log_level": "warning"}
    assert [expected] == logs


def test_without_any_observer_left(events: Events) -> None:
    """When the last one is switched off the thread ends by itself and events cost nothing again."""
    ended = threading.Event()

    def broken(event: Event) -> None:
        raise OSError

    with structlog.testing.capture_logs():
        events.start([("bad", broken)], lambda *_: ended.set())
        events.emit("one")
        ended.wait(30.0)

    assert not events.enabled


def test_full_queue_drops_and_counts(events: Events) -> None:
    """While an observer is stuck, what it cannot take is dropped and counted, and nobody waits for it."""
    stuck = Stuck()
    events.start([("stuck", stuck)], ignore)
    events.emit("first")
    stuck.entered.wait(30.0)
    for _ in range(CAPACITY + 3):
        events.emit("more")

    assert 3 == events.dropped

    stuck.gate.set()
    events.stop(30.0)

    assert CAPACITY + 1 == stuck.seen


def test_stop_is_bounded(events: Events) -> None:
    """An observer that does not return holds up nobody; stop says that something is left."""
    stuck = Stuck()
    events.start([("stuck", stuck)], ignore)
    events.emit("first")
    stuck.entered.wait(30.0)

    assert not events.stop(0.0)

    stuck.gate.set()
