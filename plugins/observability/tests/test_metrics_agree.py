"""What is measured is what clients saw: the same tasks, counted on both sides."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Done, Failed, Kernel, KernelConfig, Task, Usage
from llmos_kernel.api import Credentials
from llmos_kernel.contracts import Backend, Emit, Executor, Footprint, Limits, ModelSpec, Result, RunExecutor
from llmos_observability.metrics import Metrics
from plugins.observability.tests.scraping import facts, named, samples

OWNER = ("model_name", "tenant")
TENANTS = ("acme", "globex", "initech")
TIMES: dict[str, Callable[[Usage], float]] = {
    "e2e_request_latency_seconds": lambda usage: usage.queued + usage.prefill + usage.decode,
    "request_queue_time_seconds": lambda usage: usage.queued,
    "request_prefill_time_seconds": lambda usage: usage.prefill,
    "request_decode_time_seconds": lambda usage: usage.decode,
    "request_prompt_tokens": lambda usage: usage.prompt,
    "request_generation_tokens": lambda usage: usage.generated,
}
"""Histograms of tasks that ended well, each with what a client knows of it."""

Ends = list[tuple[tuple[str, str], Done | Failed]]
"""The model, the tenant and the terminal event of every task."""


class Talker(RunExecutor):
    """Says the words of its input, one event each; it is not stepped."""

    @property
    def limits(self) -> Limits:
        """Four at once."""
        return Limits(4, 4)

    def run(self, id: int, task: Task, emit: Emit) -> Any:
        """Emit the words."""
        for number, word in enumerate(str(task.input).split()):
            emit(Result(id, tokens=(number,), text=word))


class TalkerBackend(Backend):
    """Brings `Talker`."""

    name = "talker"

    def measure(self, spec: ModelSpec) -> Footprint:
        """Nothing."""
        return Footprint("none", 0)

    def load(self, spec: ModelSpec) -> Executor:  # type: ignore[override]
        """Return a talker."""
        return Talker()


@pytest.fixture
def observer() -> Metrics:
    """The one that measures."""
    return Metrics({})


@pytest.fixture
def kernel(observer: Metrics) -> Iterator[Kernel]:
    """A kernel with two stepped models, of which one yields three tokens a step, and one that is run."""
    models = (echo_spec("echo"), echo_spec("burst", options={"burst": 3}), ModelSpec(name="talk", backend="talker"))
    plugins = (EchoBackend(rows=4), TalkerBackend(), FirstComePlugin(), ("metrics", observer))
    with Kernel(KernelConfig(models=models, timeout=60.0), plugins=plugins) as running:
        yield running


def run_all(kernel: Kernel) -> Ends:
    """Run some hundred tasks of several tenants that end in every way; return what their clients saw."""
    ends: Ends = []
    for number, tenant in enumerate(TENANTS):
        process = kernel.attach(Credentials(tenant, tenant))
        handles = [process.schedule(task) for task in tasks(20 + 10 * number)]
        for index, handle in enumerate(handles):
            if index % 11 == 5:
                handle.cancel()
        for handle in handles:
            ends.append(((handle.model, tenant), process.recv(handle).body))
        process.close()
    return ends


def tasks(count: int) -> Iterator[Task]:
    """Yield tasks that end well, by their length, by an error before they run, and by no time left."""
    for index in range(count):
        text = " ".join(f"w{index}" for _ in range(1 + index % 7))
        yield Task("generate", "echo", text)
        yield Task("generate", "burst", f"{text} and three more", params={"max_tokens": 2})
        yield Task("generate", "talk", text)
        yield Task("embed", "echo", text)
        if index % 5 == 0:
            yield Task("generate", "echo", text, params={"colour": "red"})
        if index % 7 == 0:
            yield Task("generate", "burst", text, deadline=0.0)


def test_everything_agrees(kernel: Kernel, observer: Metrics) -> None:
    """Every counter, and the count and the sum of every histogram, is what clients count from their terminal events."""
    ends = run_all(kernel)
    kernel.stop()  # every event is heard before it returns
    found = samples(observer.llmos_metrics(accept="", facts=facts()))
    wanted = expected(ends)

    assert len(ends) > 300
    assert {"stop", "length", "abort", "error"} <= {reason for *_, reason in wanted["request_success_total"]}
    for name in ("prompt_tokens", "generation_tokens", "prefix_cache_queries", "prefix_cache_hits"):
        assert wanted[f"{name}_total"] == named(found, f"vllm:{name}_total", *OWNER)
    assert wanted["request_success_total"] == named(found, "vllm:request_success_total", *OWNER, "finished_reason")
    assert wanted["failures"] == named(found, "llmos_task_failures_total", *OWNER, "error")
    for name in (*TIMES, "time_to_first_token_seconds", "inter_token_latency_seconds"):
        assert wanted[f"{name}_count"] == named(found, f"vllm:{name}_count", *OWNER)
        assert wanted[f"{name}_count"] == top(found, f"vllm:{name}_bucket")
        sums, slack = named(found, f"vllm:{name}_sum", *OWNER), 0.01 if name.startswith("inter") else 1e-9
        for owner, total in wanted[f"{name}_sum"].items():
            assert math.isclose(total, sums[owner], rel_tol=slack, abs_tol=slack), (name, owner)


def expected(ends: Ends) -> dict[str, dict[Any, float]]:
    """Return what the terminal events come to."""
    sums: dict[str, dict[Any, float]] = defaultdict(lambda: defaultdict(float))
    tokens = ("prompt_tokens_total", "generation_tokens_total", "prefix_cache_queries_total", "prefix_cache_hits_total")
    times = (*TIMES, "time_to_first_token_seconds", "inter_token_latency_seconds")
    for owner, end in ends:
        for name in (*tokens, *(f"{name}_count" for name in times)):
            sums[name][owner] += 0
        sums["request_success_total"][*owner, reason_of(end)] += 1
        if isinstance(end, Failed) and reason_of(end) == "error":
            sums["failures"][*owner, type(end.error).__name__] += 1
        for name, value in figures(end).items():
            sums[name][owner] += value
    return sums


def figures(end: Done | Failed) -> dict[str, float]:
    """Return what one task adds."""
    usage, found = end.usage, {"generation_tokens_total": float(end.usage.generated)}
    if isinstance(end, Done):
        found |= {f"{name}_count": 1 for name in TIMES}
        found |= {f"{name}_sum": value(usage) for name, value in TIMES.items()}
    if isinstance(end, Done) or usage.generated:
        found |= dict.fromkeys(("prompt_tokens_total", "prefix_cache_queries_total"), usage.prompt)
        found["prefix_cache_hits_total"] = usage.cached
    if usage.generated:
        found |= {"time_to_first_token_seconds_count": 1, "inter_token_latency_seconds_count": usage.generated - 1}
        found["time_to_first_token_seconds_sum"] = usage.queued + usage.prefill
    if usage.generated > 1 and isinstance(end, Done):
        found["inter_token_latency_seconds_sum"] = usage.decode
    return found


def reason_of(end: Done | Failed) -> str:
    """Return vLLM's reason."""
    if isinstance(end, Done):
        return end.finish
    return "abort" if type(end.error).__name__ == "Cancelled" else "error"


def top(found: Any, name: str) -> dict[tuple[str, ...], float]:
    """Return the last bucket of each histogram."""
    buckets = named(found, name, *OWNER, "le")
    return {(model, tenant): value for (model, tenant, bound), value in buckets.items() if bound == "+Inf"}
