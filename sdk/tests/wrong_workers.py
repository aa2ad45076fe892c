"""Backends, processors, stores, observers and exporters that are each wrong in one way, by the check that finds it."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos.testing import Capitals, CopyExporter, EchoBackend, EchoExecutor, MemoryStore, Recorder, echo_spec
from llmos.testing.conformance import Export, Served
from llmos_kernel.api import Task
from llmos_kernel.contracts import Footprint, Limits, ModelSpec, Plan, Preemption, Prepared, Result
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Event, Progress, TextFilter
from sdk.tests.wrong_deciders import Duck

# --- backends --------------------------------------------------------------------------------------------------


def served(backend: EchoBackend) -> Served:
    """Return an echo model behind *backend*."""
    return Served(backend, echo_spec(kinds=("generate", "classify")))


def loading(kind: Callable[[], EchoExecutor]) -> Callable[[], Served]:
    """Return what makes a backend that loads executors of *kind*."""

    class Loading(EchoBackend):
        def load(self, spec: ModelSpec) -> EchoExecutor:
            super().load(spec)
            return kind()

    return lambda: served(Loading())


class Growing(EchoBackend):
    """Says something else each time."""

    asked = 0

    def measure(self, spec: ModelSpec) -> Footprint:
        """Count."""
        self.asked += 1
        return Footprint("cpu", self.asked)


class Lenient(EchoBackend):
    """Does not look at options."""

    def load(self, spec: ModelSpec) -> EchoExecutor:
        """Load it without."""
        return super().load(attrs.evolve(spec, options={}))


class Nameless(EchoExecutor):
    """Tells facts by number."""

    def describe(self) -> Mapping[Any, Any]:
        """Return them."""
        return {1: "echo"}


class Promising(EchoExecutor):
    """Does not serve what its model is said to serve."""

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Refuse to classify."""
        if task.kind == "classify":
            raise InvalidArgument("input cannot be classified", field="input")
        return super().prepare(id, task, tenant)


class Tired(EchoExecutor):
    """Breaks with the sixth task."""

    def step(self, plan: Plan) -> Iterable[Result]:
        """Step, or break."""
        if len(self.tasks) > 5:
            raise RuntimeError("no more")
        return super().step(plan)


class Blunt(EchoExecutor):
    """Raises what Python raises for the wrong input."""

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Take the length of whatever it is."""
        len(task.input)
        return super().prepare(id, task, tenant)


class Careless(EchoExecutor):
    """Ignores parameters that it does not know."""

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Leave them out."""
        return super().prepare(id, attrs.evolve(task, params={}), tenant)


class Pooled(EchoExecutor):
    """Prepares in no more than five threads."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Count threads."""
        self.threads.add(threading.current_thread())
        if len(self.threads) > 5:
            raise RuntimeError("too many threads")
        return super().prepare(id, task, tenant)


class Leaking(EchoExecutor):
    """Does not give places back."""

    lost = 0

    @property
    def limits(self) -> Limits:
        """Count the lost ones as taken."""
        limits = super().limits
        return attrs.evolve(limits, free=limits.free - self.lost)

    def release(self, ids: Iterable[int]) -> None:
        """Lose one."""
        super().release(ids)
        self.lost = 1


class Strict(EchoExecutor):
    """Wants to know whom it releases."""

    def release(self, ids: Iterable[int]) -> None:
        """Raise for strangers."""
        for id in ids:
            del self._sequences[id]


class Losing(EchoExecutor):
    """Loses a word when a task is preempted in a certain way."""

    how: Preemption = "keep"

    def preempt(self, id: int, how: Preemption) -> None:
        """Preempt it, and lose a word."""
        super().preempt(id, how)
        if how == self.how:
            self._sequences[id].generated += 1
            self._sequences[id].redone += how == "drop"


class LosingSwap(Losing):
    """The same for ``swap``."""

    how = "swap"


class LosingDrop(Losing):
    """The same for ``drop``."""

    how = "drop"


BACKENDS: Mapping[str, Callable[[], Served]] = {
    "test_measures": lambda: served(Growing()), "test_loads": lambda: served(EchoBackend(rows=8, tokens=4)),
    "test_tells_facts": loading(Nameless), "test_says_what_is_wrong": lambda: served(Lenient()),
    "test_serves_its_kinds": loading(Promising), "test_serves_several": loading(Tired),
    "test_refuses_input": loading(Blunt), "test_refuses_parameters": loading(Careless),
    "test_prepares_in_any_thread": loading(Pooled), "test_release_gives_places_back": loading(Leaking),
    "test_release_of_nobody": loading(Strict), "test_preempted_goes_on[keep]": loading(Losing),
    "test_preempted_goes_on[swap]": loading(LosingSwap), "test_preempted_goes_on[drop]": loading(LosingDrop),
}  # fmt: skip


