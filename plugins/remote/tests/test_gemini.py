"""The backend ``gemini`` against answers in the documented form of the Gemini API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmos import Secret
from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable, Overloaded
from llmos_remote.gemini import GeminiBackend
from plugins.remote.tests.far_end import PATIENCE, FarEnd, Reply, events, far_end, plain
from plugins.remote.tests.serving import client_of, spec_of

USAGE = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}
HEAD = {"responseId": "r1", "modelVersion": "theirs-2026"}


def chunk(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a ``GenerateContentResponse``."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {**HEAD, "candidates": [candidate], **more}


TEXT = (chunk({"text": "One"}), chunk({"text": "hm", "thought": True}), chunk({"text": " two"}))
ANSWER = events(*TEXT, chunk(finish="STOP", usageMetadata=USAGE), done=False)


@pytest.fixture
def server() -> Iterator[FarEnd]:
    """A far end that answers with two words."""
    with far_end() as server:
        server.always = ANSWER
        yield server


def test_chat(server: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text without the thoughts, the end and the usage arrive; the request is what the API's reference says."""
    monkeypatch.setenv("MINE", "key-mine")
    spec = spec_of(server, "gemini", api_key=Secret(env="MINE"), prices={"prompt": 1.0, "generated": 2.0})
    said = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count"},
        {"role": "assistant", "content": "To what?"}, {"role": "user", "content": "Two"},
    ]  # fmt: skip
    with client_of(GeminiBackend({}), spec) as client:
        answer = client.load_model("far").chat(said, max_tokens=5, temperature=0.5, top_k=3, seed=7, stop="three")

    assert (answer, answer.finish) == ("One two", "stop")
    assert answer.value["usage"] == {"prompt": 9, "cached": 4, "generated": 3}
    assert (answer.usage.prompt, answer.usage.cached, answer.usage.generated) == (9, 4, 3)
    assert answer.value["cost"] == pytest.approx((9 * 1 + 3 * 2) / 1e6)
    assert (answer.value["id"], answer.value["model"]) == ("r1", "theirs-2026")
    (asked,) = server.asked
    assert asked.path.endswith("/models/theirs:streamGenerateContent?alt=sse")
    assert asked.headers["x-goog-api-key"] == "key-mine"
    assert [(one["role"], one["parts"]) for one in asked.body["contents"]] == [
        ("user", [{"text": "Count"}]), ("model", [{"text": "To what?"}]), ("user", [{"text": "Two"}])
    ]  # fmt: skip
    assert asked.body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert asked.body["generationConfig"] == {
        "maxOutputTokens": 5, "temperature": 0.5, "topK": 3, "seed": 7, "stopSequences": ["three"]
    }  # fmt: skip


def test_generate(server: FarEnd) -> None:
    """``generate`` is one text of the user's; keys are not made up."""
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client:
        assert "".join(client.load_model("far").stream("Count")) == "One two"

    (asked,) = server.asked
    assert asked.body["contents"][0]["parts"] == [{"text": "Count"}]
    assert "x-goog-api-key" not in asked.headers


def test_embed(server: FarEnd) -> None:
    """An ``embed`` task ends with the vector."""
    server.always = plain({"embeddings": [{"values": [0.5, -0.25]}]})
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client:
        vector = client.load_model("far").embed("Count")

    assert list(vector) == [0.5, -0.25]
    assert "Count" in repr(server.asked[0].body)


def test_tools_and_schema(server: FarEnd) -> None:
    """Tools and schemas are passed on, and calls of tools are in the answer's value."""
    call = {"functionCall": {"name": "look", "args": {"at": "it"}}}
    server.always = events(chunk(call), chunk(finish="STOP"), done=False)
    tool = {"function_declarations": [{"name": "look", "description": "Look at it."}]}
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client:
        answer = client.load_model("far").chat("Look", params={"tools": [tool]}, schema={"type": "object"})

    assert answer.finish == "tool_calls"
    assert answer.value["tool_calls"] == [{"id": "", "name": "look", "arguments": '{"at":"it"}'}]
    body = server.asked[0].body
    assert body["tools"][0]["functionDeclarations"][0]["name"] == "look"
    assert body["generationConfig"]["responseMimeType"] == "application/json"


