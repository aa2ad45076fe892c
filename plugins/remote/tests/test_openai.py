"""The backend ``openai`` against answers in the documented form of OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmos import Secret
from llmos_kernel.errors import InvalidArgument
from llmos_remote.openai import OpenAIBackend
from plugins.remote.tests.far_end import FarEnd, events, far_end, plain
from plugins.remote.tests.serving import client_of, spec_of

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an event as the reference has it for ``chat.completion.chunk``."""
    delta = {} if content is None else {"role": "assistant", "content": content}
    choice = {"index": 0, "delta": {**delta, **more.pop("delta", {})}, "logprobs": more.pop("logprobs", None)}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs-2024"}
    return {**head, "choices": [{**choice, "finish_reason": finish}], **more}


def last(**usage: Any) -> dict[str, Any]:
    """Return the event with the usage, which has no choices."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs-2024"}
    return {**head, "choices": [], "usage": {**USAGE, **usage}}


ANSWER = events(chunk("One"), chunk(" two"), chunk(" three"), chunk(finish="stop"), last())


@pytest.fixture
def server() -> Iterator[FarEnd]:
    """A far end that answers with three words."""
    with far_end() as server:
        server.always = ANSWER
        yield server


def test_chat(server: FarEnd) -> None:
    """The text, the reason of its end, the usage and the cost arrive; the request is what the protocol says."""
    prices = {"prompt": 2.0, "cached": 1.0, "generated": 10.0}
    with client_of(OpenAIBackend({}), spec_of(server, prices=prices)) as client:
        answer = client.load_model("far").chat("Count", max_tokens=5, temperature=0.5, seed=7, stop="four")

    assert answer == "One two three"
    assert answer.finish == "stop"
    assert answer.value["usage"] == {"prompt": 9, "cached": 4, "generated": 3}
    assert (answer.usage.prompt, answer.usage.cached, answer.usage.generated) == (9, 4, 3)
    assert answer.value["cost"] == pytest.approx((5 * 2 + 4 * 1 + 3 * 10) / 1e6)
    assert (answer.value["id"], answer.value["model"]) == ("chatcmpl-1", "theirs-2024")
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "theirs", "messages": [{"role": "user", "content": "Count"}], "max_tokens": 5, "temperature": 0.5,
        "seed": 7, "stop": ["four"], "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_stream(server: FarEnd) -> None:
    """Pieces arrive as the far end sends them."""
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        stream = client.load_model("far").stream("Count")
        pieces = list(stream)

    assert "".join(pieces) == "One two three"
    assert stream.result().finish == "stop"


def test_generate_by_either_route(server: FarEnd) -> None:
    """``generate`` goes as a chat with one message, or by the route for completions where the options say so."""
    choice = {"index": 0, "text": "One", "logprobs": None, "finish_reason": "length"}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "theirs"}
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        assert client.load_model("far").generate_text("Count") == "One two three"
    server.replies.append(events({**head, "choices": [choice]}, {**head, "choices": [], "usage": USAGE}))
    with client_of(OpenAIBackend({}), spec_of(server, text="completions")) as client:
        answer = client.load_model("far").generate_text("Count", max_tokens=1)

    assert (answer, answer.finish) == ("One", "length")
    assert [one.path for one in server.asked] == ["/v1/chat/completions", "/v1/completions"]
    assert server.asked[0].body["messages"] == [{"role": "user", "content": "Count"}]
    assert (server.asked[1].body["prompt"], server.asked[1].body["max_tokens"]) == ("Count", 1)


def test_embed(server: FarEnd) -> None:
    """An ``embed`` task ends with the vector."""
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
    server.always = plain({"object": "list", "data": data, "model": "theirs", "usage": {"prompt_tokens": 2}})
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        vector = client.load_model("far").embed("Count")
        used = client.control("InspectModel", "far")["executor"]["used"]

    assert list(vector) == [0.5, -0.25]
    assert server.asked[0].body == {"model": "theirs", "input": "Count", "encoding_format": "float"}
    assert (used["requests"], used["prompt"]) == (1, 2)


def test_tools(server: FarEnd) -> None:
    """Tools are passed on, and the calls that arrive in pieces are whole in the answer's value."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

    def call(**pieces: Any) -> dict[str, Any]:
        return chunk(delta={"tool_calls": [{"index": 0, **pieces}]})

    server.always = events(
        call(id="call_1", type="function", function={"name": "look", "arguments": ""}),
        call(function={"arguments": '{"at":'}), call(function={"arguments": '"it"}'}), chunk(finish="tool_calls"),
    )  # fmt: skip
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        answer = client.load_model("far").chat("Look", params={"tools": [tool], "tool_choice": "auto"})

    assert answer.finish == "tool_calls"
    assert answer.value["tool_calls"] == [{"id": "call_1", "name": "look", "arguments": '{"at":"it"}'}]
    assert server.asked[0].body["tools"] == [tool]


