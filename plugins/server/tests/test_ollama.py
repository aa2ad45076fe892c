"""Ollama's own client, unchanged, against the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from plugins.server.tests.serving import Site

CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells the weather."}}


@pytest.fixture
def client(site: Site) -> Iterator[ollama.Client]:
    """The client of Ollama's package."""
    with ollama.Client(host=site.url) as client:
        yield client


def ask(text: str) -> list[dict[str, str]]:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


def test_models(client: ollama.Client) -> None:
    """They are listed, looked up by any name, and told to be loaded once they are."""
    listed = client.list().models
    shown = client.show("parrot:latest")
    client.generate("echo", "a")

    assert ["echo", "toy"] == [model.model for model in listed]
    assert 64 == len(listed[0].digest or "")
    assert {"completion", "tools", "embedding"} == set(shown.capabilities or ())
    assert "echo" in [model.model for model in client.ps().models]
    with pytest.raises(ollama.ResponseError, match="absent") as caught:
        client.show("absent")
    assert 404 == caught.value.status_code


@pytest.mark.parametrize("kind", ["chat", "generate"])
def test_whole_answers(client: ollama.Client, kind: str) -> None:
    """The answer, why it ended, and what it used: tokens, and nanoseconds that add up to no more than all."""
    options = {"num_predict": 2, "num_thread": 4, "num_ctx": 32}
    said: Any = (
        client.chat("echo", ask("one two three"), options=options)
        if kind == "chat"
        else client.generate("echo", "one two three", options=options)
    )

    assert "one two" == (said.message.content if kind == "chat" else said.response)
    assert (True, "length", 3, 2) == (said.done, said.done_reason, said.prompt_eval_count, said.eval_count)
    assert 0 < said.eval_duration + said.prompt_eval_duration + said.load_duration <= said.total_duration


@pytest.mark.parametrize("kind", ["chat", "generate"])
def test_streams(client: ollama.Client, kind: str) -> None:
    """Pieces as they come, and an end with what was used."""
    parts: list[Any] = list(
        client.chat("echo", ask("one two three"), stream=True)
        if kind == "chat"
        else client.generate("echo", "one two three", stream=True)
    )

    assert "one two three" == "".join(part.message.content if kind == "chat" else part.response for part in parts)
    assert [False] * 3 + [True] == [part.done for part in parts]
    assert ("stop", 3) == (parts[-1].done_reason, parts[-1].eval_count)


def test_streams_unless_told_otherwise(site: Site) -> None:
    """Lines of JSON, whatever the header of the request says: the manual's example asks so."""
    body = json.dumps({"model": "echo", "messages": ask("one two")})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = site.http.post("/api/chat", content=body, headers=headers)

    assert "application/x-ndjson" == response.headers["content-type"]
    assert [False, False, True] == [json.loads(line)["done"] for line in response.text.splitlines()]


def test_options_reach_the_model(site: Site, client: ollama.Client) -> None:
    """By the engine's names."""
    client.generate(
        "echo", "a", system="be brief", format={"type": "array"}, options={
            "temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.1, "seed": -1,
            "presence_penalty": 0.5, "frequency_penalty": -0.5, "stop": ["x"], "num_predict": -1,
        },
    )  # fmt: skip
    task = site.echo.executors[0].tasks[-1]

    assert {
        "temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 2**64 - 1,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "stop": ["x"], "schema": {"type": "array"},
    } == dict(task.params)  # fmt: skip
    assert [("system", "be brief"), ("user", "a")] == [(one["role"], one["content"]) for one in task.input]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(client: ollama.Client, stream: bool) -> None:
    """With its arguments as an object, and no text."""
    create: Any = client.chat
    said = create("echo", ask(CALL), tools=[WEATHER], stream=stream)
    parts = list(said) if stream else [said]
    (call,) = [call for part in parts for call in part.message.tool_calls or ()]

    assert ("weather", {"city": "Oslo"}) == (call.function.name, call.function.arguments)
    assert "" == "".join(part.message.content or "" for part in parts)


def test_results_of_tools_are_told(site: Site, client: ollama.Client) -> None:
    """To the model, by the user."""
    made = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "w", "arguments": {}}}]}
    client.chat("echo", [*ask("weather?"), made, {"role": "tool", "tool_name": "w", "content": "rain"}])
    said = [(message["role"], message["content"]) for message in site.echo.executors[0].tasks[-1].input]

    assert [("user", "weather?"), ("assistant", '{"name": "w", "arguments": {}}'), ("user", "rain")] == said


def test_logprobs(client: ollama.Client) -> None:
    """One per token, with its alternatives."""
    said = client.generate("echo", "one two", logprobs=True, top_logprobs=1)

    assert ["one", " two"] == [entry.token for entry in said.logprobs or ()]


def test_loading_and_unloading(client: ollama.Client) -> None:
    """A question that says nothing loads the model; or unloads it, if it is not to be kept alive."""
    assert "load" == client.generate("toy").done_reason
    assert "toy" in [model.model for model in client.ps().models]
    assert "unload" == client.generate("toy", keep_alive=0).done_reason
    assert "toy" not in [model.model for model in client.ps().models]


def test_unloading_twice(site: Site) -> None:
    """Is as good as once."""
    body = {"model": "toy", "messages": [], "keep_alive": 0}

    assert [200, 200] == [site.post("/api/chat", **body).status_code for _ in range(2)]


def test_embeddings(client: ollama.Client) -> None:
    """A vector for each text, in both forms."""
    found = client.embed("echo", ["one two", "three"])

    assert [[2.0, 7.0], [1.0, 5.0]] == found.embeddings
    assert 3 == found.prompt_eval_count
    assert [2.0, 7.0] == client.embeddings("echo", "one two").embedding


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"images": ["x"]}, "images"), ({"suffix": "x"}, "suffix"), ({"template": "x"}, "template"),
        ({"context": [1]}, "context"), ({"think": True}, "think"), ({"options": {"mirostat": 1}}, "options.mirostat"),
        ({"options": {"typical_p": 0.5}}, "options.typical_p"), ({"options": {"repeat_last_n": 64}}, "repeat_last_n"),
        ({"options": {"num_predict": 0}}, "num_predict"), ({"options": {"num_ctx": 4097}}, "options.num_ctx"),
        ({"options": {"nummer": 1}}, "options.nummer"), ({"raw": True, "system": "x"}, "system"),
        ({"format": "xml"}, "format"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(site: Site, body: dict[str, Any], field: str) -> None:
    """In Ollama's form of an error, by the field's name."""
    response = site.post("/api/generate", model="echo", prompt="x", **body)

    assert 400 == response.status_code
    assert {"error"} == set(response.json())
    assert field in response.json()["error"]
