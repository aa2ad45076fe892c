"""Requests with a ``traceparent``: their tasks belong to its trace, whichever API they came by."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from plugins.server.tests.serving import Site

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
STATE = "congo=t61rcWkgMzE"
SAID = [{"role": "user", "content": "one two"}]
ROUTES: dict[str, tuple[str, dict[str, Any], int]] = {
    "chat completion": ("/v1/chat/completions", {"messages": SAID}, 1),
    "chat completions": ("/v1/chat/completions", {"messages": SAID, "n": 2}, 2),
    "streamed chat completion": ("/v1/chat/completions", {"messages": SAID, "stream": True}, 1),
    "completions": ("/v1/completions", {"prompt": ["one", "two"]}, 2),
    "streamed completions": ("/v1/completions", {"prompt": "one two", "n": 2, "stream": True}, 2),
    "response": ("/v1/responses", {"input": "one two"}, 1),
    "streamed response": ("/v1/responses", {"input": "one two", "stream": True}, 1),
    "embeddings": ("/v1/embeddings", {"input": ["one", "two"]}, 4),
    "Ollama's chat": ("/api/chat", {"messages": SAID, "stream": False}, 1),
    "Ollama's streamed chat": ("/api/chat", {"messages": SAID}, 1),
    "Ollama's generate": ("/api/generate", {"prompt": "one two", "stream": False}, 1),
    "Ollama's streamed, raw generate": ("/api/generate", {"prompt": "one two", "raw": True}, 1),
    "Ollama's embed": ("/api/embed", {"input": "one two"}, 2),
    "Ollama's embeddings": ("/api/embeddings", {"prompt": "one two"}, 2),
    "llmos's schedule": ("/v1/llmos/schedule", {"kind": "generate", "input": "one two"}, 1),
}
"""Path, body, and how many tasks become of it: to count the tokens of a text that was embedded is one."""


def traces(site: Site, path: str, body: dict[str, Any], *headers: tuple[str, str]) -> list[str]:
    """Send a request, and return the trace of each of its tasks."""
    earlier = [len(executor.tasks) for executor in site.echo.executors]
    response = site.http.post(path, json={"model": "echo", **body}, headers=list(headers))
    assert 200 == response.status_code, response.text
    seen = [*earlier, *[0] * (len(site.echo.executors) - len(earlier))]
    return [task.trace for count, one in zip(seen, site.echo.executors, strict=True) for task in one.tasks[count:]]


@pytest.mark.parametrize(("path", "body", "count"), ROUTES.values(), ids=ROUTES)
def test_every_task_of_a_request_belongs_to_its_trace(site: Site, path: str, body: dict[str, Any], count: int) -> None:
    """Each API, streamed or not; the request after it has nothing of it."""
    assert [PARENT] * count == traces(site, path, body, ("traceparent", PARENT))
    assert [f"{PARENT} {STATE}"] * count == traces(site, path, body, ("Traceparent", PARENT), ("TraceState", STATE))
    assert [""] * count == traces(site, path, body)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("traceparent", PARENT), ("traceparent", OTHER)], ""), ([("traceparent", PARENT)] * 2, ""),
        ([("traceparent", f"{PARENT},{OTHER}")], ""), ([("tracestate", STATE)], ""),
        ([("traceparent", ""), ("tracestate", STATE)], ""), ([("traceparent", PARENT.upper())], ""),
        ([("traceparent", PARENT), ("tracestate", STATE), ("tracestate", "rojo=1")], f"{PARENT} {STATE},rojo=1"),
        ([("traceparent", PARENT), ("tracestate", STATE), ("tracestate", "no state")], PARENT),
        ([("traceparent", OTHER), ("tracestate", "a=b," * 400)], OTHER),
        ([("traceparent", f"01{PARENT[2:]}-more")], PARENT), ([("traceparent", "x" * 4096)], ""),
    ],
)  # fmt: skip
def test_headers(site: Site, headers: list[tuple[str, str]], expected: str) -> None:
    """What is wrong is ignored and answered as if it had not come; a state may be said in several headers."""
    assert [expected] == traces(site, "/v1/chat/completions", {"messages": SAID}, *headers)


def test_clients_pass_headers_on(site: Site) -> None:
    """OpenAI's own client, whose calls take headers."""
    site.chat("one two", extra_headers={"traceparent": PARENT})

    assert PARENT == site.echo.executors[-1].tasks[-1].trace


EDITS = st.lists(st.tuples(st.integers(0, 56), st.integers(0, 2), st.text("019afAG-x,", max_size=2)), max_size=2)
ANY = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)


def edited(parent: str, edits: list[tuple[int, int, str]]) -> str:
    """Return *parent* with other letters at some places: more, fewer, or as many."""
    for place, count, letters in edits:
        parent = parent[:place] + letters + parent[place + count :]
    return parent


def read(trace: str, state: str = "") -> SpanContext:
    """Return what OpenTelemetry reads in a ``traceparent`` and a ``tracestate``."""
    context = TraceContextTextMapPropagator().extract({"traceparent": trace, "tracestate": state})
    return get_current_span(context).get_span_context()


@given(st.builds(edited, st.sampled_from([PARENT, OTHER]), EDITS) | ANY, ANY | st.just(STATE))
@example(PARENT, STATE)
def test_never_an_error_and_never_another_parent(site: Site, parent: str, state: str) -> None:
    """Whatever the headers are, the request is answered, in the trace that OpenTelemetry reads in them, or in none."""
    headers = (("traceparent", parent), ("tracestate", state))
    (found,) = traces(site, "/v1/chat/completions", {"messages": SAID}, *headers)
    theirs, ours = read(parent, state), read(*found.split(" ", 1))

    assert (theirs.trace_id, theirs.span_id, theirs.trace_flags.sampled, theirs.trace_state.to_header()) == (
        ours.trace_id, ours.span_id, ours.trace_flags.sampled, ours.trace_state.to_header(),
    )  # fmt: skip
