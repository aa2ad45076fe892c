"""OpenAI's own client, unchanged, against the server."""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from llmos.testing import EchoBackend, Recorder, echo_spec
from llmos_kernel.errors import ExecutorCrashed, KernelBug, Overloaded
from plugins.server.tests.serving import PATIENCE, Site, serving

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def test_models(site: Site) -> None:
    """They are listed by name, and looked up by any name."""
    assert ["echo", "toy"] == [model.id for model in site.openai.models.list()]
    assert "echo" == site.openai.models.retrieve("parrot").id
    with pytest.raises(openai.NotFoundError, match="there is no model 'absent'"):
        site.openai.models.retrieve("absent")


def test_a_name_that_looks_like_a_path() -> None:
    """Names of Hugging Face do, and are asked for like any other."""
    with serving(config={"models": (echo_spec("org/model"),)}) as site:
        answer = site.openai.completions.create(model="org/model", prompt="one two")

        assert ["org/model"] == [model.id for model in site.openai.models.list()]
        assert ("org/model", "one two") == (answer.model, answer.choices[0].text)


def test_a_conversation(site: Site) -> None:
    """The answer, why it ended, and what it used."""
    said = site.chat("one two three", max_tokens=2)

    assert ("chat.completion", "echo") == (said.object, said.model)
    assert said.id.startswith("chatcmpl-")
    (choice,) = said.choices
    assert ("assistant", "one two", "length") == (choice.message.role, choice.message.content, choice.finish_reason)
    assert (3, 2, 5) == (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens)


def test_a_stream(site: Site) -> None:
    """Pieces as they come, then how it ended, then what it used."""
    chunks = list(site.chat("one two three", stream=True, stream_options={"include_usage": True}))

    told = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "one two three" == "".join(choice.delta.content or "" for choice in told)
    assert "assistant" == told[0].delta.role
    assert [None] * (len(told) - 1) + ["stop"] == [choice.finish_reason for choice in told]
    assert (3, 3) == (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)
    assert 1 == len({chunk.id for chunk in chunks})


def test_a_stream_ends_as_its_readers_expect(site: Site) -> None:
    """Server-sent events, and a last one that says so."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with site.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line for line in response.iter_lines() if line]

    assert "text/event-stream; charset=utf-8" == response.headers["content-type"]
    assert "data: [DONE]" == lines[-1]
    assert all(line.startswith("data: ") for line in lines)


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers(site: Site, stream: bool) -> None:
    """Each has its index."""
    said = site.chat("one two", n=3, stream=stream)
    texts = ["", "", ""]
    for part in said if stream else [said]:
        for choice in part.choices:
            texts[choice.index] += (choice.delta.content if stream else choice.message.content) or ""

    assert ["one two"] * 3 == texts


def test_every_parameter_reaches_the_model(site: Site) -> None:
    """As the engine knows it."""
    site.chat(
        "a", temperature=0.5, top_p=0.9, max_completion_tokens=7, stop=["x", "y"], seed=-1, presence_penalty=0.5,
        frequency_penalty=-0.5, logit_bias={"7": -100}, logprobs=True, top_logprobs=2, user="me", store=False,
        metadata={"a": "b"},
        extra_body={"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "min_tokens": 2, "ignore_eos": True},
    )  # fmt: skip
    task = site.echo.executors[0].tasks[-1]

    assert {
        "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stop": ["x", "y"], "seed": 2**64 - 1,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "logit_bias": {7: -100}, "logprobs": 2, "top_k": 3,
        "min_p": 0.1, "repetition_penalty": 1.1, "min_tokens": 2, "ignore_eos": True,
    } == dict(task.params)  # fmt: skip
    assert 600.0 == task.deadline


def test_roles_and_parts(site: Site) -> None:
    """Instructions are a system's, results of tools are told by the user, and parts of text are joined."""
    messages: list[Any] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "the wea"}, {"type": "text", "text": "ther?"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]  # fmt: skip
    site.openai.chat.completions.create(model="echo", messages=messages)
    said = [(message["role"], message["content"]) for message in site.echo.executors[0].tasks[-1].input]

    assert [
        ("system", "be brief"), ("user", "the weather?"),
        ("assistant", '{"name": "weather", "arguments": {"city": "Oslo"}}'), ("user", "rain"),
    ] == said  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}, {"type": "array"}),
    ],
)
def test_forms_of_the_answer(site: Site, wanted: Any, schema: object) -> None:
    """Structured output is a schema that the engine keeps."""
    site.chat("a", response_format=wanted)

    assert schema == site.echo.executors[0].tasks[-1].params.get("schema")


