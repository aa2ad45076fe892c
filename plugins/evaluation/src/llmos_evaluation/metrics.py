"""What is measured: how good the answers are, how likely the right ones were, and how fast all went."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llmos_evaluation import bootstrap, overlap
from llmos_evaluation.corpus import BLEU, BLEU_ZH, CHRF, Corpus
from llmos_evaluation.items import Item
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.loader import nearest


@attrs.frozen(kw_only=True)
class Figure:
    """One measured quantity."""

    title: str
    unit: str = ""
    value: float
    low: float | None = None
    """Lower bound of the interval that covers 95 of 100 resamples; None where there is none."""
    high: float | None = None
    n: int
    """Records that it is of."""
    larger: bool = True
    """Whether larger is better."""
    p50: float | None = None
    p95: float | None = None


@attrs.frozen(kw_only=True)
class Metric:
    """A quantity that is a ratio of two sums over the records."""

    name: str
    title: str
    part: Callable[[Item], bootstrap.Part | None]
    """What a record gives to the two sums; None where it does not count."""
    finish: Callable[[float], float] = float
    """What is made of the ratio."""
    unit: str = ""
    larger: bool = True
    likelihood: bool = False
    """Whether it is of the probabilities of what would be right, and not of answers."""
    percentiles: bool = False
    """Whether the median and the 95th percentile of the records are told."""
    corpus: Corpus | None = None
    """What computes it of all records together, where it is no ratio of sums."""

    def score(self, item: Item) -> float | None:
        """Return what it is of one record alone; None where the record does not count."""
        part = self.part(item)
        return None if part is None or not part[1] else self.finish(part[0] / part[1])

    def figure(self, items: Sequence[Item], seed: int = bootstrap.SEED) -> Figure:
        """Return what it is of all *items*."""
        parts = [part for item in items if (part := self.part(item)) is not None]
        found = Figure(title=self.title, unit=self.unit, value=math.nan, n=len(parts), larger=self.larger)
        if self.corpus is not None and parts:
            value, low, high = self.corpus.figure(items)
            return attrs.evolve(found, value=value, low=low, high=high)
        if not any(part[1] for part in parts):
            return attrs.evolve(found, value=0.0, n=0)
        low, high = bootstrap.interval(parts, self.finish, seed)
        found = attrs.evolve(found, value=self.finish(bootstrap.ratio(parts)), low=low, high=high)
        if not self.percentiles:
            return found
        scores = sorted(score for item in items if (score := self.score(item)) is not None)
        return attrs.evolve(found, p50=percentile(scores, 50), p95=percentile(scores, 95))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest of the *ordered* values that so many per cent are not above (nearest rank)."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def scored(name: str, title: str, score: Callable[[Item], float], **more: Any) -> Metric:  # noqa: ANN401 - Metric's own
    """Return the metric that is the mean of *score*, from 0 to 1, in per cent; a record that failed has 0."""

    def part(item: Item) -> bootstrap.Part:
        return (0.0 if item.error is not None else 100 * score(item), 1.0)

    return Metric(name=name, title=title, unit="%", part=part, **more)


def _best(name: str, title: str, compare: Callable[[str, str], float]) -> Metric:
    return scored(name, title, lambda item: max(compare(item.said, one) for one in item.expected))


def _of_corpus(title: str, corpus: Corpus) -> Metric:
    def part(item: Item) -> bootstrap.Part:
        return (corpus.sentence(item), 1.0)

    return Metric(name=corpus.name, title=title, part=part, corpus=corpus)


def _likelihood(item: Item) -> bootstrap.Part | None:
    return None if item.likelihood is None else (item.likelihood[0], float(item.likelihood[1]))


METRICS: Mapping[str, Metric] = {
    one.name: one
    for one in (
        _best("exact", "exact match", overlap.exact),
        _best("exact-normalized", "exact match without case, punctuation and articles", overlap.exact_normalized),
        _best("f1", "F1 of words", overlap.f1),
        _best("rouge-1", "ROUGE-1", lambda said, right: overlap.rouge_n(said, right, 1)),
        _best("rouge-2", "ROUGE-2", lambda said, right: overlap.rouge_n(said, right, 2)),
        _best("rouge-l", "ROUGE-L", overlap.rouge_l),
        _of_corpus("BLEU", BLEU),
        _of_corpus("BLEU of Chinese", BLEU_ZH),
        _of_corpus("chrF", CHRF),
        Metric(
            name="perplexity", title="perplexity of what is expected", part=_likelihood,
            finish=lambda mean: math.exp(min(-mean, 700.0)), larger=False, likelihood=True,
        ),
    )
}  # fmt: skip
"""What a suite can name."""


def _time(name: str, title: str, seconds: Callable[[Item], float], count: Callable[[Item], float]) -> Metric:
    def part(item: Item) -> bootstrap.Part | None:
        return (1e3 * seconds(item), count(item)) if item.usage and count(item) else None

    return Metric(name=name, title=title, unit="ms", part=part, larger=False, percentiles=True)


SPEED: Sequence[Metric] = (
    _time("first-token", "time to first token", lambda item: item.first, lambda item: 1.0),
    _time("between-tokens", "time between tokens", lambda item: item.usage["decode"], lambda item: float(item.pauses)),
    _time("total-time", "time of an answer", lambda item: item.total, lambda item: 1.0),
)
"""What is measured of every answer."""


def throughput(items: Iterable[Item], seconds: float) -> Figure:
    """Return the tokens of all answers over the *seconds* that they took together."""
    made = [int(item.usage["generated"]) for item in items if item.usage]
    rate = sum(made) / seconds if seconds > 0 else 0.0
    return Figure(title="throughput", unit="tokens/s", value=rate, n=len(made))


def check_metrics(names: Sequence[str], type: str) -> tuple[str, ...]:
    """Return *names*, each once.  Raises `InvalidArgument` for one that there is not, or not for such tasks."""
    known = [*METRICS] if type != "classify" else ["exact", "exact-normalized"]
    for name in names:
        if name not in known:
            expected = f"one of {', '.join(known)}"
            message = f"metric {name!r} is none for a suite of type {type}, expected {expected}"
            near = nearest(str(name), known)
            raise InvalidArgument(f"{message}{near}", field="metrics", value=name, expected=expected)
    return tuple(dict.fromkeys(names))
