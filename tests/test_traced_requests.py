"""A program's own span, handed on with OpenTelemetry's own ``inject``, is the parent of the tasks that it asks for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import llmos
from llmos_observability.log import Log
from llmos_observability.spans import Spans
from llmos_observability.traces import Traces
from plugins.server.tests.serving import Site, serving

Headers = Mapping[str, str]


@contextmanager
def asking(sampler: Sampler = ALWAYS_ON) -> Iterator[tuple[Headers, SpanContext]]:
    """Be within a span of the program that asks; yield what OpenTelemetry injects, and the span's own numbers."""
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    with provider.get_tracer("caller").start_as_current_span("ask") as span:
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        yield headers, span.get_span_context()
    provider.shutdown()


class Watched:
    """A server, and what its observers told until it stopped."""

    def __init__(self) -> None:
        self.exporter, self.lines = InMemorySpanExporter(), io.StringIO()
        self._traces = Traces({}, lambda: Spans(SimpleSpanProcessor(self.exporter)))

    @contextmanager
    def serving(self) -> Iterator[Site]:
        """Serve while the block runs."""
        observers = (("traces", self._traces), ("log", Log({}, self.lines)))
        with serving(*observers) as site:
            yield site

    def tasks(self) -> list[ReadableSpan]:
        """Return the spans of tasks, without those of their phases."""
        return [span for span in self.exporter.get_finished_spans() if "llmos.task.id" in (span.attributes or {})]

    def logged(self) -> set[str]:
        """Return the traces that lines on tasks name."""
        told = [json.loads(line) for line in self.lines.getvalue().splitlines()]
        return {line["trace_id"] for line in told if line["event"].startswith("task.")}


def over_http(site: Site, headers: Headers) -> None:
    """Ask by the API of OpenAI."""
    site.chat("one two", extra_headers=dict(headers))


def from_elsewhere(site: Site, headers: Headers) -> None:
    """Ask as a remote client."""
    with llmos.Client(site.url) as client:
        client.load_model("echo").chat("one two", trace=headers)


def from_here(site: Site, headers: Headers) -> None:
    """Ask in the kernel's own process."""
    with llmos.Client(kernel=site.kernel) as client:
        client.load_model("echo").chat("one two", trace=headers)


each_way = pytest.mark.parametrize("ask", [over_http, from_elsewhere, from_here])
Ask = Callable[[Site, Headers], None]


@each_way
def test_the_task_is_a_child_of_whoever_asked(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way it came, its span is in the trace, below the span; and the log names the trace."""
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    watched = Watched()
    with watched.serving() as site, asking() as (headers, parent):
        ask(site, headers)
    (span,) = watched.tasks()

    assert span.parent is not None
    assert (parent.trace_id, parent.span_id) == (span.context.trace_id, span.parent.span_id)
    assert {f"{parent.trace_id:032x}"} == watched.logged()


@each_way
def test_who_does_not_record_is_not_recorded(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampled flag is respected by the sampler that is the default."""
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    watched = Watched()
    with watched.serving() as site, asking(ALWAYS_OFF) as (headers, parent):
        ask(site, headers)

    assert () == watched.exporter.get_finished_spans()
    assert {f"{parent.trace_id:032x}"} == watched.logged()


def test_who_has_no_span_hands_on_nothing() -> None:
    """Without a current span there is nothing to inject, and the task has a trace of its own."""
    watched, headers = Watched(), dict[str, str]()
    TraceContextTextMapPropagator().inject(headers)
    with watched.serving() as site:
        from_elsewhere(site, headers)
    (span,) = watched.tasks()

    assert span.parent is None