# --- processors ------------------------------------------------------------------------------------------------


class AtHome(Capitals):
    """Works in the thread that made it."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()

    def process(self, value: object, params: Mapping[str, Any]) -> str:
        """Process at home."""
        if threading.current_thread() is not self.thread:
            raise RuntimeError("made in another thread")
        return super().process(value, params)


class Rough(Capitals):
    """Takes everything for text."""

    def process(self, value: Any, params: Mapping[str, Any]) -> str:
        """Return it in capitals."""
        return str(value.upper())


class Greedy(Capitals):
    """Takes its parameters out of the task's."""

    def process(self, value: object, params: Mapping[str, Any]) -> str:
        """Return it in capitals."""
        params.pop("stop", None)  # type: ignore[attr-defined]
        return super().process(value, params)


class _Sentences(TextFilter):
    """Writes the first letter of each piece in capitals."""

    def feed(self, text: str) -> str:
        return text.capitalize()

    def end(self) -> str:
        return ""


class Cutting(Capitals):
    """Takes the beginning of a piece for the beginning of the text."""

    def process(self, value: object, params: Mapping[str, Any]) -> str:
        """Write the first letter in capitals."""
        super().process(value, params)
        return str(value).capitalize()

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Do the same with each piece."""
        return _Sentences()


class Double(Capitals):
    """Is something else on the way out than on the way in."""

    def process(self, value: object, params: Mapping[str, Any]) -> str:
        """Return it in small letters."""
        return super().process(value, params).lower()


class _Buffer(TextFilter):
    def __init__(self) -> None:
        self.parts: list[str] = []

    def feed(self, text: str) -> str:
        self.parts.append(text.upper())
        return ""

    def end(self) -> str:
        parts, self.parts = self.parts, []
        return "".join(parts)


class Mixing(Capitals):
    """Has one filter for everybody."""

    def __init__(self) -> None:
        self.one = _Buffer()

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Return it."""
        return self.one


PROCESSORS: Mapping[str, Callable[[], object]] = {
    "test_is_taken": lambda: Duck(Capitals()), "test_same_from_any_thread": AtHome, "test_says_what_is_wrong": Rough,
    "test_leaves_its_arguments_alone": Greedy, "test_pieces": Cutting, "test_filter_is_the_processor": Double,
    "test_filters_are_apart": Mixing,
}  # fmt: skip


# --- stores ----------------------------------------------------------------------------------------------------


class Textual(MemoryStore):
    """Takes bytes for text."""

    def put(self, key: str, value: bytes) -> None:
        """Keep what is text of it."""
        super().put(key, value.decode("utf-8", "replace").encode())


class Demanding(MemoryStore):
    """Raises where there is nothing."""

    def get(self, key: str) -> bytes | None:
        """Return what is there."""
        return self.kept[key]


class Faithful(MemoryStore):
    """Keeps the first value for ever."""

    def put(self, key: str, value: bytes) -> None:
        """Keep it, if it is the first."""
        self.kept.setdefault(key, value)


class Small(MemoryStore):
    """Takes capitals for small letters."""

    def put(self, key: str, value: bytes) -> None:
        """Keep it under small letters."""
        super().put(key.lower(), value)

    def get(self, key: str) -> bytes | None:
        """Look under small letters."""
        return super().get(key.lower())


class Remembering(MemoryStore):
    """Forgets nothing."""

    def delete(self, key: str) -> None:
        """Do not."""


class Missing(MemoryStore):
    """Raises where there is nothing to delete."""

    def delete(self, key: str) -> None:
        """Delete what is there."""
        del self.kept[key]


class Unsorted(MemoryStore):
    """Lists keys as they came."""

    def keys(self, prefix: str = "") -> Iterable[str]:
        """Return them."""
        return [key for key in self.kept if key.startswith(prefix)]


class Matching(MemoryStore):
    """Takes a prefix for a pattern."""

    def keys(self, prefix: str = "") -> Iterable[str]:
        """Return what matches."""
        return sorted(key for key in self.kept if re.match(prefix, key))


