"""Which models will do for a task, and why the others will not.  The same for every router."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from llmos_kernel.api import Auto
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ModelUnavailable, NotFound
from llmos_kernel.services import Candidate

SHOWN = 8
"""Most near misses that a message names; the error's fields have all."""


def eligible(
    kind: str, want: Auto, candidates: Sequence[Candidate], wait: Callable[[str], float]
) -> tuple[Candidate, ...]:
    """Return those of *candidates* that will do for a task of *kind* and may be asked now.

    *wait* says for how many seconds a model, by name, is to be left alone because it failed.  Raises `NotFound` where
    no model will do, with the ``reasons`` by name, the nearest first, and `ModelUnavailable` with ``retry_after`` where
    those that would do have failed.
    """
    reasons = {candidate.spec.name: tuple(_reasons(kind, want, candidate.spec)) for candidate in candidates}
    suited = [candidate for candidate in candidates if not reasons[candidate.spec.name]]
    if not suited:
        raise _none(kind, reasons)
    waits = {candidate.spec.name: wait(candidate.spec.name) for candidate in suited}
    ready = tuple(candidate for candidate in suited if not waits[candidate.spec.name])
    if not ready:
        raise _failing(waits)
    return ready


def _reasons(kind: str, want: Auto, spec: ModelSpec) -> Iterator[str]:
    """Yield why the model will not do."""
    if kind not in spec.kinds:
        yield f"serves no {kind!r}"
    for language in want.languages:
        if not any(_covers(language, tag) for tag in spec.languages):
            yield f"does not say that it knows the language {language!r}"
    can = {*spec.capabilities, *spec.kinds}
    for capability in want.capabilities:
        if capability not in can:
            yield f"does not say that it can {capability!r}"
    if spec.context < want.context:
        yield f"has a context of {spec.context or 'unknown length'}, not of {want.context}"
    if want.cost is not None and spec.cost > want.cost:
        yield f"costs {spec.cost:g}, more than {want.cost:g}"
    if want.models and spec.name not in want.models and not set(want.models) & set(spec.aliases):
        yield "is not among the models that are asked for"
    if spec.name in want.avoid or set(want.avoid) & set(spec.aliases):
        yield "is to be avoided"


def _covers(wanted: str, tag: str) -> bool:
    """Return whether the language *tag* is the *wanted* one, or a kind of it (RFC 4647, basic filtering)."""
    wanted, tag = wanted.lower(), tag.lower()
    return tag == wanted or tag.startswith(f"{wanted}-")


def _none(kind: str, reasons: dict[str, tuple[str, ...]]) -> NotFound:
    nearest = sorted(reasons, key=lambda name: (len(reasons[name]), name))
    why = _listed((f"{name!r} " + " and ".join(reasons[name]) for name in nearest[:SHOWN]), len(nearest) - SHOWN)
    message = f"no model will do for this {kind!r} task: {why}" if nearest else f"no model serves {kind!r} tasks"
    facts = {name: list(reasons[name]) for name in nearest}
    return NotFound(message, field="target", value="auto", nearest=nearest, reasons=facts)


def _failing(waits: dict[str, float]) -> ModelUnavailable:
    nearest = sorted(waits, key=lambda name: (waits[name], name))
    soonest = waits[nearest[0]]
    why = _listed((f"{name!r} for {waits[name]:.1f} s" for name in nearest[:SHOWN]), len(nearest) - SHOWN)
    message = f"every model that would do has just failed and is left alone: {why}; try again in {soonest:.1f} s"
    return ModelUnavailable(message, model=nearest[0], retry_after=soonest, waits=dict(waits))


def _listed(items: Iterable[str], more: int) -> str:
    return "; ".join(items) + (f"; and {more} more" if more > 0 else "")
