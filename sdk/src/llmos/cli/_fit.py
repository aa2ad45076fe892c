"""The sum of terms that fits the times of a model's steps best."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence

import attrs

from llmos import StepProfile

TERMS = (
    "fixed", "per_row", "prompt_fixed", "per_pass", "per_prompt_token", "per_context_token", "per_prompt_context",
)  # fmt: skip
"""What `fit` looks for, in the order of `Step.weights`."""
ROUNDS = 3
"""How often a fit is made, each time relative to the one before."""
_TOO_FLAT = 1e-9
"""A pivot below this says that the steps do not tell two terms apart."""


@attrs.frozen(kw_only=True)
class Step:
    """One kind of step, and how long it took."""

    rows: int
    prompt: int = 0
    prompts: int = 1
    """Of how many prompts pieces are computed, if of any."""
    context: int = 0
    pairs: int = 0
    """Pairs of a prompt token and one before it."""
    seconds: float

    @property
    def weights(self) -> tuple[float, ...]:
        """How often each of the `TERMS` is in it."""
        more = self.prompts - 1 + (self.rows > self.prompts) if self.prompt else 0
        return (1.0, self.rows, float(self.prompt > 0), more, self.prompt, self.context, self.pairs)

    def said(self, profile: StepProfile) -> float:
        """Return how long it takes by *profile*, in seconds."""
        return profile.seconds(self.rows, self.prompt, self.context, self.pairs, prompts=self.prompts)


def fit(steps: Sequence[Step]) -> StepProfile:
    """Return the terms, none negative, whose sums are nearest to the times of *steps*, by squares of relative errors.

    Relative to what the sums say themselves, found round by round: relative to the times, those that happened to be
    short would count more, and the sums be too small.
    """
    profile = _fitted(steps, [step.seconds for step in steps])
    for _ in range(ROUNDS - 1):
        profile = _fitted(steps, [step.said(profile) for step in steps])
    return _judged(profile, steps)


def _fitted(steps: Sequence[Step], scales: Sequence[float]) -> StepProfile:
    """Return the terms of least squared errors, each divided by its scale.

    The best sum without negative terms is the plain least-squares solution over the terms that it uses (Lawson and
    Hanson, "Solving Least Squares Problems", 1974, chapter 23).  There are 127 choices of these, so all are tried.
    """
    rows = [[weight / scale for weight in step.weights] for step, scale in zip(steps, scales, strict=True)]
    times = [step.seconds / scale for step, scale in zip(steps, scales, strict=True)]
    found: list[tuple[float, dict[str, float]]] = []
    for size in range(1, len(TERMS) + 1):
        for chosen in itertools.combinations(range(len(TERMS)), size):
            terms = _least_squares([[row[at] for at in chosen] for row in rows], times)
            if terms is not None and min(terms) >= 0:
                said = [sum(row[at] * term for at, term in zip(chosen, terms, strict=True)) for row in rows]
                missed = sum((one - other) ** 2 for one, other in zip(said, times, strict=True))
                found.append((missed, {TERMS[at]: term for at, term in zip(chosen, terms, strict=True)}))
    return StepProfile(**min(found, key=lambda one: one[0])[1], steps=len(steps))  # type: ignore[arg-type]


def _judged(profile: StepProfile, steps: Sequence[Step]) -> StepProfile:
    """Return *profile* with how well it explains *steps*."""
    mean = statistics.fmean(step.seconds for step in steps)
    said = [step.said(profile) for step in steps]
    missed = sum((step.seconds - one) ** 2 for step, one in zip(steps, said, strict=True))
    variance = sum((step.seconds - mean) ** 2 for step in steps)
    worst = max(abs(one / step.seconds - 1) for step, one in zip(steps, said, strict=True))
    return attrs.evolve(profile, r2=1 - missed / variance if variance else 1.0, worst=worst)


def _least_squares(rows: Sequence[Sequence[float]], times: Sequence[float]) -> list[float] | None:
    """Return x for which the rows times x are nearest to *times*; None where the rows do not determine it.

    Normal equations, columns scaled to length 1, by Gauss and Jordan: there are at most seven unknowns.
    """
    size = len(rows[0])
    scales = [sum(row[at] ** 2 for row in rows) ** 0.5 for at in range(size)]
    if not all(scales):
        return None
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    table = [
        [
            *(_dot(scaled, a, b) for b in range(size)),
            sum(row[a] * time for row, time in zip(scaled, times, strict=True)),
        ]
        for a in range(size)
    ]
    for at in range(size):
        pivot = max(range(at, size), key=lambda line: abs(table[line][at]))
        if abs(table[pivot][at]) < _TOO_FLAT:
            return None
        table[at], table[pivot] = table[pivot], [*table[at]]
        table[at] = [value / table[at][at] for value in table[at]]
        for line in set(range(size)) - {at}:
            factor = table[line][at]
            table[line] = [value - factor * other for value, other in zip(table[line], table[at], strict=True)]
    return [table[at][size] / scales[at] for at in range(size)]


def _dot(rows: Iterable[Sequence[float]], a: int, b: int) -> float:
    return sum(row[a] * row[b] for row in rows)
