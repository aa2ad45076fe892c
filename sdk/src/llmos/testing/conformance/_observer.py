"""What an observer owes."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

from llmos.testing.conformance._base import NAME, PATIENCE, Conformance, expect, kernel_with, quickest
from llmos.testing.conformance._policy import events, strange_events
from llmos_kernel.api import Task
from llmos_kernel.services import Event

MakeObserver = Callable[[], object]


class ObserverConformance(Conformance):
    """What every observer owes.  Subclass it, and give it a fixture ``make_observer``.

    The fixture returns a function without arguments that makes a plugin: a module or an object with an ``llmos_event``.
    """

    def test_is_taken(self, make_observer: MakeObserver) -> None:
        """`llmos_event`: "something happened": it is told by a kernel that runs, and stays switched on."""
        with kernel_with((NAME, make_observer())) as kernel:
            process = kernel.attach()
            process.recv(process.schedule(Task("generate", "echo", "a b")))
            kernel.stop()
            states = [record.state for record in kernel.plugins.records() if record.key == f"observer:{NAME}"]
        expect(["active"], states, "the observer's state after a task")

    def test_every_event(self, make_observer: MakeObserver) -> None:
        """`llmos_event`: "an exception switches the observer off": nothing that the kernel tells makes it raise."""
        observer = make_observer()
        for event in events():
            _tell(observer, event)

    def test_strange_events(self, make_observer: MakeObserver) -> None:
        """`Event`: "Something happened in the kernel" that is new, or says less; that is no reason to raise."""
        observer = make_observer()
        for event in strange_events():
            _tell(observer, event)

    def test_does_not_block(self, make_observer: MakeObserver) -> None:
        """`llmos_event`: "On the observers' thread": while one waits, nobody is told."""
        observer = make_observer()
        for event in events():
            spent = quickest(lambda event=event: _try(observer, event))  # type: ignore[misc]
            expect(True, spent <= PATIENCE, f"taking {event.name} within {PATIENCE} s ({spent:.3f} s)")

    def test_leaves_events_alone(self, make_observer: MakeObserver) -> None:
        """`Event.fields` are a "Mapping[str, Any]" that all observers read: whoever is told next gets the same."""
        observer = make_observer()
        for event in events():
            before = copy.deepcopy(event)
            _try(observer, event)
            expect(before, event, "the event afterwards")


def _tell(observer: object, event: Event) -> None:
    observer.llmos_event(event=event)  # type: ignore[attr-defined]


def _try(observer: object, event: Event) -> None:
    """Tell *observer*; that it raises is another check's question."""
    with contextlib.suppress(Exception):
        _tell(observer, event)
