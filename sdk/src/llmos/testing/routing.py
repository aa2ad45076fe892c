"""Made-up models, wishes and events, of which a router is asked and told: the same ones for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import attrs

from llmos_kernel.api import Auto
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import KernelError
from llmos_kernel.services import Candidate, Event, Router

KINDS = ("generate", "chat", "embed")
LANGUAGES = ("en", "de", "zh")
CAPABILITIES = ("vision", "tools")


@attrs.frozen
class Question:
    """A call of `Router.route`."""

    kind: str
    want: Auto
    candidates: tuple[Candidate, ...]

    def asked_of(self, router: Router) -> str:
        """Return the answer, or the name of the typed error; any other exception passes."""
        try:
            return router.route(self.kind, self.want, self.candidates)
        except KernelError as error:
            return type(error).__name__

    @property
    def suited(self) -> frozenset[str]:
        """The names of the candidates that have all that is wanted."""
        return frozenset(one.spec.name for one in self.candidates if suits(self.kind, self.want, one.spec))


def suits(kind: str, want: Auto, spec: ModelSpec) -> bool:
    """Return whether a model says that it has what is wanted."""
    return (
        kind in spec.kinds
        and all(any(tag == one or tag.startswith(f"{one}-") for tag in spec.languages) for one in want.languages)
        and {*want.capabilities} <= {*spec.capabilities, *spec.kinds}
        and spec.context >= want.context
        and (want.cost is None or spec.cost <= want.cost)
        and (not want.models or spec.name in want.models)
        and spec.name not in want.avoid
    )


def make_random(seed: int) -> Random:
    """Return a source of numbers that are the same for the same *seed*."""
    return Random(seed)  # noqa: S311 - made-up workloads, no secrets


def make_models(random: Random, count: int, prefix: str = "model") -> tuple[ModelSpec, ...]:
    """Return *count* models, of which some can more than others."""
    return tuple(
        ModelSpec(
            name=f"{prefix}-{number}", backend="none", kinds=_some(random, KINDS, 1),
            languages=_some(random, LANGUAGES), capabilities=_some(random, CAPABILITIES),
            context=random.choice((0, 1024, 8192)), cost=random.choice((0.0, 0.5, 20.0)),
            nbytes=random.choice((0, 10**9)),
        )
        for number in range(count)
    )  # fmt: skip


def make_question(random: Random, models: tuple[ModelSpec, ...]) -> Question:
    """Return what a task might want, and *models* as they stand then; few wishes as a rule, so that some will do."""
    names = [spec.name for spec in models]
    wishes: dict[str, Any] = {
        "languages": _some(random, LANGUAGES), "capabilities": _some(random, CAPABILITIES),
        "context": random.choice((0, 1000, 10**6)), "cost": random.choice((None, 0.0, 1.0)),
        "models": _some(random, names), "avoid": _some(random, names), "affinity": random.choice(("", "a", "b")),
    }  # fmt: skip
    given = {wish: value for wish, value in wishes.items() if random.random() < 0.2}
    candidates = tuple(Candidate(spec, random.random() < 0.7, random.choice((0, 0, 1, 2, 9))) for spec in models)
    return Question(random.choice(KINDS), Auto(**given), candidates)


def make_events(random: Random, at: float, number: int, model: str) -> Iterator[Event]:
    """Yield what the kernel tells of a task on *model*, its acceptance to its end; some end badly."""
    kind = random.choice(KINDS)
    task = {"task": number, "model": model, "kind": kind, "tenant": "tenant", "trace": ""}
    yield Event("task.accepted", at, {**task, "process": 1})
    yield Event("step", at + 0.5, {"model": model, "rows": random.randint(1, 8), "prompt": 9, "seconds": 0.01})
    error = random.choice(("", "", "", "ExecutorCrashed", "InvalidArgument", "DeadlineExceeded", "Cancelled"))
    name = "task.cancelled" if error == "Cancelled" else "task.failed" if error else "task.done"
    usage = {"prompt": 9, "cached": 0, "generated": random.randint(0, 50)}
    seconds = {part: random.random() for part in ("queued", "prefill", "decode")}
    yield Event(name, at + 1, {**task, "error": error, **usage, **seconds})


def _some(random: Random, of: Any, least: int = 0) -> tuple[str, ...]:  # noqa: ANN401 - names, in any sequence
    return tuple(random.sample(of, random.randint(least, len(of))))
