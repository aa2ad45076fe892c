"""Tasks that lose their place are measured and traced as often as their scheduler took it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmos.testing import EchoBackend, FirstCome, echo_spec
from llmos_kernel import Done, Kernel, KernelConfig, Plan, Scheduler, Task, hookimpl
from llmos_kernel.contracts import Limits
from llmos_observability.metrics import Metrics
from llmos_observability.spans import Spans
from llmos_observability.traces import Traces
from plugins.observability.tests.scraping import facts, named, samples


class Swapping(FirstCome):
    """Takes the place of every task once, after its first token, and gives it back."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []

    def plan(self, now: float, limits: Limits) -> Plan:
        """Take a place, or plan as usual."""
        for view in self._views.values():
            if view.state == "running" and view.generated and view.id not in self.taken:
                self.taken.append(view.id)
                return Plan(preempt=((view.id, "swap"),))
        return super().plan(now, limits)


class SwappingPlugin:
    """Brings one."""

    name = "fifo"

    def __init__(self) -> None:
        self.scheduler = Swapping()

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> Scheduler:
        """Return it."""
        return self.scheduler


def test_preemptions_agree() -> None:
    """The counter, the spans and the scheduler have the same number; nothing else is counted twice for it."""
    spans, metrics, brought = InMemorySpanExporter(), Metrics({}), SwappingPlugin()
    observers = (("metrics", metrics), ("traces", Traces({}, lambda: Spans(SimpleSpanProcessor(spans)))))
    kernel = Kernel(KernelConfig(models=[echo_spec("echo")]), [EchoBackend(rows=4), brought, *observers])
    with kernel:
        process = kernel.attach()
        handles = [process.schedule(Task("generate", "echo", "one two three four")) for _ in range(20)]
        ends = [process.recv(handle).body for handle in handles]
        process.close()
        kernel.stop()
    found = samples(metrics.llmos_metrics("", facts()))
    named_tasks = [dict(span.attributes or {}).get("llmos.task.id") for span in spans.get_finished_spans()]
    told = [int(str(task)) for task in named_tasks if task is not None]
    lost = [span for span in spans.get_finished_spans() if span.name == "preempted"]

    assert all(isinstance(end, Done) for end in ends)
    assert sorted(handle.id for handle in handles) == sorted(brought.scheduler.taken) == sorted(told)
    assert ({(): 20}, 20) == (named(found, "vllm:num_preemptions_total"), len(lost))
    assert {(): 80} == named(found, "vllm:generation_tokens_total")
    assert {(): 60} == named(found, "vllm:inter_token_latency_seconds_count")
