"""What the observer ``traces`` does: a span per task, with its phases as children, for OpenTelemetry.

A task's spans are made when it ends, from the kernel's own figures, so a task that never ends leaves nothing behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llmos import trace_context
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.services import Event

OPERATIONS = {"generate": "text_completion", "chat": "chat", "embed": "embeddings"}
"""What the conventions call a kind of task; the others keep their own names."""
PHASES = ("queued", "prefill", "decode")
HELD = 64
"""Most preemptions of a task that are told."""
LIVE = 2**16
"""Most tasks whose preemptions are remembered."""
PATIENCE = 2.0
"""Seconds that a collector has to take what is left when the kernel stops."""
_NS = 1_000_000_000


class Spans:
    """Makes spans.  One object per kernel; *processor* takes them, by default in batches to an OTLP collector."""

    def __init__(
        self, processor: SpanProcessor | None = None, now: Callable[[], int] = time.time_ns, patience: float = PATIENCE
    ) -> None:
        self._now, self._offset = now, 2**63
        self._held: dict[int, list[float]] = {}
        """When each task lost its place, had one again, lost it again ..."""
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._exporter: Any = None
        self._patience = patience
        if processor is None:
            self._exporter = _exporter()
            processor = BatchSpanProcessor(self._exporter)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("llmos_observability")
        self._open = True

    def hear(self, event: Event) -> None:
        """Remember a preemption, or tell of a task that ended."""
        # An event is heard late, never early: the smallest difference between the clocks is the truest one.
        self._offset = min(self._offset, self._now() - round(event.at * _NS))
        what, fields = event.name, event.fields
        if not self._open or not (fields or what == "kernel.stopped"):
            return
        if what in ("task.preempted", "task.resumed"):
            self._turn(fields["task"], event.at, lost=what == "task.preempted")
        elif what in ("task.done", "task.failed", "task.cancelled"):
            self._tell(fields, event.at)
        elif what == "kernel.stopped":
            self._open = False
            self._close()

    def _close(self) -> None:
        """Send what is left; a collector that does not answer is not waited for longer than the patience."""
        if self._exporter is None:
            self._provider.shutdown()
            return
        timer = threading.Timer(self._patience, self._exporter.shutdown)  # it gives up trying again
        timer.start()
        self._provider.shutdown()
        timer.cancel()
        timer.join()

    def _turn(self, task: int, at: float, *, lost: bool) -> None:
        held = self._held.get(task, [])
        if len(held) % 2 != lost and len(held) < 2 * HELD and (held or len(self._held) < LIVE):
            self._held.setdefault(task, held).append(at)

    def _tell(self, fields: Mapping[str, Any], end: float) -> None:
        kind, model, error = fields["kind"], fields["model"], fields["error"]
        operation = OPERATIONS.get(kind, kind)
        begin = end - sum(fields[phase] for phase in PHASES)
        span = self._tracer.start_span(
            f"{operation} {model}", _asker(fields), kind=SpanKind.INTERNAL, start_time=self._time(begin),
            attributes=_attributes(fields, operation),
        )  # fmt: skip
        if error:
            span.set_status(StatusCode.ERROR, error)
        parent = set_span_in_context(span)
        for name, start, stop in self._parts(fields, begin, end):
            child = self._tracer.start_span(name, parent, start_time=self._time(start))
            child.end(self._time(stop))
        span.end(self._time(end))

    def _parts(self, fields: Mapping[str, Any], begin: float, end: float) -> Iterator[tuple[str, float, float]]:
        """Yield name, begin and end of each phase that took time, and of each time without a place."""
        for phase in PHASES:
            if fields[phase] > 0:
                yield phase, begin, begin + fields[phase]
            begin += fields[phase]
        held = self._held.pop(fields["task"], [])
        for lost, back in zip(held[::2], [*held[1::2], end], strict=False):
            yield "preempted", lost, back

    def _time(self, at: float) -> int:
        return round(at * _NS) + self._offset


def _asker(fields: Mapping[str, Any]) -> Context:
    """Return the context of the span that the task belongs under; an empty one where nobody named one, or a wrong one.

    Whether spans are recorded is then the sampler's to say, which by default does as the asker did.
    """
    try:
        trace = trace_context(fields.get("trace", ""))
    except InvalidArgument:
        return Context()
    headers = dict(zip(("traceparent", "tracestate"), trace.split(" ", 1), strict=False))
    return TraceContextTextMapPropagator().extract(headers, Context())


def _attributes(fields: Mapping[str, Any], operation: str) -> dict[str, Any]:
    found = {
        "gen_ai.operation.name": operation, "gen_ai.provider.name": "llmos", "gen_ai.request.model": fields["model"],
        "gen_ai.usage.input_tokens": fields["prompt"], "gen_ai.usage.output_tokens": fields["generated"],
        "gen_ai.usage.cache_read.input_tokens": fields["cached"], "llmos.task.id": fields["task"],
        "llmos.tenant": fields["tenant"],
    }  # fmt: skip
    if fields["error"]:
        return found | {"error.type": fields["error"]}
    return found | {"gen_ai.response.finish_reasons": [fields.get("finish") or "stop"]}


def _resource() -> Resource:
    """Return what the spans are of: ``llmos``, unless OpenTelemetry's variables give another name."""
    resource = Resource.create()
    unnamed = str(resource.attributes[SERVICE_NAME]).startswith("unknown_service")
    return resource.merge(Resource({SERVICE_NAME: "llmos"})) if unnamed else resource


def _exporter() -> Any:  # noqa: ANN401 - a SpanExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - brings requests

    return OTLPSpanExporter()