class Homely(MemoryStore):
    """Works in the thread that made it."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        super().__init__(kept)
        self.thread = threading.current_thread()

    def put(self, key: str, value: bytes) -> None:
        """Keep it, at home."""
        if threading.current_thread() is not self.thread:
            raise RuntimeError("made in another thread")
        super().put(key, value)


def opened(kind: Callable[[dict[str, bytes]], object]) -> Callable[[], object]:
    """Return what opens one store of *kind*, each time the same."""
    kept: dict[str, bytes] = {}
    return lambda: kind(kept)


STORES: Mapping[str, Callable[[], Callable[[], object]]] = {
    "test_is_taken": lambda: opened(lambda kept: Duck(MemoryStore(kept))),
    "test_returns_what_was_put": lambda: opened(Textual), "test_nothing_is_none": lambda: opened(Demanding),
    "test_put_replaces": lambda: opened(Faithful), "test_any_key": lambda: opened(Small),
    "test_delete_forgets": lambda: opened(Remembering), "test_delete_of_nothing": lambda: opened(Missing),
    "test_keys_sorted": lambda: opened(Unsorted), "test_keys_by_prefix": lambda: opened(Matching),
    "test_lasts": lambda: MemoryStore, "test_any_thread": lambda: opened(Homely),
}  # fmt: skip


# --- observers -------------------------------------------------------------------------------------------------


class Unmarked:
    """Has the function, but no mark on it."""

    def llmos_event(self, event: Event) -> None:
        """Do nothing."""


class Unlucky(Recorder):
    """Does not count on a caller's mistake."""

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Raise for one."""
        if event.fields.get("error") == "InvalidArgument":
            raise ZeroDivisionError


class Trusting(Recorder):
    """Counts on every field of an event."""

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Look at the model."""
        if event.name.startswith("task."):
            event.fields["model"].lower()


class Waiting(Recorder):
    """Waits for somebody far away to take note."""

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Wait, sometimes."""
        if event.name == "model.unloaded":
            threading.Event().wait(0.12)


class Taking(Recorder):
    """Takes out of an event what it wants."""

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Take the model."""
        event.fields.pop("model", None)  # type: ignore[attr-defined]


OBSERVERS: Mapping[str, Callable[[], object]] = {
    "test_is_taken": Unmarked, "test_every_event": Unlucky, "test_strange_events": Trusting,
    "test_does_not_block": Waiting, "test_leaves_events_alone": Taking,
}  # fmt: skip


# --- exporters -------------------------------------------------------------------------------------------------


class Empty(CopyExporter):
    """Writes a folder with nothing in it."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write it, if there is a source."""
        facts = super().export(source, target, options, progress)
        shutil.rmtree(target)
        target.mkdir()
        return facts


class Silent(CopyExporter):
    """Has nothing to say."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write it."""
        super().export(source, target, options, progress)
        return None  # type: ignore[return-value]


class Piecemeal(CopyExporter):
    """Writes the target piece by piece."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Let the folder be there from the beginning."""

        def tell(what: str, done: int, total: int) -> None:
            target.mkdir(exist_ok=True)
            progress(what, done, total)
            shutil.rmtree(target)

        return super().export(source, target, options, tell)


class Boasting(CopyExporter):
    """Has done more than there is."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write it."""
        return super().export(source, target, options, lambda what, done, total: progress(what, done, 1))


class Untidy(CopyExporter):
    """Leaves notes in the checkpoint."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write it, and a note."""
        facts = super().export(source, target, options, progress)
        (source / "seen").write_text("yes")
        return facts


class Deaf(CopyExporter):
    """Ignores options that it does not know."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write it without."""
        return super().export(source, target, {}, progress)


class Raw(CopyExporter):
    """Raises what Python raises where there is no checkpoint."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Look for a file first."""
        next(iter(source.iterdir()))
        return super().export(source, target, options, progress)


def exporting(make: Callable[[], Any]) -> Callable[[Path], Export]:
    """Return what makes a checkpoint in a folder, and an exporter of it."""
    numbers = itertools.count()

    def made(folder: Path) -> Export:
        source = folder / f"checkpoint-{next(numbers)}"
        source.mkdir()
        for name in ("a", "b", "c"):
            (source / name).write_text(name)
        return Export(make(), source)

    return made


EXPORTERS: Mapping[str, Callable[[Path], Export]] = {
    "test_is_taken": exporting(lambda: Duck(CopyExporter())), "test_writes_target": exporting(Empty),
    "test_returns_facts": exporting(Silent), "test_whole_or_not_at_all": exporting(Piecemeal),
    "test_progress": exporting(Boasting), "test_keeps_source": exporting(Untidy),
    "test_unknown_option": exporting(Deaf), "test_wrong_source": exporting(Raw),
}  # fmt: skip
