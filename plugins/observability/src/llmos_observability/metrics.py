"""The observer ``metrics``: counts and times every task, for Prometheus.

    observers = ["metrics"]

    [options."observer:metrics"]
    tenants = 100

A task is counted when it ends, from the kernel's own figures of it, so that what Prometheus sees is what clients saw.
Tokens, and the time between two of them, are counted step by step as long as the task runs; its end adds what was
missing.  Events that the kernel dropped, because observers fell behind, are missing for ever: their number is
``llmos_events_dropped_total``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import number
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Event
from llmos_observability.exposition import Seen, expose
from llmos_observability.measures import Labels, ModelSeries, Series

SOURCE = "observer:metrics"
WORDS = 32
"""Most reasons and most classes of errors that are told apart: plugins may invent some."""
LIVE = 2**18
"""Most tasks that are followed while they live; of one more, only the end is counted."""


@attrs.frozen(kw_only=True)
class Options:
    """What ``metrics`` can be told."""

    tenants: int = attrs.field(default=100, validator=number(0, 10_000))
    """Most tenants with figures of their own; those who come later are ``other`` together."""
    models: int = attrs.field(default=200, validator=number(0, 10_000))
    """The same for models."""


@attrs.define
class _Live:
    """A task that has not ended."""

    series: Series
    counted: int = 0
    """Tokens that steps told of."""
    last: float = 0.0
    """When the latest of them came."""
    spent: float = 0.0
    """Seconds between the first and the latest of them."""

    def step(self, made: int, at: float) -> None:
        """Count the tokens that one step made: they share the time since the latest ones."""
        between = self.series.histograms["vllm:inter_token_latency_seconds"]
        if self.counted:
            between.add((at - self.last) / made, made)
            self.spent += at - self.last
        elif made > 1:
            between.add(0.0, made - 1)
        self.counted += made
        self.last = at
        self.series.generated += made

    def end(self, fields: Mapping[str, Any]) -> None:
        """Count what no step told of: the last step's tokens, whose event comes later, or all of them."""
        generated = fields["generated"]
        missing = generated - max(1, self.counted)
        self.series.generated += generated - self.counted
        if generated:
            first = self.series.histograms["vllm:time_to_first_token_seconds"]
            first.add(fields["queued"] + fields["prefill"])
        if missing > 0:
            seconds = max(0.0, fields["decode"] - self.spent)
            self.series.histograms["vllm:inter_token_latency_seconds"].add(seconds / missing, missing)


class Metrics:
    """Measures a kernel.  One object per kernel; *config* holds `Options`.  Raises `ConfigError`."""

    api = 1

    def __init__(self, config: Mapping[str, Any]) -> None:
        options = read_options(Options, config, SOURCE)
        self._tenants, self._models = Labels(options.tenants), Labels(options.models)
        self._reasons, self._errors = Labels(WORDS), Labels(WORDS)
        self._series: dict[tuple[str, str], Series] = {}
        self._of_models: dict[str, ModelSeries] = {}
        self._live: dict[int, _Live] = {}
        self._lock = threading.Lock()
        self._hear: Mapping[str, Callable[[Mapping[str, Any], float], None]] = {
            "task.accepted": self._accepted, "task.preempted": self._preempted, "step": self._step,
            "task.done": self._done, "task.failed": self._failed, "task.cancelled": self._cancelled,
            "model.loaded": self._loaded, "model.failed": self._not_loaded,
        }  # fmt: skip

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Count it, if it is of a kind that counts and says what it must."""
        hear = self._hear.get(event.name)
        if hear is not None and event.fields:
            with self._lock:
                hear(event.fields, event.at)

    @hookimpl
    def llmos_metrics(self, accept: str, facts: Mapping[str, Any]) -> tuple[str, bytes]:
        """Return everything, or what the tenant of *facts* may see, in the format of Prometheus or of OpenMetrics."""
        whose = facts["tenant"]
        with self._lock:
            live: Counter[tuple[str, str, str]] = Counter()
            for (model, tenant, state), tasks in facts["tasks"].items():
                live[self._models.of(model), self._tenants.of(tenant), state] += tasks
            if whose is not None and whose not in self._tenants:
                whose = ""  # without a label of its own, its figures are not told apart from those of others
            series = {labels: one.copy() for labels, one in self._series.items() if whose in (None, labels[1])}
            models = {name: one.copy() for name, one in self._of_models.items()}
        live = Counter({labels: tasks for labels, tasks in live.items() if whose in (None, labels[1])})
        return expose(accept, Seen(series, models, live), facts)

    # --- tasks -----------------------------------------------------------------------------------------------------

    def _of(self, fields: Mapping[str, Any]) -> Series:
        labels = self._models.of(fields["model"]), self._tenants.of(fields["tenant"])
        return self._series.get(labels) or self._series.setdefault(labels, Series())

    def _accepted(self, fields: Mapping[str, Any], at: float) -> None:
        if len(self._live) < LIVE:
            self._live[fields["task"]] = _Live(self._of(fields))

    def _preempted(self, fields: Mapping[str, Any], at: float) -> None:
        self._of(fields).preempted += 1

    def _step(self, fields: Mapping[str, Any], at: float) -> None:
        tokens = fields.get("tokens", {})
        steps = self._of_model(fields).histograms
        steps["vllm:iteration_tokens_total"].add(fields["prompt"] + sum(tokens.values()))
        steps["llmos_step_seconds"].add(fields["seconds"])
        steps["llmos_step_rows"].add(fields["rows"])
        for id, made in tokens.items():
            live = self._live.get(id)
            if live is not None:  # it has not ended, and its beginning was heard
                live.step(made, at)

    def _done(self, fields: Mapping[str, Any], at: float) -> None:
        series = self._ended(fields, fields.get("finish") or "stop")
        _request(series, fields)

    def _failed(self, fields: Mapping[str, Any], at: float) -> None:
        self._ended(fields, "error").failures[self._errors.of(fields["error"])] += 1

    def _cancelled(self, fields: Mapping[str, Any], at: float) -> None:
        self._ended(fields, "abort")

    def _ended(self, fields: Mapping[str, Any], reason: str) -> Series:
        live = self._live.pop(fields["task"], None)
        series = self._of(fields)
        series.finished[self._reasons.of(reason)] += 1
        if fields["generated"] or not fields["error"]:  # else nobody knows whether its prompt was computed
            series.prompt += fields["prompt"]
            series.cached += fields["cached"]
        (live or _Live(series)).end(fields)
        return series

    # --- models ----------------------------------------------------------------------------------------------------

    def _of_model(self, fields: Mapping[str, Any]) -> ModelSeries:
        label = self._models.of(fields["model"])
        return self._of_models.get(label) or self._of_models.setdefault(label, ModelSeries())

    def _loaded(self, fields: Mapping[str, Any], at: float) -> None:
        self._of_model(fields).loads += 1

    def _not_loaded(self, fields: Mapping[str, Any], at: float) -> None:
        self._of_model(fields).load_failures += 1


def _request(series: Series, fields: Mapping[str, Any]) -> None:
    """Note how long a task took that ended well."""
    queued, prefill, decode = fields["queued"], fields["prefill"], fields["decode"]
    values = {
        "e2e_request_latency_seconds": queued + prefill + decode, "request_queue_time_seconds": queued,
        "request_prefill_time_seconds": prefill, "request_decode_time_seconds": decode,
        "request_prompt_tokens": fields["prompt"], "request_generation_tokens": fields["generated"],
    }  # fmt: skip
    for name, value in values.items():
        series.histograms[f"vllm:{name}"].add(value)
