"""A client that stops reading: its own task makes nothing more, and what the kernel does about it, and when."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from llmos import Client
from llmos.testing import EchoBackend, FirstCome, Recorder, VirtualClock
from llmos_kernel import Failed, Task, TaskHandle, TaskView, hookimpl
from llmos_kernel.errors import ReaderStalled
from llmos_server.remote.session import WINDOW
from plugins.server.tests.serving import PATIENCE, Site, serving

ROOM = 4
"""Events that the port of a task holds."""
UNREAD = WINDOW + ROOM
"""Tokens of a task that nobody reads: those that are sent ahead, and those that wait in its port."""
LONG = " ".join(["word"] * 1000)
PATIENT = 10.0
"""Seconds for which the kernel keeps the place of a task that nobody reads."""


class Watched(FirstCome):
    """A scheduler that says when its tasks have come so far as somebody waits for."""

    name = "watched"
    api = 1

    def __init__(self) -> None:
        super().__init__()
        self._states: dict[int, str] = {}
        self._made: dict[int, int] = {}
        self._told = threading.Condition()

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> FirstCome:
        """Return this one: the test has one model."""
        return self

    def arrived(self, task: TaskView) -> None:
        """Take note."""
        super().arrived(task)
        self._note(task.id, task.state)

    def changed(self, task: TaskView) -> None:
        """Take note."""
        super().changed(task)
        self._note(task.id, task.state)

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Count."""
        super().charged(id, prefilled, generated)
        with self._told:
            self._made[id] = self._made.get(id, 0) + generated
            self._told.notify_all()

    def finished(self, id: int) -> None:
        """Forget it."""
        super().finished(id)
        with self._told:
            del self._states[id]
            self._told.notify_all()

    def _note(self, id: int, state: str) -> None:
        with self._told:
            self._states[id] = state
            self._told.notify_all()

    def wait_for(self, *wanted: tuple[str, int]) -> None:
        """Return when the tasks are in these states and have made so many tokens, the oldest first."""
        with self._told:
            if not self._told.wait_for(lambda: self._found() == wanted, PATIENCE):
                raise TimeoutError(f"{self._found()}, not {wanted}")

    def _found(self) -> tuple[tuple[str, int], ...]:
        return tuple((state, self._made.get(id, 0)) for id, state in sorted(self._states.items()))


def begin(client: Client) -> TaskHandle:
    """Begin a long stream."""
    return client.process.schedule(Task("generate", "toy", LONG, stream=True, capacity=ROOM))


def rest(client: Client, task: TaskHandle) -> tuple[int, Failed]:
    """Return how many pieces there are, and how it failed."""
    count = 0
    while not isinstance(event := client.process.recv(task, timeout=PATIENCE).body, Failed):
        count += 1
    return count, event


def ask(site: Site) -> str:
    """Have the same model say something to somebody else."""
    text: str = site.post("/v1/completions", model="toy", prompt="one two three").json()["choices"][0]["text"]
    return text


def states(site: Site) -> list[str]:
    """Return the states of the tasks that live, as the control port tells them, the oldest first."""
    found = site.http.get("/v1/llmos/tasks?state=live").json()["data"]
    return [task["state"] for task in reversed(found)]


def test_a_reader_that_stops_holds_up_its_own_task_alone() -> None:
    """Its task is stalled, and others' go on; after its time it fails, and its place is another's."""
    clock, echo, recorder, watched = VirtualClock(), EchoBackend(rows=2), Recorder(), Watched()
    config = {"scheduler": "watched", "stall_timeout": PATIENT}
    held = ("stalled", UNREAD)
    with serving(recorder, watched, echo=echo, clock=clock, config=config) as site, Client(site.url) as client:
        first = begin(client)
        watched.wait_for(held)
        assert ["stalled"] == states(site)
        assert "one two three" == ask(site)

        second = begin(client)  # takes the other place
        watched.wait_for(held, held)
        said: list[str] = []
        third = threading.Thread(target=lambda: said.append(ask(site)))
        third.start()
        watched.wait_for(held, held, ("waiting", 0))
        assert ["stalled", "stalled", "waiting"] == states(site)
        clock.advance(PATIENT)
        third.join(PATIENCE)
        watched.wait_for()
        assert ["one two three"] == said
        assert [] == states(site)

        for task in (first, second):
            count, end = rest(client, task)
            assert UNREAD == count
            assert isinstance(end.error, ReaderStalled)

    failed = [event.fields["error"] for event in recorder.events if event.name == "task.failed"]
    assert ["ReaderStalled", "ReaderStalled"] == failed


def test_a_reader_that_goes_on_in_time_is_served_on() -> None:
    """Its task is stalled no longer, and time begins anew the next time that it stops."""
    clock, watched = VirtualClock(), Watched()
    config = {"scheduler": "watched", "stall_timeout": PATIENT}
    with serving(watched, clock=clock, config=config) as site, Client(site.url) as client:
        task = begin(client)
        watched.wait_for(("stalled", UNREAD))
        clock.advance(PATIENT - 1)
        for _ in range(WINDOW):
            client.process.recv(task, timeout=PATIENCE)
        watched.wait_for(("stalled", WINDOW + UNREAD))
        clock.advance(PATIENT - 1)
        assert ["stalled"] == states(site)
        clock.advance(1)
        watched.wait_for()
        count, end = rest(client, task)

    assert UNREAD == count
    assert isinstance(end.error, ReaderStalled)
