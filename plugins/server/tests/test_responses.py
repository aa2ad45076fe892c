"""The Responses API, asked by OpenAI's own client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from llmos.testing import EchoBackend
from llmos_kernel.errors import ExecutorCrashed
from llmos_server.responses.kept import Kept
from plugins.server.tests.serving import Site, serving

CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


def heard(site: Site) -> list[tuple[str, str]]:
    """Return the conversation that the model was asked last."""
    return [(message["role"], message["content"]) for message in site.echo.executors[0].tasks[-1].input]


def test_an_answer(site: Site) -> None:
    """The text, why it ended, and what it used."""
    said = site.openai.responses.create(model="parrot", input="one two three")

    assert ("one two three", "completed", "echo") == (said.output_text, said.status, said.model)
    assert said.usage is not None
    assert (3, 3, 6) == (said.usage.input_tokens, said.usage.output_tokens, said.usage.total_tokens)


def test_an_answer_that_is_cut(site: Site) -> None:
    """Is incomplete, and says why."""
    said = site.openai.responses.create(model="echo", input="one two three", max_output_tokens=2)

    assert ("one two", "incomplete") == (said.output_text, said.status)
    assert said.incomplete_details is not None
    assert "max_output_tokens" == said.incomplete_details.reason


def test_a_stream(site: Site) -> None:
    """Typed events in the order of the reference, numbered; the last one has the whole response."""
    events = list(site.openai.responses.create(model="echo", input="one two", stream=True))

    assert [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.done",
        "response.content_part.done", "response.output_item.done", "response.completed",
    ] == [event.type for event in events]  # fmt: skip
    assert list(range(len(events))) == [event.sequence_number for event in events]
    assert "one two" == "".join(event.delta for event in events if event.type == "response.output_text.delta")
    (last,) = [event for event in events if event.type == "response.completed"]
    assert "one two" == last.response.output_text


def test_going_on(site: Site) -> None:
    """What was said before is told again, but not its instructions; streams are kept too."""
    first = site.openai.responses.create(model="echo", input="one", instructions="be brief")
    with site.openai.responses.stream(model="echo", input="two", previous_response_id=first.id) as stream:
        second = stream.get_final_response()
    site.openai.responses.create(model="echo", input="three", previous_response_id=second.id, instructions="be long")

    assert [
        ("system", "be long"), ("user", "one"), ("assistant", "one"), ("user", "two"), ("assistant", "two"),
        ("user", "three"),
    ] == heard(site)  # fmt: skip


def test_looking_up_and_forgetting(site: Site) -> None:
    """A response is kept until it is forgotten; one that is not to be stored never is."""
    kept = site.openai.responses.create(model="echo", input="one")
    dropped = site.openai.responses.create(model="echo", input="one", store=False)

    assert kept == site.openai.responses.retrieve(kept.id)
    site.openai.responses.delete(kept.id)
    for id in (kept.id, dropped.id):
        with pytest.raises(openai.NotFoundError, match="there is no response"):
            site.openai.responses.retrieve(id)
        with pytest.raises(openai.BadRequestError, match="send the conversation as input") as caught:
            site.openai.responses.create(model="echo", input="two", previous_response_id=id)
        assert ("previous_response_id", "previous_response_not_found") == (caught.value.param, caught.value.code)


def test_what_is_kept_is_bounded() -> None:
    """By number and by size; the oldest goes first."""
    few, short = Kept(2, 1000), Kept(9, 10)
    for name in "abc":
        few.keep({"id": name}, [{"role": "user", "content": "x"}])
        short.keep({"id": name}, [{"role": "user", "content": "x" * 5}])
    short.keep({"id": "d"}, [{"role": "user", "content": "x" * 11}])

    assert [False, True, True] == [few.find(name) is not None for name in "abc"]
    assert [False] * 4 == [short.find(name) is not None for name in "abcd"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(site: Site, stream: bool) -> None:
    """And its result is told in the next request."""
    if stream:
        with site.openai.responses.stream(model="echo", input=CALL, tools=[WEATHER]) as events:
            said: Any = events.get_final_response()
    else:
        said = site.openai.responses.create(model="echo", input=CALL, tools=[WEATHER])
    (call,) = said.output
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    site.openai.responses.create(model="echo", input=[result], previous_response_id=said.id)

    assert ("function_call", "weather", {"city": "Oslo"}) == (call.type, call.name, json.loads(call.arguments))
    assert [("user", CALL), ("assistant", CALL), ("user", "rain")] == heard(site)


def test_items(site: Site) -> None:
    """Messages, calls and their results; what was answered can be sent back as it came."""
    first = site.openai.responses.create(model="echo", input="hi")
    items: list[Any] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        *(item.model_dump() for item in first.output),
        {"type": "function_call", "call_id": "1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "rain"},
    ]  # fmt: skip
    site.openai.responses.create(model="echo", input=items)

    assert [
        ("system", "be brief"), ("user", "a"), ("assistant", "hi"),
        ("assistant", '{"name": "weather", "arguments": {}}'), ("user", "rain"),
    ] == heard(site)  # fmt: skip


def test_parameters_and_form(site: Site) -> None:
    """By the engine's names."""
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "array"}, "strict": True}}
    said: Any = site.openai.responses.create(
        model="echo", input="one two", text=form, temperature=0.5, top_p=0.5, max_output_tokens=9, top_logprobs=1,
        include=["message.output_text.logprobs"],
    )  # fmt: skip

    assert {
        "temperature": 0.5, "top_p": 0.5, "max_tokens": 9, "logprobs": 1, "schema": {"type": "array"},
    } == dict(site.echo.executors[0].tasks[-1].params)  # fmt: skip
    assert ["one", " two"] == [entry.token for entry in said.output[0].content[0].logprobs]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("background", True), ("truncation", "auto"), ("conversation", "c"), ("prompt", {"id": "p"}),
        ("reasoning", {"effort": "high"}), ("max_tool_calls", 1), ("service_tier", "flex"),
        ("include", ["file_search_call.results"]), ("tools", [{"type": "web_search"}]), ("text", {"verbosity": "low"}),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(site: Site, field: str, value: object) -> None:
    """By the field's name."""
    response = site.post("/v1/responses", model="echo", input="x", **{field: value})

    assert 400 == response.status_code
    assert response.json()["error"]["param"].startswith(field)


def test_a_stream_that_breaks_says_so() -> None:
    """In an event of its own."""
    echo = EchoBackend()
    echo.faults.row = (1, ExecutorCrashed("out of luck", model="echo"))
    with serving(echo=echo) as site:
        events = list(site.openai.responses.create(model="echo", input="one two", stream=True))

    assert "response.failed" == events[-1].type
    assert events[-1].response.error is not None
    assert "out of luck" == events[-1].response.error.message
