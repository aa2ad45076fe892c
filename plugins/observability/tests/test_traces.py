"""A task's spans say how it went, and reach a collector."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Done, Kernel, KernelConfig, Task
from llmos_kernel.errors import ConfigError, PluginMissing
from llmos_kernel.services import Event
from llmos_observability.spans import Spans
from llmos_observability.traces import Traces

TASK = {"task": 7, "model": "tiny", "kind": "chat", "tenant": "acme"}
END = {
    **TASK,
    "prompt": 5,
    "cached": 2,
    "generated": 3,
    "queued": 1.0,
    "prefill": 2.0,
    "decode": 3.0,
    "finish": "length",
}


class Heard:
    """An observer with a clock that stands still and an exporter that keeps."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.observer = Traces({}, lambda: Spans(SimpleSpanProcessor(self.exporter), now=lambda: 100_000_000_000))

    def tell(self, name: str, at: float, **fields: Any) -> None:
        """Let something happen."""
        self.observer.llmos_event(event=Event(name, at, fields))

    def spans(self) -> dict[str, ReadableSpan]:
        """Return the spans by name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}


def times(span: ReadableSpan) -> tuple[float, float]:
    """Return begin and end, in seconds since 1970."""
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time / 1e9, span.end_time / 1e9


def test_a_task_and_its_phases() -> None:
    """One span for the task, one for each phase below it, one after the other."""
    heard = Heard()
    heard.tell("task.done", 50.0, **END, error="")
    spans = heard.spans()
    whole = spans["chat tiny"]

    assert (94.0, 100.0) == times(whole)
    assert {"queued": (94.0, 95.0), "prefill": (95.0, 97.0), "decode": (97.0, 100.0)} == {
        name: times(span) for name, span in spans.items() if name != "chat tiny"
    }
    assert {whole.context.span_id} == {span.parent.span_id for span in spans.values() if span.parent}
    assert {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "llmos", "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 3, "gen_ai.usage.cache_read.input_tokens": 2,
        "llmos.task.id": 7, "llmos.tenant": "acme", "gen_ai.response.finish_reasons": ("length",),
    } == dict(whole.attributes or {})  # fmt: skip


def test_a_task_that_failed_before_it_ran() -> None:
    """Its span has the class of the error, and the one phase that there was."""
    heard = Heard()
    heard.tell("task.failed", 50.0, **{**END, "generated": 0, "prefill": 0.0, "decode": 0.0}, error="Overloaded")
    whole = heard.spans()["chat tiny"]

    assert {"chat tiny", "queued"} == set(heard.spans())
    assert ("ERROR", "Overloaded") == (whole.status.status_code.name, (whole.attributes or {})["error.type"])


def test_times_without_a_place() -> None:
    """Each preemption is a span, from the loss of the place to its return, or to the end."""
    heard = Heard()
    for name, at in (
        ("resumed", 45.0),
        ("preempted", 46.0),
        ("preempted", 46.5),
        ("resumed", 47.0),
        ("preempted", 49.0),
    ):
        heard.tell(f"task.{name}", at, **TASK)
    heard.tell("task.cancelled", 50.0, **END, error="Cancelled")
    found = [times(span) for span in heard.exporter.get_finished_spans() if span.name == "preempted"]

    assert [(96.0, 97.0), (99.0, 100.0)] == found


def test_clocks() -> None:
    """Events that are heard late do not move the spans: the quickest one says how the clocks differ."""
    heard, late = Heard(), iter((100.0, 103.0))
    heard.observer = Traces({}, lambda: Spans(SimpleSpanProcessor(heard.exporter), now=lambda: round(next(late) * 1e9)))
    heard.tell("kernel.started", 50.0)
    heard.tell("task.done", 51.0, **END, error="")

    assert (95.0, 101.0) == times(heard.spans()["chat tiny"])


def test_options_that_are_wrong() -> None:
    """It has none: everything is OpenTelemetry's to be told."""
    with pytest.raises(ConfigError, match="observer:traces has no option"):
        Traces({"endpoint": "http://elsewhere"})


# --- whose trace it is -------------------------------------------------------------------------------------------

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = f"{PARENT[:-2]}00"
ODD = ["", "x", f"{PARENT}-", PARENT.upper(), f"ff{PARENT[2:]}", f"00-{'0' * 32}{PARENT[35:]}", 7, None]
"""What is no traceparent."""