# --- tools -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(site: Site, stream: bool) -> None:
    """What has the form of a call is one; the model was told of the tool."""
    call = '{"name": "weather", "arguments": {"city": "Oslo"}}'
    said = site.chat(call, tools=[WEATHER], stream=stream)
    choices = [part.choices[0] for part in said] if stream else [said.choices[0]]
    told = [choice.delta if stream else choice.message for choice in choices]
    (made,) = [tool for part in told for tool in part.tool_calls or ()]

    assert ("weather", {"city": "Oslo"}) == (made.function.name, json.loads(made.function.arguments))
    assert "tool_calls" == choices[-1].finish_reason
    assert not any(part.content for part in told)
    assert "weather" in site.echo.executors[0].tasks[-1].input[0]["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["it is sunny", '{"name": "other", "arguments": {}}', '{"name": "weather"}', "{"])
def test_what_is_no_call_is_text(site: Site, text: str, stream: bool) -> None:
    """A model that may choose may also answer."""
    said = site.chat(text, tools=[WEATHER], stream=stream)
    choices = [part.choices[0] for part in said] if stream else [said.choices[0]]

    assert text == "".join((choice.delta if stream else choice.message).content or "" for choice in choices)
    assert "stop" == choices[-1].finish_reason


def test_text_is_not_held_back(site: Site) -> None:
    """What cannot become a call is streamed as it comes, although there are tools."""
    said = list(site.chat("it is sunny", tools=[WEATHER], stream=True))

    assert ["it", " is", " sunny"] == [part.choices[0].delta.content for part in said if part.choices[0].delta.content]


def test_tools_beside_a_form(site: Site) -> None:
    """The answer is a call, or of that form; references lead to where the parts of each schema are then."""
    node = {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": node}}
    site.chat("a", tools=[WEATHER], response_format=wanted)
    schema = site.echo.executors[0].tasks[-1].params["schema"]
    checks = jsonschema.Draft202012Validator(schema)

    assert checks.is_valid({"name": "weather", "arguments": {"city": "Oslo"}})
    assert checks.is_valid({"next": {"next": {}}})
    assert not checks.is_valid({"next": {"next": 1}})
    assert not checks.is_valid({"name": "weather", "arguments": {"city": 1}, "next": 1})


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_can_be_demanded(site: Site, choice: Any) -> None:
    """Then the answer can be nothing else, by its form."""
    site.chat("a", tools=[WEATHER], tool_choice=choice)
    (form,) = site.echo.executors[0].tasks[-1].params["schema"]["anyOf"]

    assert {"const": "weather"} == form["properties"]["name"]
    assert WEATHER["function"]["parameters"] == form["properties"]["arguments"]  # type: ignore[index]


def test_tools_can_be_forbidden(site: Site) -> None:
    """Then the model is not told of them."""
    site.chat("a", tools=[WEATHER], tool_choice="none")

    assert ["user"] == [message["role"] for message in site.echo.executors[0].tasks[-1].input]


# --- completions and embeddings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion(site: Site, stream: bool) -> None:
    """With the prompt before it where that is asked for."""
    create: Any = site.openai.completions.create
    said = create(model="echo", prompt="a b c", max_tokens=2, echo=True, stream=stream)
    parts = list(said) if stream else [said]

    assert "a b ca b" == "".join(part.choices[0].text for part in parts)
    assert "length" == parts[-1].choices[0].finish_reason


def test_completions_of_several_prompts(site: Site) -> None:
    """In their order, each so many times."""
    said = site.openai.completions.create(model="echo", prompt=["a", "b"], n=2)

    assert [(0, "a"), (1, "a"), (2, "b"), (3, "b")] == [(choice.index, choice.text) for choice in said.choices]


def test_embeddings(site: Site) -> None:
    """As numbers, and in the form that the client asks for by itself: base64 of single precision."""
    texts = ["one two", "three"]
    found = site.openai.embeddings.create(model="echo", input=texts)
    plain = site.post("/v1/embeddings", model="echo", input=texts).json()
    packed = site.post("/v1/embeddings", model="echo", input=texts, encoding_format="base64").json()

    assert [row["embedding"] for row in plain["data"]] == [row.embedding for row in found.data]
    first = base64.b64decode(packed["data"][0]["embedding"])
    assert plain["data"][0]["embedding"] == pytest.approx(struct.unpack(f"<{len(first) // 4}f", first))
    assert 3 == plain["usage"]["prompt_tokens"]


# --- errors ------------------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "at least 1"),
    ({"messages": "hi"}, "messages", "valid list"),
    ({"messages": [{"role": "user"}]}, "messages.0", "has content"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role", "'system'"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0", "'text'"),
    ({"temperature": -1}, "temperature", "greater than or equal to 0"),
    ({"temperature": "hot"}, "temperature", "valid number"),
    ({"temperature": True}, "temperature", "valid number"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": 1.5}, "n", "valid integer"),
    ({"n": 10**6}, "n", "less than or equal to 128"),
    ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 2**63}, "max_tokens", "less than or equal to"),
    ({"seed": 2**64}, "seed", "less than"),
    ({"stop": [""]}, "stop", "at least 1"),
    ({"logit_bias": {"a": 1}}, "logit_bias", "pattern"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", "less than or equal to 100"),
    ({"top_logprobs": 2}, None, "only where logprobs is true"),  # type: ignore[list-item]
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ({"stream_options": {}}, None, "only where stream is true"),  # type: ignore[list-item]
    ({"max_tokens": 3, "max_completion_tokens": 4}, None, "give one"),  # type: ignore[list-item]
    ({"tool_choice": "required"}, None, "there are no tools"),  # type: ignore[list-item]
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, None, "no tool 'x'"),  # type: ignore[list-item]
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "pattern"),
    ({"response_format": {"type": "xml"}}, "response_format", "'text'"),
    ({"temprature": 1}, "temprature", "did you mean temperature?"),
    ({"xyz": 1}, "xyz", "there is no such field"),
    ({"": 1}, None, "there is no field ''"),  # type: ignore[list-item]
    ({"a\nb": 1}, None, "there is no field 'a\\nb'"),  # type: ignore[list-item]
    ({"model": ""}, "model", "at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "why"), BAD, ids=lambda value: str(value)[:40])
def test_bad_requests(site: Site, fields: dict[str, Any], param: str | None, why: str) -> None:
    """One error in OpenAI's form, which names the field and what would be right."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "x"}]} | fields
    response = site.post("/v1/chat/completions", **body)
    error = response.json()["error"]

    assert (400, "invalid_request_error") == (response.status_code, error["type"])
    assert why in error["message"]
    assert (error["param"] or "").startswith(param or "")


HOSTILE: list[tuple[bytes, int]] = [
    (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b"[" * 100_000, 400), (b'{"a":' * 100_000, 400),
    (b'{"model": "echo", "n": ' + b"9" * 1_000_000 + b"}", 400), (b"\xff\xfe", 400),
    (b'{"model": "echo", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}', 400),
    (b'{"model": "echo", "temperature": 1e400, "messages": [{"role": "user", "content": "x"}]}', 400),
    (b'{"model": "echo", "temperature": -Infinity, "messages": [{"role": "user", "content": "x"}]}', 400),
    (b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}', 400),
    (b'{"model": "../../etc", "messages": [{"role": "user", "content": "x"}]}', 404),
    (b"{" + b",".join(b'"%d": 1' % key for key in range(100_000)) + b"}", 400),
    (b" " * 9_000_000, 413),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), HOSTILE, ids=lambda value: repr(value)[:40])
def test_hostile_bodies(site: Site, body: bytes, status: int) -> None:
    """Each is one error in OpenAI's form, and the server goes on."""
    headers = {"content-type": "application/json"}
    response = site.http.post("/v1/chat/completions", content=body, headers=headers)

    assert status == response.status_code, response.text[:500]
    assert {"message", "type", "param", "code"} == set(response.json()["error"])
    assert len(response.content) < 2000
    assert "ok" == site.http.get("/health").json()["status"]


def test_a_text_that_is_no_unicode(site: Site) -> None:
    """Half of a pair is refused by whoever cannot read it, or echoed; nothing breaks."""
    body = b'{"model": "echo", "messages": [{"role": "user", "content": "a \\ud800"}]}'
    response = site.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})

    assert response.status_code in (200, 400)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (KernelBug("in /secret/path"), 500, None),
        (ExecutorCrashed("out of luck", model="echo"), 503, "unavailable"),
        (Overloaded("later", retry_after=2.1), 429, "overloaded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_have_a_status(error: Exception, status: int, code: str | None, stream: bool) -> None:
    """Also for a stream, as long as nothing was sent; nothing of the machine is told."""
    echo = EchoBackend()
    echo.faults.row = (0, error)
    with serving(echo=echo) as site, pytest.raises(openai.APIStatusError) as caught:
        site.chat(stream=stream)

    told = caught.value.response
    assert (status, code) == (told.status_code, told.json()["error"]["code"])
    assert "secret" not in told.text
    if isinstance(error, Overloaded):
        assert "3" == told.headers["retry-after"]


def test_a_stream_that_breaks_says_so() -> None:
    """In an event, because the status was sent."""
    echo = EchoBackend()
    echo.faults.row = (2, ExecutorCrashed("out of luck", model="echo"))
    with serving(echo=echo) as site:
        pieces: list[str] = []
        with pytest.raises(openai.APIError, match="out of luck"):
            pieces.extend(chunk.choices[0].delta.content or "" for chunk in site.chat("one two three", stream=True))


def test_unknown_routes(site: Site) -> None:
    """Are errors of the same form."""
    response = site.http.get("/v1/absent")

    assert (404, "unknown_url") == (response.status_code, response.json()["error"]["code"])
    assert 405 == site.http.get("/v1/chat/completions").status_code


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": "127.0.0.1.evil.example"}, {"host": "["}],
)
def test_other_origins(site: Site, headers: dict[str, str]) -> None:
    """A page from elsewhere cannot use the server, nor can a name that points here."""
    assert 403 == site.http.get("/v1/models", headers=headers).status_code


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1:80", "[::1]"])
def test_names_of_this_machine(site: Site, name: str) -> None:
    """Are all right."""
    assert 200 == site.http.get("/v1/models", headers={"host": name}).status_code


def test_an_open_document(site: Site) -> None:
    """Describes every route."""
    paths = site.http.get("/openapi.json").json()["paths"]

    assert {"/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/health"} <= set(paths)


# --- load --------------------------------------------------------------------------------------------------------


def test_too_many_at_once() -> None:
    """One more than there are places is told when to try again; health is answered all the same."""
    echo = EchoBackend()
    echo.gate.shut()
    with serving(echo=echo, streams=1) as site:
        body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
        with httpx.Client(base_url=site.url) as first:
            answers: list[httpx.Response] = []
            asking = threading.Thread(
                target=lambda: answers.append(first.post("/v1/chat/completions", json=body, timeout=20))
            )
            asking.start()
            echo.gate.wait_for_visitor()
            refused = site.post("/v1/chat/completions", **body)
            healthy = site.http.get("/health")
            echo.gate.open()
            asking.join(20)

    assert (429, "1", 200) == (refused.status_code, refused.headers["retry-after"], healthy.status_code)
    assert [200] == [answer.status_code for answer in answers]


@pytest.mark.parametrize("stream", [False, True])
def test_a_reader_that_goes_frees_its_place(stream: bool) -> None:
    """The task is cancelled at the next step, also before anything was sent."""
    echo, recorder = EchoBackend(), Recorder()
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "a"}], "stream": stream}).encode()
    with serving(recorder, echo=echo) as site:
        echo.gate.shut()
        with socket.create_connection((site.http.base_url.host, site.http.base_url.port)) as reader:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {site.http.base_url.host}\r\n"
            reader.sendall(
                f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            echo.gate.wait_for_visitor()
        recorder.wait_for("task.cancelled", PATIENCE)

    ends = {"task.done", "task.failed", "task.cancelled"}
    assert ["task.cancelled"] == [event.name for event in recorder.events if event.name in ends]


def test_headers_without_an_end_are_refused(site: Site) -> None:
    """More than 64 KiB of them end the connection, whatever HTTP parsers are installed; others are served."""
    with socket.create_connection((site.http.base_url.host, site.http.base_url.port), PATIENCE) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 2**17)
        answer = client.recv(2**16)

    assert answer.startswith(b"HTTP/1.1 4")
    assert 200 == site.http.get("/health").status_code


def test_bytes_of_tokens_are_the_engines(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are those that the engine tells, not those of how it writes a part of a character."""
    entry = {"id": 1, "token": "\\xe7", "bytes": [0xE7], "logprob": 0.0}
    monkeypatch.setattr("llmos.testing._echo._certain", lambda token, piece: {**entry, "top": [entry]})
    (told,) = site.chat("one", logprobs=True, top_logprobs=1).choices[0].logprobs.content

    assert ("\\xe7", [0xE7]) == (told.token, told.bytes)
    assert [0xE7] == told.top_logprobs[0].bytes