def test_logprobs(server: FarEnd) -> None:
    """Log probabilities have the form of those of models that run here."""
    one = {"token": "One", "tokenId": 7, "logProbability": -0.5}
    result = {"chosenCandidates": [one], "topCandidates": [{"candidates": [one, {**one, "token": "A"}]}]}
    first = chunk({"text": "One"}, finish="STOP")
    first["candidates"][0]["logprobsResult"] = result
    server.always = events(first, done=False)
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client:
        answer = client.load_model("far").chat("Count", logprobs=2)

    (found,) = answer.logprobs
    assert (found["id"], found["token"], found["logprob"]) == (7, "One", -0.5)
    assert [other["token"] for other in found["top"]] == ["One", "A"]


def test_what_the_protocol_cannot_say(server: FarEnd) -> None:
    """What the far end cannot honour is refused by name, and so is what it would not understand."""
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client:
        model = client.load_model("far")
        for name in ("min_p", "logit_bias", "regex"):
            with pytest.raises(InvalidArgument) as refused:
                model.chat("Count", params={name: 1})
            assert refused.value.fields["field"] == name
        with pytest.raises(InvalidArgument) as refused:
            model.chat("Count", params={"temperature": "warm"})
        assert refused.value.fields["field"] == "temperature"
        with pytest.raises(InvalidArgument):
            model.chat([{"role": "system", "content": "alone"}])

    assert server.asked == []


def test_blocked(server: FarEnd) -> None:
    """A prompt that the far end does not answer ends with its reason."""
    server.always = events({**HEAD, "promptFeedback": {"blockReason": "SAFETY"}}, done=False)
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client:
        answer = client.load_model("far").chat("Count")

    assert (answer, answer.finish) == ("", "blocked: safety")


def _error(code: int, message: str, *details: object) -> Reply:
    return plain({"error": {"code": code, "message": message, "status": "X", "details": list(details)}}, code)


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "500s"}
FAILURES: dict[str, tuple[Reply, type[KernelError]]] = {
    "key": (_error(403, "API key not valid"), ModelUnavailable),
    "model": (_error(404, "models/theirs is not found"), ModelUnavailable),
    "request": (_error(400, "The input token count exceeds the maximum"), InvalidArgument),
    "limit": (_error(429, "Resource has been exhausted", RETRY), Overloaded),
    "in the middle": (events(*TEXT, {"error": {"code": 503, "message": "overloaded"}}, done=False), ModelUnavailable),
    "no end": (events(*TEXT, done=False), ModelUnavailable),
    "broken": (events(*TEXT, ending="break", done=False), ModelUnavailable),
    "nothing": (events(done=False), ModelUnavailable),
    "no JSON": (Reply([b"data: {x\n\n"], type="text/event-stream"), ModelUnavailable),
    "no object": (events(5, done=False), ModelUnavailable),
    "no candidates": (events({"candidates": 5}, done=False), ModelUnavailable),
    "a web page": (Reply([b"<html>"], type="text/html"), ModelUnavailable),
}


@pytest.mark.parametrize("what", FAILURES)
def test_failures(server: FarEnd, what: str) -> None:
    """Whatever is wrong with an answer is one typed error, and it is not asked again."""
    reply, kind = FAILURES[what]
    server.replies.append(reply)
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client, pytest.raises(KernelError) as failed:
        client.load_model("far").chat("Count")

    assert type(failed.value) is kind
    assert len(server.asked) == 1


def test_cancelled(server: FarEnd) -> None:
    """Closing a stream closes the connection."""
    server.replies.append(events(TEXT[0], ending="stay", done=False))
    with client_of(GeminiBackend({}), spec_of(server, "gemini")) as client:
        with client.load_model("far").stream("Count") as stream:
            assert next(stream) == "One"

        assert server.gone.wait(PATIENCE)
