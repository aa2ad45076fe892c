"""What was seen, as Prometheus reads it: its text format, or OpenMetrics.

Names and meanings are vLLM's where vLLM has them, so that its dashboards and alerts fit; what is llmos's own begins
with ``llmos_``.  prometheus-client writes both formats, from a registry of its own each time: nothing is global.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.exposition import ALLOWUTF8

from llmos_observability.devices import devices
from llmos_observability.measures import BOUNDS, STEP_BOUNDS, Histogram, ModelSeries, Series

OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OWNER = ("model_name", "tenant")
RUNNING = frozenset(("running", "stalled"))
_Rows = Iterable[tuple[tuple[str, ...], float]]

HELP: Mapping[str, str] = {
    "vllm:time_to_first_token_seconds": "Time from acceptance to the first token, in seconds.",
    "vllm:inter_token_latency_seconds": "Time between two tokens of a task, in seconds.",
    "vllm:e2e_request_latency_seconds": "Time from acceptance to the end of a task that ended well, in seconds.",
    "vllm:request_queue_time_seconds": "Time from acceptance to the first step, in seconds.",
    "vllm:request_prefill_time_seconds": "Time from the first step to the first token, in seconds.",
    "vllm:request_decode_time_seconds": "Time from the first token to the end, in seconds.",
    "vllm:request_prompt_tokens": "Prompt tokens of a task.",
    "vllm:request_generation_tokens": "Tokens that a task generated.",
    "vllm:iteration_tokens_total": "Tokens of a step: prompt tokens computed and tokens generated.",
    "llmos_step_seconds": "Time that a step took, in seconds.",
    "llmos_step_rows": "Tasks of a step.",
}
"""What each histogram measures."""


@attrs.frozen
class Seen:
    """What an observer counted."""

    series: Mapping[tuple[str, str], Series]
    """By model and tenant."""
    models: Mapping[str, ModelSeries]
    live: Counter[tuple[str, str, str]]
    """Tasks that have not ended, by model, tenant and state."""


def expose(accept: str, seen: Seen, facts: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return a content type that *accept* takes, and in it what was *seen* with the kernel's own *facts*."""
    registry = CollectorRegistry()
    registry.register(_Collector(lambda: _families(seen, facts)))
    ProcessCollector(registry=registry)
    if OPENMETRICS in accept:
        # Every name here is a plain one.  By default prometheus-client 0.26 writes `_` for the colon, in samples alone.
        content: bytes = openmetrics.generate_latest(registry, escaping=ALLOWUTF8)  # type: ignore[no-untyped-call]
        return openmetrics.CONTENT_TYPE_LATEST, content
    return TEXT, generate_latest(registry)


@attrs.frozen(eq=False)
class _Collector:
    """What prometheus-client calls a collector."""

    collect: Callable[[], Iterable[Metric]]


def _families(seen: Seen, facts: Mapping[str, Any]) -> Iterator[Metric]:
    yield from _waiting(seen)
    yield from _counters(seen.series)
    for name in BOUNDS:
        yield _histogram(name, OWNER, ((labels, one.histograms[name]) for labels, one in seen.series.items()))
    for name in STEP_BOUNDS:
        yield _histogram(name, OWNER[:1], (((model,), one.histograms[name]) for model, one in seen.models.items()))
    yield from _models(seen.models, facts["models"])
    yield from _kernel(facts["stats"])
    yield from devices()


# --- tasks -------------------------------------------------------------------------------------------------------


def _waiting(seen: Seen) -> Iterator[Metric]:
    running = Counter(dict.fromkeys(seen.series, 0))
    waiting = running.copy()
    for (model, tenant, state), tasks in seen.live.items():
        (running if state in RUNNING else waiting)[model, tenant] += tasks
    yield _gauge("vllm:num_requests_running", "Tasks that have a place at the model.", OWNER, running.items())
    yield _gauge("vllm:num_requests_waiting", "Tasks that wait for a place.", OWNER, waiting.items())
    yield _gauge("llmos_tasks", "Tasks that have not ended, by state.", (*OWNER, "state"), seen.live.items())


