"""The routers by name, as configuration names them, and what their tests ask them about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from llmos_kernel.api import Auto
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.services import Candidate, Event, Router
from llmos_routers import auto, cheapest, fastest, least_loaded, prefix_affinity, round_robin

MODULES: Mapping[str, ModuleType] = {
    "auto": auto, "cheapest": cheapest, "fastest": fastest, "least-loaded": least_loaded,
    "prefix-affinity": prefix_affinity, "round-robin": round_robin,
}  # fmt: skip


class Watch:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.time


def rule(name: str, **options: Any) -> Callable[[], Router]:
    """Return a function that makes routers called *name*."""
    module = MODULES[name]

    def make() -> Router:
        made: Router = module.llmos_router(options)
        return made

    return make


def timed(name: str, clock: Watch, **options: Any) -> Router:
    """Return the router *name*, which reads *clock*."""
    made = rule(name, **options)()
    router: Router = type(made)(made.options, clock)  # type: ignore[attr-defined, call-arg]
    return router


def one(name: str, unfinished: int = 0, *, loaded: bool = True, **fields: Any) -> Candidate:
    """Return a candidate."""
    return Candidate(ModelSpec(**{"name": name, "backend": "none", **fields}), loaded, unfinished)


def ask(router: Router, *candidates: Candidate, kind: str = "generate", **want: Any) -> str:
    """Return whom the router chooses."""
    return router.route(kind, Auto(**want), candidates)


def ended(
    model: str, at: float, seconds: float = 1.0, *, error: str = "", tokens: int = 1, queued: float = 0.0
) -> Event:
    """Return the end of a task that *model* served for so many seconds."""
    name = "task.cancelled" if error == "Cancelled" else "task.failed" if error else "task.done"
    facts = {"task": 1, "model": model, "kind": "generate", "tenant": "me", "error": error, "generated": tokens}
    return Event(name, at, {**facts, "queued": queued, "prefill": seconds / 2, "decode": seconds / 2})
