"""The backend ``anthropic`` against answers in the documented form of the Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llmos import Secret
from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable, Overloaded
from llmos_remote.anthropic import AnthropicBackend
from plugins.remote.tests.far_end import EVENTS, FarEnd, Reply, far_end, plain
from plugins.remote.tests.serving import client_of, spec_of

USAGE = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 1, "output_tokens": 1}
HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "theirs-2026"}
START = {"type": "message_start", "message": {**HEAD, "stop_reason": None, "stop_sequence": None, "usage": USAGE}}
STOP = {"type": "message_stop"}


def named(*values: dict[str, Any], ending: str = "whole") -> Reply:
    """Return server-sent events that have names, as this API's have."""
    pieces = [f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode() for value in values]
    return Reply(pieces, type=EVENTS, ending=ending)


def block(index: int, **content: Any) -> dict[str, Any]:
    """Return the event that begins a block."""
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, **content: Any) -> dict[str, Any]:
    """Return the event that adds to a block."""
    return {"type": "content_block_delta", "index": index, "delta": content}


def end(reason: str = "end_turn") -> dict[str, Any]:
    """Return the event with the reason of the end, and the last usage."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}


TEXT = (block(0, type="text", text=""), {"type": "ping"}, delta(0, type="text_delta", text="One"),
        delta(0, type="text_delta", text=" two"), {"type": "content_block_stop", "index": 0})  # fmt: skip
ANSWER = named(START, *TEXT, end(), STOP)


@pytest.fixture
def server() -> Iterator[FarEnd]:
    """A far end that answers with two words."""
    with far_end() as server:
        server.always = ANSWER
        yield server


def test_chat(server: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text, the reason of its end and the usage arrive; the request is what the API's reference says."""
    monkeypatch.setenv("MINE", "sk-mine")
    spec = spec_of(server, "anthropic", api_key=Secret(env="MINE"), prices={"prompt": 3.0, "generated": 15.0})
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count"}]
    with client_of(AnthropicBackend({}), spec) as client:
        answer = client.load_model("far").chat(said, max_tokens=5, stop=["three"])

    assert (answer, answer.finish) == ("One two", "stop")
    assert answer.value["usage"] == {"prompt": 10, "cached": 4, "generated": 3}
    assert (answer.usage.prompt, answer.usage.cached, answer.usage.generated) == (10, 4, 3)
    assert answer.value["cost"] == pytest.approx((10 * 3 + 3 * 15) / 1e6)
    assert (answer.value["id"], answer.value["model"]) == ("msg_1", "theirs-2026")
    (asked,) = server.asked
    assert asked.path == "/v1/messages"
    assert "sk-mine" in (asked.headers.get("x-api-key"), asked.headers.get("authorization", "").removeprefix("Bearer "))
    assert asked.body == {
        "model": "theirs", "system": "Be brief.", "messages": [{"role": "user", "content": "Count"}], "max_tokens": 5,
        "stop_sequences": ["three"], "stream": True,
    }  # fmt: skip


def test_generate(server: FarEnd) -> None:
    """``generate`` is a conversation of one message, of so many tokens as the options say; keys are not made up."""
    with client_of(AnthropicBackend({}), spec_of(server, "anthropic", max_tokens=77)) as client:
        assert "".join(client.load_model("far").stream("Count")) == "One two"

    (asked,) = server.asked
    assert (asked.body["messages"], asked.body["max_tokens"]) == ([{"role": "user", "content": "Count"}], 77)
    assert not {"x-api-key", "authorization"} & set(asked.headers)


def test_tools(server: FarEnd) -> None:
    """Tools are passed on, and the calls that arrive in pieces are whole in the answer's value."""
    server.always = named(
        START, block(0, type="tool_use", id="toolu_1", name="look", input={}),
        delta(0, type="input_json_delta", partial_json='{"at":'),
        delta(0, type="input_json_delta", partial_json='"it"}'),
        end("tool_use"), STOP,
    )  # fmt: skip
    tool = {"name": "look", "input_schema": {"type": "object"}}
    with client_of(AnthropicBackend({}), spec_of(server, "anthropic")) as client:
        answer = client.load_model("far").chat("Look", params={"tools": [tool]})

    assert answer.finish == "tool_calls"
    assert answer.value["tool_calls"] == [{"id": "toolu_1", "name": "look", "arguments": '{"at":"it"}'}]
    assert server.asked[0].body["tools"] == [tool]


def test_schema(server: FarEnd) -> None:
    """A ``schema`` becomes the output's format."""
    with client_of(AnthropicBackend({}), spec_of(server, "anthropic")) as client:
        client.load_model("far").chat("Count", schema={"type": "object"})

    form = {"type": "json_schema", "schema": {"type": "object"}}
    assert server.asked[0].body["output_config"] == {"format": form}


def test_what_the_protocol_cannot_say(server: FarEnd) -> None:
    """Parameters that not every model takes are refused by name, and passed on where the options name them."""
    with client_of(AnthropicBackend({}), spec_of(server, "anthropic")) as client:
        for name in ("temperature", "seed", "logprobs"):
            with pytest.raises(InvalidArgument) as refused:
                client.load_model("far").chat("Count", params={name: 1})
            assert refused.value.fields["field"] == name
        told = [{"role": "user", "content": "Look"}, {"role": "tool", "content": "seen"}]
        with pytest.raises(InvalidArgument, match="tool_result"):
            client.load_model("far").chat(told)
    assert server.asked == []
    with client_of(AnthropicBackend({}), spec_of(server, "anthropic", extra=["temperature"])) as client:
        client.load_model("far").chat("Count", temperature=0.5)

    assert server.asked[0].body["temperature"] == 0.5


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


FAILURES: dict[str, tuple[Reply, type[KernelError]]] = {
    "key": (plain(_error("authentication_error", "invalid x-api-key"), 401), ModelUnavailable),
    "model": (plain(_error("not_found_error", "model: theirs"), 404), ModelUnavailable),
    "request": (plain(_error("invalid_request_error", "prompt is too long"), 400), InvalidArgument),
    "busy": (plain(_error("overloaded_error", "Overloaded"), 529, retry_after="500"), Overloaded),
    "limit": (plain(_error("rate_limit_error", "slow down"), 429, retry_after="500"), Overloaded),
    "in the middle": (named(START, *TEXT, _error("overloaded_error", "Overloaded")), ModelUnavailable),
    "no end": (named(START, *TEXT), ModelUnavailable),
    "no reason": (named(START, *TEXT, STOP), ModelUnavailable),
    "broken": (named(START, *TEXT, ending="break"), ModelUnavailable),
    "nothing": (named(), ModelUnavailable),
    "no JSON": (Reply([b"event: message_start\ndata: {x\n\n"], type=EVENTS), ModelUnavailable),
    "no message": (named({"type": "message_start", "message": 5}), ModelUnavailable),
    "other block": (named(START, delta(7, type="input_json_delta", partial_json="{"), end(), STOP), ModelUnavailable),
}


@pytest.mark.parametrize("what", FAILURES)
def test_failures(server: FarEnd, what: str) -> None:
    """Whatever is wrong with an answer is one typed error, and it is not asked again."""
    reply, kind = FAILURES[what]
    server.replies.append(reply)
    with client_of(AnthropicBackend({}), spec_of(server, "anthropic")) as client, pytest.raises(KernelError) as failed:
        client.load_model("far").chat("Count")

    assert type(failed.value) is kind
    assert len(server.asked) == 1
