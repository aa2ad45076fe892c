"""Plugins that are as small as their contract allows, one for each kind that `_echo` and `_first_come` leave open."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmos.testing.routing import suits
from llmos_kernel.api import Auto
from llmos_kernel.errors import InvalidArgument, ModelUnavailable, NotFound
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import (
    Action, Candidate, Decision, Event, Exporter, Policy, Processor, Progress, Router, Store, TextFilter,
)  # fmt: skip


class ScriptedPolicy(Policy):
    """Answers what it is told to: a `Decision`, an exception to raise, or what a function of the action returns.

    `actions` lists what it was asked about, and `events` what it heard.
    """

    name = "scripted"

    def __init__(self, answer: Decision | Exception | Callable[[Action], Decision] = Decision.ABSTAIN) -> None:
        self.answer = answer
        self.actions: list[Action] = []
        self.events: list[Event] = []

    def check(self, action: Action) -> Decision:
        """Give the answer."""
        self.actions.append(action)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, Decision) else self.answer(action)

    def heard(self, event: Event) -> None:
        """Remember it."""
        self.events.append(event)


class FirstSuited(Router):
    """Chooses the first model that says that it has what is wanted."""

    name = "first-suited"

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return its name, or raise `NotFound`."""
        for candidate in candidates:
            if suits(kind, want, candidate.spec):
                return candidate.spec.name
        names = [candidate.spec.name for candidate in candidates]
        raise NotFound(f"no model will do for this {kind!r} task", field="target", value="auto", nearest=names)


class _Letters(TextFilter):
    """Writes each piece in capitals as it comes."""

    def feed(self, text: str) -> str:
        """Return it in capitals."""
        return text.upper()

    def end(self) -> str:
        """Nothing is held back."""
        return ""


class Capitals(Processor):
    """Writes text in capitals, on its way in and, without waiting for its end, on its way out."""

    name = "capitals"

    def process(self, value: object, params: Mapping[str, Any]) -> str:
        """Return the text in capitals; raise `InvalidArgument` for what is no text."""
        if not isinstance(value, str):
            raise InvalidArgument.of("input", value, "a text")
        return value.upper()

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Return a filter that holds nothing back."""
        return _Letters()


class MemoryStore(Store):
    """Keeps bytes in *kept*, a dictionary: who passes the same one again opens the same store."""

    name = "memory"

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        self.kept = {} if kept is None else kept

    def get(self, key: str) -> bytes | None:
        """Return what is under *key*, or None."""
        return self.kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep *value*, for as long as the dictionary lives."""
        self.kept[key] = value

    def delete(self, key: str) -> None:
        """Forget *key*, if it is there."""
        self.kept.pop(key, None)

    def keys(self, prefix: str = "") -> Iterable[str]:
        """Return the keys that begin with *prefix*, sorted."""
        return sorted(key for key in list(self.kept) if key.startswith(prefix))


class Recorder:
    """An observer that remembers: `events` lists what it was told, in order."""

    name = "recorder"

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._told = threading.Condition()

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Remember *event*."""
        with self._told:
            self.events.append(event)
            self._told.notify_all()

    def wait_for(self, name: str, timeout: float = 10.0) -> Event:
        """Return the first event called *name*, as soon as it is told; raise `TimeoutError` if it never is."""
        with self._told:
            if not self._told.wait_for(lambda: any(event.name == name for event in self.events), timeout):
                raise TimeoutError(f"no event {name!r} within {timeout:g} s")
            return next(event for event in self.events if event.name == name)


class CopyExporter(Exporter):
    """Copies a folder; *target* appears whole or not at all.  Its one option is ``prefix``, for the files' names."""

    name = "copy"

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write *target*; raise `InvalidArgument` for another option, and `ModelUnavailable` for an empty source."""
        for option in options:
            if option != "prefix":
                raise InvalidArgument(f"there is no option {option!r}", field=option, expected="prefix")
        files = sorted(source.glob("*")) if source.is_dir() else []
        if not files:
            raise ModelUnavailable(f"there is no checkpoint in {source}", model=source.name, field="source")
        with TemporaryDirectory() as place:
            part = Path(place) / "part"
            part.mkdir()
            for number, file in enumerate(files, 1):
                shutil.copy(file, part / f"{options.get('prefix', '')}{file.name}")
                progress(file.name, number, len(files))
            shutil.copytree(part, target)
        return {"files": len(files)}