def test_schema(server: FarEnd) -> None:
    """A ``schema`` becomes a strict response format; both at once are refused."""
    schema = {"type": "object"}
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        model = client.load_model("far")
        model.chat("Count", schema=schema)
        with pytest.raises(InvalidArgument, match="response_format"):
            model.chat("Count", schema=schema, params={"response_format": {"type": "json_object"}})

    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    assert [one.body["response_format"] for one in server.asked] == [form]


def test_logprobs(server: FarEnd) -> None:
    """Log probabilities have the form of those of models that run here."""
    top = [{"token": "One", "logprob": -0.5, "bytes": [79, 110, 101]}, {"token": "A", "logprob": -1.5, "bytes": None}]
    content = [{**top[0], "top_logprobs": top}]
    server.always = events(chunk("One", logprobs={"content": content}), chunk(finish="stop"))
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        answer = client.load_model("far").chat("Count", logprobs=2)

    (first,) = answer.logprobs
    assert (first["token"], first["logprob"], first["bytes"]) == ("One", -0.5, [79, 110, 101])
    assert [one["token"] for one in first["top"]] == ["One", "A"]
    assert (server.asked[0].body["logprobs"], server.asked[0].body["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize("name", ["top_k", "min_p", "min_tokens", "repetition_penalty", "regex", "grammar"])
def test_what_the_protocol_cannot_say(server: FarEnd, name: str) -> None:
    """A parameter that the far end cannot honour is refused by its name, and nothing is sent."""
    with client_of(OpenAIBackend({}), spec_of(server)) as client, pytest.raises(InvalidArgument) as refused:
        client.load_model("far").chat("Count", params={name: 1})

    assert refused.value.fields["field"] == name
    assert server.asked == []


def test_extra(server: FarEnd) -> None:
    """A far end that knows more is told more, where the options name it; and the question for usage can be left out."""
    spec = spec_of(server, extra=["top_k"], usage=False, length="max_completion_tokens")
    with client_of(OpenAIBackend({}), spec) as client:
        client.load_model("far").chat("Count", top_k=3, max_tokens=4)

    body = server.asked[0].body
    assert (body["top_k"], body["max_completion_tokens"]) == (3, 4)
    assert not {"stream_options", "max_tokens"} & set(body)


def test_key(server: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key goes where the options say; OpenAI's own goes nowhere else, and neither do its other headers."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-theirs")
    monkeypatch.setenv("MINE", "sk-mine")
    for key in (Secret(env="MINE"), None):
        with client_of(OpenAIBackend({}), spec_of(server, api_key=key)) as client:
            client.load_model("far").chat("Count")

    assert [one.headers.get("authorization") for one in server.asked] == ["Bearer sk-mine", None]
    assert not [one for one in server.asked if "org-theirs" in one.headers.values()]


def test_defaults_of_the_backend(server: FarEnd) -> None:
    """The backend's own configuration gives defaults for the options of models."""
    with client_of(OpenAIBackend({"length": "max_completion_tokens"}), spec_of(server)) as client:
        client.load_model("far").chat("Count", max_tokens=4)

    assert server.asked[0].body["max_completion_tokens"] == 4
