"""What was counted and measured so far: sums and histograms per model and tenant.

Numbers are kept as plain integers and lists, because an observer adds to them for every step of every model;
`llmos_observability.exposition` turns them into what Prometheus reads, when it asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

import attrs

OTHER = "other"
"""The label of whoever came after all labels were given away."""
_TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5)
_REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_FIRST = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
_BETWEEN = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
BOUNDS: Mapping[str, tuple[float, ...]] = {
    "vllm:time_to_first_token_seconds": _FIRST,
    "vllm:inter_token_latency_seconds": _BETWEEN,
    "vllm:e2e_request_latency_seconds": _REQUEST,
    "vllm:request_queue_time_seconds": _REQUEST,
    "vllm:request_prefill_time_seconds": _REQUEST,
    "vllm:request_decode_time_seconds": _REQUEST,
    "vllm:request_prompt_tokens": _TOKENS,
    "vllm:request_generation_tokens": _TOKENS,
}
"""The histograms of a model and a tenant, with the upper bounds of their buckets: vLLM's, so that dashboards fit."""
STEP_BOUNDS: Mapping[str, tuple[float, ...]] = {
    "vllm:iteration_tokens_total": (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0),
    "llmos_step_seconds": _FIRST[:18],
    "llmos_step_rows": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0),
}
"""The histograms of a model's steps."""


@attrs.define
class Histogram:
    """How many values there were up to each bound, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = attrs.field(init=False)
    """Per bucket, not cumulative; the last one is of what is beyond all bounds."""
    total: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float, times: int = 1) -> None:
        """Note that *value* was measured so many *times*."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def copy(self) -> Histogram:
        """Return another one with the same numbers."""
        other = Histogram(self.bounds)
        other.counts, other.total = list(self.counts), self.total
        return other


@attrs.define
class Series:
    """What is known of the tasks of one tenant at one model."""

    prompt: int = 0
    """Prompt tokens of tasks that were computed, those from the prefix cache included."""
    cached: int = 0
    """How many of those came from the prefix cache."""
    generated: int = 0
    preempted: int = 0
    """How often a running task lost its place."""
    finished: Counter[str] = attrs.field(factory=Counter)
    """Tasks that ended, by vLLM's reasons: ``stop``, ``length``, ``abort``, ``error``, or what the backend said."""
    failures: Counter[str] = attrs.field(factory=Counter)
    """Tasks that failed, by the class of their error."""
    histograms: dict[str, Histogram] = attrs.field(
        factory=lambda: {name: Histogram(bounds) for name, bounds in BOUNDS.items()}
    )

    def copy(self) -> Series:
        """Return another one with the same numbers."""
        histograms = {name: one.copy() for name, one in self.histograms.items()}
        return attrs.evolve(self, finished=self.finished.copy(), failures=self.failures.copy(), histograms=histograms)


@attrs.define
class ModelSeries:
    """What is known of a model, whoever uses it."""

    loads: int = 0
    load_failures: int = 0
    histograms: dict[str, Histogram] = attrs.field(
        factory=lambda: {name: Histogram(bounds) for name, bounds in STEP_BOUNDS.items()}
    )

    def copy(self) -> ModelSeries:
        """Return another one with the same numbers."""
        return attrs.evolve(self, histograms={name: one.copy() for name, one in self.histograms.items()})


@attrs.define
class Labels:
    """Gives labels away until there are *most*; whoever comes later is `OTHER`.

    A label is for ever, so that a series never changes whose it is.
    """

    most: int
    _given: set[str] = attrs.field(factory=set, init=False)

    def of(self, name: str) -> str:
        """Return the label of *name*."""
        if name in self._given:
            return name
        if len(self._given) < self.most and name != OTHER:
            self._given.add(name)
            return name
        return OTHER

    def __contains__(self, name: str) -> bool:
        return name in self._given
