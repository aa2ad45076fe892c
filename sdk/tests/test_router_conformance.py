"""Each of `RouterConformance`'s tests finds the fault that it is there for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from llmos.testing.conformance import RouterConformance
from llmos.testing.routing import suits
from llmos_kernel.api import Auto
from llmos_kernel.errors import NotFound
from llmos_kernel.services import Candidate, Event, Router


class Plain(Router):
    """The first that will do: nothing is wrong with it."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first."""
        for candidate in candidates:
            if suits(kind, want, candidate.spec):
                return candidate.spec.name
        raise NotFound("none", field="target", value="auto", nearest=[])


class Inventive(Plain):
    """Returns a name of its own where none will do."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first, or a model that nobody offered."""
        try:
            return super().route(kind, want, candidates)
        except NotFound:
            return "gpt-7"


class Careless(Plain):
    """Forgets what is to be avoided."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first that has the rest."""
        return super().route(kind, Auto(want.languages, want.capabilities, want.context), candidates)


class Untyped(Plain):
    """Raises what Python raises where none will do."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first."""
        return next(one.spec.name for one in candidates if suits(kind, want, one.spec))


class Choosy(Plain):
    """Wants models that are loaded, whatever it was asked for."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first that is loaded."""
        return super().route(kind, want, tuple(one for one in candidates if one.loaded))


class Moody(Plain):
    """Lets the number of routers made before it decide."""

    made = itertools.count()

    def __init__(self) -> None:
        self.last = next(self.made) % 2

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first, or the last."""
        return super().route(kind, want, candidates[::-1] if self.last else candidates)


class Picky(Plain):
    """Counts on every field of an event."""

    def heard(self, event: Event) -> None:
        """Look at the model."""
        if event.name.startswith("task."):
            event.fields["model"].lower()


class Confused(Plain):
    """Keeps the question where the next one overwrites it."""

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first of whoever asked last."""
        self.question = kind, want, candidates
        for _ in range(200):  # the others come in between
            pass
        return super().route(*self.question)


class Hoarder(Plain):
    """Remembers every word."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the same for the same word."""
        return self.words.setdefault(want.affinity, super().route(kind, want, candidates)) and super().route(
            kind, want, candidates
        )


CHECKS = {name: check for name, check in vars(RouterConformance).items() if name.startswith("test_")}
WRONG: list[tuple[str, Callable[[], Router]]] = [
    ("test_chooses_what_will_do", Inventive), ("test_chooses_what_will_do", Careless),
    ("test_chooses_what_will_do", Untyped), ("test_finds_what_will_do", Choosy),
    ("test_same_calls_same_answers", Moody), ("test_any_event", Picky), ("test_many_threads", Confused),
    ("test_router_forgets", Hoarder),
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_right_router_passes(check: str) -> None:
    """What does as it is told, and no more, passes."""
    CHECKS[check](RouterConformance(), Plain)


@pytest.mark.parametrize(("check", "wrong"), WRONG)
def test_wrong_router_fails(check: str, wrong: Any) -> None:
    """Each check fails for a router that does wrong what it checks."""
    with pytest.raises((AssertionError, StopIteration, KeyError)):
        CHECKS[check](RouterConformance(), wrong)


def test_every_check_has_a_wrong_router() -> None:
    """No check is there that nothing fails."""
    assert set(CHECKS) == {check for check, _ in WRONG}