def _counters(series: Mapping[tuple[str, str], Series]) -> Iterator[Metric]:
    own: tuple[tuple[str, str, Callable[[Series], int]], ...] = (
        ("vllm:prompt_tokens", "Prompt tokens that were computed or found in the prefix cache.", lambda s: s.prompt),
        ("vllm:generation_tokens", "Tokens that were generated.", lambda s: s.generated),
        ("vllm:prefix_cache_queries", "Prompt tokens that were looked for in the prefix cache.", lambda s: s.prompt),
        ("vllm:prefix_cache_hits", "Prompt tokens that were found in the prefix cache.", lambda s: s.cached),
        ("vllm:num_preemptions", "Times that a running task lost its place.", lambda s: s.preempted),
    )
    for name, what, count in own:
        yield _counter(name, what, OWNER, ((labels, count(one)) for labels, one in series.items()))
    ended = [((*labels, reason), n) for labels, one in series.items() for reason, n in one.finished.items()]
    failed = [((*labels, error), n) for labels, one in series.items() for error, n in one.failures.items()]
    yield _counter("vllm:request_success", "Tasks that ended, by reason.", (*OWNER, "finished_reason"), ended)
    yield _counter("llmos_task_failures", "Tasks that failed, by class of error.", (*OWNER, "error"), failed)


# --- models and the kernel ---------------------------------------------------------------------------------------


def _models(models: Mapping[str, ModelSeries], loaded: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    label, used = OWNER[:1], []
    for facts in loaded:
        slots = (facts["executor"] or {}).get("slots")
        if slots:
            used.append(((facts["name"],), facts["executor"].get("slots_used", 0) / slots))
    present = [((facts["name"],), 1.0) for facts in loaded]
    yield _gauge("vllm:kv_cache_usage_perc", "Share of the KV cache's slots that is used.", label, used)
    yield _gauge("llmos_model_loaded", "1 for each model that is in memory.", label, present)
    loads = [((model,), one.loads) for model, one in models.items()]
    failures = [((model,), one.load_failures) for model, one in models.items()]
    yield _counter("llmos_model_loads", "Times that a model was loaded.", label, loads)
    yield _counter("llmos_model_load_failures", "Times that a model could not be loaded.", label, failures)


def _kernel(stats: Mapping[str, Any]) -> Iterator[Metric]:
    for name, what in (("handles", "Handles"), ("ports", "Ports"), ("processes", "Processes")):
        yield _gauge(f"llmos_{name}", f"{what} that are open at the kernel.", (), [((), stats[name])])
    for key, what in (("used", "Bytes of weights on a device."), ("limit", "Bytes of weights that may be there.")):
        rows = [((device,), facts[key]) for device, facts in stats["devices"].items()]
        yield _gauge(f"llmos_device_{key}_bytes", what, ("device",), rows)
    dropped = [((), stats["events_dropped"])]
    yield _counter("llmos_events_dropped", "Events that observers were too slow for.", (), dropped)


# --- families ----------------------------------------------------------------------------------------------------


def _gauge(name: str, what: str, labels: tuple[str, ...], rows: _Rows) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _counter(name: str, what: str, labels: tuple[str, ...], rows: _Rows) -> Metric:
    family = CounterMetricFamily(name, what, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _histogram(name: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, HELP[name], labels=labels)
    for values, one in rows:
        family.add_metric(values, list(_cumulative(one)), one.total)
    return family


def _cumulative(one: Histogram) -> Iterator[tuple[str, float]]:
    reached = 0
    for bound, count in zip((*one.bounds, float("inf")), one.counts, strict=True):
        reached += count
        yield ("+Inf" if bound == float("inf") else str(bound)), reached
