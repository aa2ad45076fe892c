"""Whose trace a task belongs to: what is taken for a trace context, and that it comes with every kind of task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llmos import AsyncClient, AsyncModel, Client, Model, trace_context
from llmos.testing import EchoBackend
from llmos_kernel import Kernel
from llmos_kernel.errors import ExecutorCrashed, InvalidArgument

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
WORDS = "one two three"

SEEN = "\t !\"#%&'()*+,-./0123456789:;<=>?@ABCDEFZ[]^_`abcdefz{|}~"
"""Letters that a header may have."""
TEXTS = st.text(SEEN, max_size=20)


def edited(parent: str, edits: list[tuple[int, int, str]]) -> str:
    """Return *parent* with other letters at some places: more, fewer, or as many."""
    for place, count, letters in edits:
        parent = parent[:place] + letters + parent[place + count :]
    return parent


EDITS = st.lists(st.tuples(st.integers(0, 56), st.integers(0, 2), st.text("019afAG- ", max_size=2)), max_size=2)
IDS = st.integers(0, 2**128 - 1) | st.sampled_from([0, 1, 2**64])
PARENTS = st.builds(
    lambda version, trace, span, flags, suffix: f"{version}-{trace:032x}-{span % 2**64:016x}-{flags:02x}{suffix}",
    st.sampled_from(["00", "00", "01", "cc", "ff"]), IDS, IDS, st.integers(0, 255), st.sampled_from(["", "", "-x"]),
)  # fmt: skip
HEADERS = st.builds(edited, PARENTS, EDITS)
MEMBERS = st.builds("{}={}".format, st.text("abz09_-*/@A ", max_size=6), st.text(SEEN, max_size=6)) | TEXTS
STATES = st.lists(MEMBERS, max_size=4).map(",".join) | st.integers(30, 34).map(
    lambda count: ",".join(f"k{number}=v" for number in range(count))
)


def reference(headers: dict[str, str]) -> SpanContext:
    """Return what OpenTelemetry reads in *headers*."""
    return get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()


@given(HEADERS, STATES)
@example(PARENT, STATE)
@example("", STATE)
@example("anything", "")
@example(PARENT, "k=" + "v" * 250 + ",")
@example(PARENT, "k=" + "v" * 250 + ",l=" + "v" * 250 + ",m=abcd")
@example(PARENT, "k=" + "v" * 257)
@example(PARENT, "k=v,k=w")
def test_opentelemetry_reads_the_same(parent: str, state: str) -> None:
    """What is taken is what its propagator takes, with the same numbers, flag and state; the rest is refused."""
    headers = {"traceparent": parent, "tracestate": state}
    theirs = reference(headers)
    try:
        ours = trace_context(headers)
    except InvalidArgument as error:
        assert ("trace", False) == (error.fields["field"], theirs.is_valid)  # noqa: PT017 - some are refused
    else:
        assert ours == trace_context(ours)
        again = reference(dict(zip(("traceparent", "tracestate"), ours.split(" ", 1), strict=False)))
        assert (theirs.trace_id, theirs.span_id, theirs.trace_flags.sampled, theirs.trace_state.to_header()) == (
            again.trace_id, again.span_id, again.trace_flags.sampled, again.trace_state.to_header(),
        )  # fmt: skip


@given(st.text() | st.dictionaries(st.sampled_from(["traceparent", "tracestate", "x"]), st.text() | st.none()))
def test_anything_else_is_refused(value: Any) -> None:
    """Whatever it is: it is taken, or one typed error says what would be right."""
    try:
        found = trace_context(value)
    except InvalidArgument as error:
        assert "trace" == error.fields["field"]  # noqa: PT017 - most are refused
    else:
        assert "" == found


@pytest.mark.parametrize(
    "wrong", [7, None, b"00", [PARENT], {"traceparent": 7}, {"traceparent": None}, {1: 2, "traceparent": "x"}]
)
def test_what_is_no_text(wrong: Any) -> None:
    """The same for values of other types."""
    with pytest.raises(InvalidArgument, match="trace must be a"):
        trace_context(wrong)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""), ({}, ""), ({"tracestate": STATE}, ""), (PARENT, PARENT), ({"Traceparent": PARENT}, PARENT),
        ({"traceparent": PARENT, "tracestate": STATE, "baggage": "a=b"}, f"{PARENT} {STATE}"),
        (f"{PARENT} {STATE}", f"{PARENT} {STATE}"), (f"{PARENT} a b", PARENT),
        ({"traceparent": PARENT, "tracestate": 7}, PARENT),
        ("01" + PARENT[2:], PARENT), ("cc" + PARENT[2:-2] + "fe-and-more", PARENT[:-2] + "00"),
        (PARENT[:-2] + "03", PARENT[:-2] + "03"),
        (f"{PARENT} k={'v' * 250},l={'v' * 257}", PARENT), (f"{PARENT} k={'v' * 250},l={'v' * 250},m=abcdef", PARENT),
    ],
)  # fmt: skip
def test_what_is_kept(given: Any, expected: str) -> None:
    """A version that is not known yet is read as the first one; without a parent nothing is kept."""
    assert expected == trace_context(given)


# --- calls -------------------------------------------------------------------------------------------------------

Ask = Callable[[Model], object]
ASKING: dict[str, Ask] = {
    "generate_text": lambda model: model.generate_text(WORDS, trace=PARENT),
    "several": lambda model: model.generate_text(WORDS, n=2, trace=PARENT),
    "stream": lambda model: list(model.stream(WORDS, trace=PARENT)),
    "streams": lambda model: list(model.stream(WORDS, n=2, trace=PARENT)),
    "chat": lambda model: model.chat(WORDS, trace={"traceparent": PARENT}),
    "chat_stream": lambda model: list(model.chat_stream(WORDS, trace=PARENT)),
    "embed": lambda model: model.embed([WORDS, WORDS], trace=PARENT),
    "classify": lambda model: model.classify(WORDS, trace=PARENT),
    "tokenize": lambda model: model.tokenize(WORDS, trace=PARENT),
    "detokenize": lambda model: model.detokenize([], trace=PARENT),
    "conversation": lambda model: model.conversation(tokens=0).say(WORDS, trace=PARENT),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_every_task_has_it(ask: Ask, client: Client, echo: EchoBackend) -> None:
    """Whatever is asked of a model, its tasks are of the trace that the caller names."""
    with client.load_model("echo") as model:
        model.generate_text("before")
        ask(model)
    (before, *after) = echo.executors[0].tasks

    assert ("", {PARENT}) == (before.trace, {task.trace for task in after})


def test_the_next_try_has_it(client: Client, echo: EchoBackend) -> None:
    """A task that is tried on another model stays in its trace."""
    with client.load_model("echo", fallbacks=["echo-2"]) as model:
        echo.faults.prepare = ExecutorCrashed("lost")
        with pytest.raises(ExecutorCrashed):
            model.generate_text(WORDS, trace=f"{PARENT} {STATE}")

    assert [[f"{PARENT} {STATE}"]] * 2 == [[task.trace for task in executor.tasks] for executor in echo.executors]


def test_a_wrong_one_is_refused(model: Model, echo: EchoBackend) -> None:
    """Before there is a task."""
    with pytest.raises(InvalidArgument, match="trace must be a traceparent: 00-"):
        model.generate_text(WORDS, trace=PARENT.upper())
    with pytest.raises(InvalidArgument, match="trace"):
        model.embed(WORDS, trace="x")

    assert [] == echo.executors[0].tasks


@pytest.fixture
async def async_model(kernel: Kernel) -> AsyncIterator[AsyncModel]:
    """The echo model, for asyncio."""
    async with AsyncClient(kernel=kernel) as made:
        yield await made.load_model("echo")


async def test_every_task_has_it_with_asyncio(async_model: AsyncModel, echo: EchoBackend) -> None:
    """The same with coroutines."""
    model = async_model
    await model.generate_text(WORDS, trace=PARENT)
    await model.stream(WORDS, trace=PARENT).result()
    await model.chat(WORDS, trace=PARENT)
    await model.embed(WORDS, trace=PARENT)
    await model.classify(WORDS, trace=PARENT)
    await model.detokenize(await model.tokenize(WORDS, trace=PARENT), trace=PARENT)
    await model.conversation(tokens=0).say(WORDS, trace=PARENT)

    assert [PARENT] * 8 == [task.trace for task in echo.executors[0].tasks]
