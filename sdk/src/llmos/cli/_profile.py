"""What ``llmos profile`` does with a model: planned steps of known size, and the sum of terms that fits their times.

The executor is driven as a dispatcher would drive it, because only who plans the steps knows what is in them.  Its
tasks have prompts of random tokens, each of a tenant of its own, so that nothing is cached.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil

import attrs

from llmos import StepProfile
from llmos_kernel.api import Task
from llmos_kernel.contracts import Limits, Plan, StepExecutor
from llmos_kernel.errors import ModelUnavailable

TERMS = (
    "fixed", "per_row", "prompt_fixed", "per_pass", "per_prompt_token", "per_context_token", "per_prompt_context",
)  # fmt: skip
"""What `fit` looks for, in the order of `Step.weights`."""
PAIRS = 5
"""One of so many groups of prompts that are computed one after the other is of two: coprime to the kinds of pieces."""
ROUNDS = 3
"""How often a fit is made, each time relative to the one before."""
_TOO_FLAT = 1e-9
"""A pivot below this says that the steps do not tell two terms apart."""


@attrs.frozen(kw_only=True)
class Effort:
    """How much is measured."""

    contexts: tuple[int, ...] = (37, 251, 761)
    """Lengths of the prompts, and so of what is in the cache of the rows that decode.

    No round numbers, here as below: real ones are not round, and products of round shapes are quicker.
    """
    chunks: tuple[int, ...] = (509, 127, 31)
    """Lengths of the pieces in which prompts are computed, in turn."""
    repeat: int = 5
    """Steps of each kind that decode."""
    seed: int = 0


QUICK = Effort(contexts=(32, 96), chunks=(64, 16), repeat=2)


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


# --- measuring -------------------------------------------------------------------------------------------------


@attrs.define
class Bench:
    """Drives one executor."""

    executor: StepExecutor
    effort: Effort
    tokens: Sequence[int]
    """What prompts are made of."""
    clock: Callable[[], float] = time.perf_counter
    limits: Limits = attrs.field(init=False)
    lengths: dict[int, int] = attrs.field(factory=dict, init=False)
    """Tokens in the cache, by task."""
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)
    _rng: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limits = self.executor.limits
        self._rng = random.Random(self.effort.seed)  # noqa: S311 - the same prompts each time

    def contexts(self) -> list[int]:
        """Return the lengths of prompts for which the model has room, with the tokens that are decoded after them."""
        most = self.limits.context
        found = [length for length in self.effort.contexts if length + self.decodes(length) <= most]
        if not found or not self.row_counts():
            expected = f"at least {min(self.effort.contexts) + self.decodes(min(self.effort.contexts))} tokens"
            message = f"it has {self.limits.free} free places of {most} tokens; to be measured it needs {expected}"
            raise ModelUnavailable(message, field="context", value=most, expected=expected)
        return found

    def decodes(self, length: int) -> int:
        """Return how many tokens the first task decodes beside prompts of *length* tokens, and after them."""
        beside = sum(ceil(length / chunk) for _, chunk in self.groups()[1::2])
        return beside + len(self.row_counts()) * (self.effort.repeat + 1)

    def groups(self) -> list[tuple[int, int]]:
        """Return how many prompts are computed together, and the length of their pieces, until all rows are taken."""
        found: list[tuple[int, int]] = []
        while left := max(self.row_counts(), default=0) - sum(count for count, _ in found):
            count = 2 if len(found) % PAIRS == 2 and left > 1 < self.limits.chunks else 1
            chunk = self.effort.chunks[len(found) % len(self.effort.chunks)]
            found.append((count, max(1, min(chunk, self.limits.tokens - self.limits.rows + 1) // count)))
        return found

    def row_counts(self) -> list[int]:
        """Return 1, 2, 4, ... and all rows."""
        most = min(self.limits.rows, self.limits.free)
        return sorted({min(2**power, most) for power in range(most.bit_length() + 1)} - {0})

    def steps(self, length: int) -> Iterator[Step]:
        """Yield steps with prompts of *length* tokens: pieces of them, alone and beside rows that decode, and decodes.

        The first step of each kind is not counted: an executor may have things to prepare.
        """
        for number, (count, chunk) in enumerate(self.groups()):
            beside = list(self.lengths) if number % 2 else []
            ids = [self._begin(length) for _ in range(count)]
            for done in range(0, length, chunk):
                pieces = [(id, min(chunk, length - done)) for id in ids]
                yield self._step(pieces, beside[: self.limits.rows - count])
        for rows in self.row_counts():
            found = [self._step(decode=list(self.lengths)[:rows]) for _ in range(self.effort.repeat + 1)]
            yield from found[1:]
        self.executor.release(list(self.lengths))
        self.lengths.clear()

    def _begin(self, length: int) -> int:
        """Give a task with a prompt of *length* tokens a place; return its id."""
        id = next(self._ids)
        params = {"temperature": 0.0, "ignore_eos": True, "max_tokens": self.limits.context - length}
        prompt = self._rng.choices(self.tokens, k=length)
        self.executor.prepare(id, Task("generate", None, prompt, params=params), f"profile {id}")
        self.executor.admit(id)
        self.lengths[id] = 0
        return id

    def _step(self, prefill: Sequence[tuple[int, int]] = (), decode: Sequence[int] = ()) -> Step:
        """Do and time one step."""
        plan = Plan(prefill=(*prefill,), decode=tuple((id, 1) for id in decode))
        context = sum(self.lengths[id] for id, _ in plan.prefill + plan.decode)
        pairs = sum(piece * self.lengths[id] + piece * (piece - 1) // 2 for id, piece in prefill)
        begin = self.clock()
        results = list(self.executor.step(plan))
        seconds = self.clock() - begin
        for error in (result.error for result in results if result.error is not None):
            raise error
        for id, tokens in plan.prefill + plan.decode:
            self.lengths[id] += tokens
        return Step(
            rows=len(results), prompt=sum(piece for _, piece in prefill), prompts=max(len(prefill), 1),
            context=context, pairs=pairs, seconds=seconds,
        )  # fmt: skip


def measure(bench: Bench, progress: Callable[[str, int, int], None]) -> StepProfile:
    """Return the profile of an executor, without name and machine; raise `ModelUnavailable` for one without room."""
    contexts = bench.contexts()
    list(bench.steps(contexts[0]))
    found: list[Step] = []
    for number, length in enumerate(contexts):
        progress(f"{length} tokens", number, len(contexts))
        found += bench.steps(length)
    progress("done", len(contexts), len(contexts))
    limits = bench.limits
    return attrs.evolve(
        fit(found), places=limits.free, rows=limits.rows, tokens=limits.tokens, chunks=limits.chunks,
        context=limits.context,
    )  # fmt: skip


# --- fitting ---------------------------------------------------------------------------------------------------


def fit(steps: Sequence[Step]) -> StepProfile:
    """Return the terms, none negative, whose sums are nearest to the times of *steps*, by squares of relative errors.

    Relative to what the sums say themselves, found round by round: relative to the times, those that happened to be
    short would count more, and the sums be too small.
    """
    profile = _fitted(steps, [step.seconds for step in steps])
    for _ in range(ROUNDS - 1):
        profile = _fitted(steps, [_said(profile, step) for step in steps])
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


def _said(profile: StepProfile, step: Step) -> float:
    return profile.seconds(step.rows, step.prompt, step.context, step.pairs, prompts=step.prompts)


def _judged(profile: StepProfile, steps: Sequence[Step]) -> StepProfile:
    """Return *profile* with how well it explains *steps*."""
    mean = statistics.fmean(step.seconds for step in steps)
    said = [_said(profile, step) for step in steps]
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
