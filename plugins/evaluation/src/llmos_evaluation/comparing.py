"""Two results on the same suite: differences, with intervals from resampling both on the same records."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from llmos_evaluation import bootstrap
from llmos_evaluation.items import Item
from llmos_evaluation.metrics import METRICS, Metric, scored
from llmos_evaluation.store import Result
from llmos_kernel.errors import InvalidArgument


@attrs.frozen(kw_only=True)
class Difference:
    """One figure of two results."""

    name: str
    title: str
    unit: str
    larger: bool
    """Whether larger is better."""
    first: float
    second: float
    difference: float
    """The second less the first."""
    low: float | None = None
    """Bounds that 95 of 100 resampled differences lie between; None where there are none."""
    high: float | None = None
    p: float | None = None
    """Probability of such a difference by chance, two-sided; None where it is not known, as for times."""
    n: int
    """Records that both have."""


def compare(first: Result, second: Result, seed: int = bootstrap.SEED) -> tuple[Difference, ...]:
    """Return the difference of each figure that both have.

    Raises `InvalidArgument` for results on different suites, or without the records (`Result.summary`).
    """
    if first.digest != second.digest:
        message = f"{first.id} and {second.id} are of different suites, {first.suite} and {second.suite}"
        raise InvalidArgument(message, field="result", value=second.id, expected="results on the same suite")
    pairs = [*zip(first.items, second.items, strict=False)]
    if not pairs or len(first.items) != len(second.items):
        raise InvalidArgument.of("result", second.id, "a result with its records")
    names = [name for name in first.metrics if name in second.metrics]
    return tuple(_difference(name, first, second, pairs, seed) for name in names)


def _difference(name: str, first: Result, second: Result, pairs: Sequence[tuple[Item, Item]], seed: int) -> Difference:
    one, other = first.metrics[name], second.metrics[name]
    found = Difference(
        name=name, title=one.title, unit=one.unit, larger=one.larger, first=one.value, second=other.value,
        difference=other.value - one.value, n=min(one.n, other.n),
    )  # fmt: skip
    metric = _metric(name, first)
    if metric is None:
        return found
    if metric.corpus is not None:
        return attrs.evolve(found, p=metric.corpus.p_value(*zip(*pairs, strict=True)))
    parts = [(a, b) for x, y in pairs if (a := metric.part(x)) is not None and (b := metric.part(y)) is not None]
    if not parts:
        return found
    low, high, p = bootstrap.paired(parts, metric.finish, seed)
    return attrs.evolve(found, low=low, high=high, p=p, n=len(parts))


def _metric(name: str, result: Result) -> Metric | None:
    """Return how *name* is computed, or None for times: their records are not independent, for all share the load.

    A metric of somebody's own is the mean of what each record was given.
    """
    if name in METRICS:
        return METRICS[name]
    if not any(name in item.scores for item in result.items):
        return None
    return scored(name, name, lambda item: item.scores.get(name, 0.0) / 100)