def test_a_task_of_somebodys_trace() -> None:
    """Its span is a child of theirs, with their tracestate, and its phases are its own children."""
    heard = Heard()
    heard.tell("task.done", 50.0, **END, error="", trace=f"{PARENT} congo=t61rcWkgMzE")
    spans = heard.spans()
    whole = spans["chat tiny"]

    assert whole.parent is not None
    assert (0x00F067AA0BA902B7, True) == (whole.parent.span_id, whole.parent.is_remote)
    assert {0x4BF92F3577B34DA6A3CE929D0E0E4736} == {span.context.trace_id for span in spans.values()}
    assert {"congo=t61rcWkgMzE"} == {span.context.trace_state.to_header() for span in spans.values()}
    assert {whole.context.span_id} == {one.parent.span_id for one in spans.values() if one.parent and one is not whole}


@pytest.mark.parametrize("odd", ODD)
def test_a_trace_that_is_none(odd: object) -> None:
    """Is ignored: the task has a trace of its own."""
    heard = Heard()
    heard.tell("task.done", 50.0, **END, error="", trace=odd)
    whole = heard.spans()["chat tiny"]

    assert whole.parent is None
    assert 4 == len(heard.spans())


@pytest.mark.parametrize(
    ("sampler", "trace", "recorded"),
    [
        (None, PARENT, 4), (None, UNSAMPLED, 0), (None, "", 4), ("parentbased_always_off", PARENT, 4),
        ("parentbased_always_off", "", 0), ("always_on", UNSAMPLED, 4), ("always_off", PARENT, 0),
        ("traceidratio", UNSAMPLED, 4),
    ],
)  # fmt: skip
def test_the_sampler_decides(sampler: str | None, trace: str, recorded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default as the asker did; OpenTelemetry's variable names another one.  All of a task is kept, or nothing."""
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    if sampler is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    heard = Heard()
    heard.tell("task.done", 50.0, **END, error="", trace=trace)

    assert recorded == len(heard.spans())


EDITS = st.lists(st.tuples(st.integers(0, 56), st.integers(0, 2), st.text("019afAG-x", max_size=2)), max_size=2)


def edited(edits: list[tuple[int, int, str]]) -> str:
    """Return the traceparent with other letters at some places: more, fewer, or as many."""
    found = PARENT
    for place, count, letters in edits:
        found = found[:place] + letters + found[place + count :]
    return found


@given(st.builds(edited, EDITS) | st.text("0123456789abcdef-", max_size=60))
def test_never_a_wrong_parent(trace: str) -> None:
    """Whatever somebody wrote: the parent is the one that OpenTelemetry's own propagator reads, or there is none."""
    theirs = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": trace})).get_span_context()
    heard = Heard()
    heard.tell("task.done", 50.0, **END, error="", trace=trace)
    found = [span.parent for span in heard.exporter.get_finished_spans() if span.name == "chat tiny"]

    if not theirs.is_valid:
        assert [None] == found
    elif theirs.trace_flags.sampled:
        assert [(theirs.trace_id, theirs.span_id)] == [(one.trace_id, one.span_id) for one in found if one]
    else:
        assert [] == found


# --- a collector -------------------------------------------------------------------------------------------------


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Take spans over OTLP as a collector does; yield its address and what came."""
    taken: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, the kernel stops all the same, without trying for long, and no thread is left."""
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    observer = Traces({}, lambda: Spans(patience=0.1))
    with Kernel(
        KernelConfig(models=[echo_spec("echo")]), [EchoBackend(), FirstComePlugin(), ("t", observer)]
    ) as kernel:
        process = kernel.attach()
        process.recv(process.schedule(Task("generate", "echo", "one two")))
        process.close()
        left = kernel.stop(timeout=5.0)

    assert () == left
    assert before == threading.active_count()


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's variables say where; when the kernel stops, everything has been sent and no thread is left."""
    before = threading.active_count()
    with collector() as (address, taken):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "our-models")
        with Kernel(KernelConfig(models=[echo_spec("echo")]), [EchoBackend(), FirstComePlugin(), Traces]) as kernel:
            process = kernel.attach()
            ends = [process.recv(process.schedule(Task("generate", "echo", "one two"))).body for _ in range(5)]
            process.close()
        received = [one for request in taken for one in request.resource_spans]

    spans = [span for one in received for scope in one.scope_spans for span in scope.spans]
    assert all(isinstance(end, Done) for end in ends)
    assert 5 == [span.name for span in spans].count("text_completion echo")
    assert 5 == len({span.trace_id for span in spans})
    assert {"our-models"} == {
        attribute.value.string_value for one in received for attribute in one.resource.attributes
        if attribute.key == "service.name"
    }  # fmt: skip
    assert before == threading.active_count()


def test_who_lacks_opentelemetry_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin can be imported without it, so that nothing is wrong where nobody asks for spans."""
    monkeypatch.setitem(sys.modules, "llmos_observability.spans", None)
    observer = Traces({})
    with pytest.raises(PluginMissing, match=r"pip install 'llmos-observability\[otel\]'"):
        observer.llmos_event(event=Event("kernel.started", 0.0, {}))
