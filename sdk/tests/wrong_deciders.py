"""Schedulers, routers and policies that are each wrong in one way, by the check that is to find it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from llmos.testing import FirstCome, FirstSuited
from llmos_kernel.api import Auto
from llmos_kernel.contracts import Limits, Plan, TaskView
from llmos_kernel.errors import NotFound
from llmos_kernel.services import Action, Candidate, Decision, Event, Policy, Router


class Duck:
    """Does what another plugin does without being of its kind."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


# --- schedulers ------------------------------------------------------------------------------------------------


class Inattentive(FirstCome):
    """Does not hear that a reader is behind, and goes on."""

    def changed(self, task: TaskView) -> None:
        """Take the new view, if it is another change."""
        if task.state != "stalled":
            super().changed(task)


class Restless(FirstCome):
    """Wants to be woken although there is nothing to do."""

    def plan(self, now: float, limits: Limits) -> Plan:
        """Plan, and ask to be woken if that is nothing."""
        plan = super().plan(now, limits)
        return plan if plan != Plan() else Plan(wake_at=now + 1)


class Slow(FirstCome):
    """Admits one task every second time it is asked."""

    _turn = 0

    def plan(self, now: float, limits: Limits) -> Plan:
        """Plan, with one admission or none."""
        self._turn += 1
        plan = super().plan(now, limits)
        admit = plan.admit[:1] if self._turn % 2 else ()
        return Plan(admit, plan.resume, prefill=plan.prefill, decode=plan.decode, wake_at=now if self._views else None)


class Historian(FirstCome):
    """Remembers everybody whom it served."""

    def __init__(self) -> None:
        super().__init__()
        self.served: list[TaskView] = []

    def finished(self, id: int) -> None:
        """Write it down."""
        self.served += [self._views[id]] if id in self._views else []
        super().finished(id)


SCHEDULERS: Mapping[str, Callable[[], object]] = {
    "test_is_taken": lambda: Duck(FirstCome()), "test_contract": Inattentive, "test_nothing_to_do": Restless,
    "test_run_executor": Slow, "test_forgets": Historian,
}  # fmt: skip


# --- routers ---------------------------------------------------------------------------------------------------


class Hurried(FirstSuited):
    """Takes the least loaded of many models without looking at what is wanted."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first that will do, or of many the one with least to do."""
        if len(candidates) > 5:
            return min(candidates, key=lambda one: one.unfinished).spec.name
        return super().route(kind, want, candidates)


class Choosy(FirstSuited):
    """Wants models that are loaded, whatever it was asked for."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first that is loaded."""
        return super().route(kind, want, tuple(one for one in candidates if one.loaded))


class Moody(FirstSuited):
    """Lets the number of routers made before it decide."""

    made = itertools.count()

    def __init__(self) -> None:
        self.last = next(self.made) % 2

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first, or the last."""
        return super().route(kind, want, candidates[::-1] if self.last else candidates)


class Picky(FirstSuited):
    """Counts on every field of an event."""

    def heard(self, event: Event) -> None:
        """Look at the model."""
        if event.name.startswith("task."):
            event.fields["model"].lower()


class Confused(FirstSuited):
    """Keeps the question where the next one overwrites it."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first of whoever asked last."""
        self.question = kind, want, candidates
        time.sleep(0)  # the others come in between
        return super().route(*self.question)


class Hoarder(FirstSuited):
    """Remembers every word."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first, and note for which word it was."""
        self.words[want.affinity] = name = super().route(kind, want, candidates)
        return name


class Inventive(FirstSuited):
    """Returns a name of its own where none will do."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first, or a model that nobody offered."""
        try:
            return super().route(kind, want, candidates)
        except NotFound:
            return "gpt-7"


class Untyped(Router):
    """Raises what Python raises where none will do."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first."""
        return next(one.spec.name for one in candidates if kind in one.spec.kinds and not want.avoid)


ROUTERS: Mapping[str, Callable[[], object]] = {
    "test_is_taken": lambda: Duck(FirstSuited()), "test_chooses_what_will_do": Hurried,
    "test_finds_what_will_do": Choosy, "test_same_calls_same_answers": Moody, "test_any_event": Picky,
    "test_many_threads": Confused, "test_router_forgets": Hoarder,
}  # fmt: skip


# --- policies --------------------------------------------------------------------------------------------------


class Grudging(Policy):
    """Abstains: nothing is wrong with it."""

    def check(self, action: Action) -> Decision:
        """Abstain."""
        return Decision.ABSTAIN


class Truthful(Grudging):
    """Answers with True where a handle is granted."""

    def check(self, action: Action) -> Decision:
        """Abstain, as a rule."""
        return True if action.name == "grant" else Decision.ABSTAIN  # type: ignore[return-value]


class Listed(Grudging):
    """Knows the actions of today."""

    TABLE = dict.fromkeys("attach alloc schedule grant control.cancel".split(), Decision.ALLOW)

    def check(self, action: Action) -> Decision:
        """Look it up."""
        return self.TABLE[action.name]


class Attached(Grudging):
    """Works in the thread that made it, as a connection to a database does."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()

    def check(self, action: Action) -> Decision:
        """Abstain at home."""
        if threading.current_thread() is not self.thread:
            raise RuntimeError("made in another thread")
        return Decision.ABSTAIN


class Sluggish(Grudging):
    """Waits for an answer from far away."""

    def check(self, action: Action) -> Decision:
        """Wait, then abstain."""
        if action.name == "grant":
            threading.Event().wait(0.12)
        return Decision.ABSTAIN


class Meddling(Grudging):
    """Takes the parameters out of the question."""

    def check(self, action: Action) -> Decision:
        """Abstain, and leave a trace."""
        action.detail.pop("params", None)  # type: ignore[attr-defined]
        return Decision.ABSTAIN


class Listening(Grudging):
    """Counts on every field of an event."""

    def heard(self, event: Event) -> None:
        """Look at the tenant."""
        if event.name.startswith("task."):
            event.fields["tenant"].lower()


POLICIES: Mapping[str, Callable[[], object]] = {
    "test_is_taken": lambda: Duck(Grudging()), "test_decides": Truthful, "test_unknown_action": Listed,
    "test_any_thread": Attached, "test_answers_quickly": Sluggish, "test_leaves_the_question_alone": Meddling,
    "test_hears_anything": Listening,
}  # fmt: skip
