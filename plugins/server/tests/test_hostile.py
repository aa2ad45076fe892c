"""Requests of somebody who means harm: each is one typed error, soon, and the server still answers.

Every numeric field of every body is found in the models that check the bodies, so a new one is tried by itself.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import annotated_types
import httpx
import pytest
from pydantic import BaseModel

from llmos_server.app import ROUTERS
from plugins.server.tests.serving import Site

JSON = {"content-type": "application/json"}
ILL = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", str(2**63), str(-(2**63) - 1), "9" * 5000, '"1"', "true",
       "[1]", "{}", "1e1000000")  # fmt: skip
"""As JSON; each is wrong wherever a number is wanted whose range has an end."""
PLACES = ("body", "path")


def bodies() -> list[tuple[str, type[BaseModel]]]:
    """Return path and model of every route that takes a body."""
    found = []
    for router in ROUTERS:
        for route in router.routes:
            endpoint: Any = getattr(route, "endpoint", None)
            body = typing.get_type_hints(endpoint).get("body") if endpoint else None
            if isinstance(body, type) and issubclass(body, BaseModel):
                found.append((getattr(route, "path", ""), body))
    return found


def numbers(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where there are numbers in *model*, and in the models within it."""
    for name, field in model.model_fields.items():
        for kind, within in kinds(field.annotation):
            if within:
                continue
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from numbers(kind, (*prefix, name))
            elif kind in (int, float):
                yield (*prefix, name)


def kinds(annotation: Any, *, within: bool = False) -> Iterator[tuple[Any, bool]]:
    """Yield the plain kinds of *annotation*, and whether each is within a list or a mapping."""
    origin = typing.get_origin(annotation)
    if origin is None:
        yield annotation, within
    for one in typing.get_args(annotation):
        if not isinstance(one, annotated_types.BaseMetadata):
            yield from kinds(one, within=within or origin in (list, dict))


NUMBERS = sorted({(path, where) for path, model in bodies() for where in numbers(model)})
LEAST: dict[str, Any] = {
    "model": "echo", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "priority": 0,
    "kind": "generate",
}  # fmt: skip


def least(path: str) -> dict[str, Any]:
    """Return the smallest body that *path* takes."""
    model = dict(bodies())[path]
    return {name: LEAST[name] for name in model.model_fields if name in LEAST}


def send(site: Site, path: str, content: bytes | str) -> httpx.Response:
    """Send the body as it is; whatever comes back, the server must still answer."""
    method = "PATCH" if "{id}" in path else "POST"
    url = path.replace("{id}", "1").replace("{name:path}", "echo")
    response = site.http.request(method, url, content=content, headers=JSON)
    assert 200 == site.http.get("/health").status_code
    assert response.status_code == 200 or len(response.content) < 2000
    return response


def refused(site: Site, path: str, content: bytes | str, status: int = 400) -> str:
    """Send what must be refused, in the form of the API; return what is said."""
    response = send(site, path, content)
    assert status == response.status_code, response.text
    error = response.json()["error"]
    return str(error if path.startswith("/api/") else error["message"])


def test_numbers_are_found() -> None:
    """Those of every API, also where they are within other fields."""
    assert ("/v1/chat/completions", ("temperature",)) in NUMBERS
    assert ("/api/chat", ("options", "num_ctx")) in NUMBERS
    assert ("/v1/llmos/tasks/{id}", ("priority",)) in NUMBERS
    assert len(NUMBERS) > 60


@pytest.mark.parametrize(("path", "where"), NUMBERS, ids=str)
def test_every_number(site: Site, path: str, where: tuple[str, ...]) -> None:
    """What is no finite number of the range is refused by the name of the field, however it is written."""
    for ill in ILL:
        if where[-1] == "keep_alive" and ill == '"1"':
            continue  # Ollama's clients write durations so
        body: dict[str, Any] = least(path)
        inner = body
        for name in where[:-1]:
            inner = inner.setdefault(name, {})
        inner[where[-1]] = "HERE"
        said = refused(site, path, json.dumps(body).replace('"HERE"', ill))
        if not ill.startswith("9999"):  # Python reads no integer of so many digits, wherever it stands
            assert where[-1] in said, (ill, said)


# --- shapes of JSON ----------------------------------------------------------------------------------------------

DEEP = 100_000
CHAT = "/v1/chat/completions"


def chat(**more: str) -> str:
    """Return a chat's body with fields that are JSON already."""
    fields = {"model": '"echo"', "messages": '[{"role": "user", "content": "x"}]', **more}
    return "{" + ",".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def tool(parameters: str) -> str:
    """Return a list of one tool."""
    return '[{"type": "function", "function": {"name": "f", "parameters": ' + parameters + "}}]"


def form(schema: str) -> str:
    """Return a form of the answer."""
    return '{"type": "json_schema", "json_schema": {"name": "f", "schema": ' + schema + "}}"


SHAPES = {
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep parameters": chat(tools=tool('{"a":' * DEEP + "1" + "}" * DEEP)),
    "deep form": chat(response_format=form('{"a":' * DEEP + "1" + "}" * DEEP)),
    "a million keys": "{" + ",".join(f'"{key}":1' for key in range(500_000)) + "}",
    "a million values": chat(metadata="{" + ",".join(f'"{key}":1' for key in range(500_000)) + "}"),
    "a million parts": chat(messages='[{"role": "user", "content": [' + "1," * 1_000_000 + "1]}]"),
    "a million messages": chat(messages="[" + "1," * 3_000_000 + "1]"),
    "a million tools": chat(tools="[" + "{}," * 2_000_000 + "{}]"),
    "a million stops": chat(stop="[" + "1," * 3_000_000 + "1]"),
    "a million tokens": chat(logit_bias="{" + ",".join(f'"{key}":-101' for key in range(500_000)) + "}"),
    "an integer of 5 MB": chat(n="9" * 5_000_000),
    "a float of 5 MB": chat(temperature="1." + "1" * 5_000_000 + "e999999"),
    "a name of 5 MB": '{"' + "x" * 5_000_000 + '": 1}',
    "a model of 5 MB": chat(model='"' + "x" * 5_000_000 + '"'),
    "lone surrogates": '{"model": "\\ud800", "messages": [{"role": "\\udfff", "content": "\\ud800"}]}',
    "a lone surrogate as a field": chat(**{"\\ud800": "1"}),
    "no object": '"text"',
    "two values": "{} {}",
    "a comment": "{/* */}",
    "UTF-16": '{"model": "echo"}',
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(site: Site, name: str) -> None:
    """JSON that costs more to read than to send is refused, and so is what is none."""
    text = SHAPES[name]
    content = text.encode("utf-16") if name == "UTF-16" else text.encode()

    refused(site, CHAT, content)


@pytest.mark.parametrize("part", ["messages", "tools", "response_format", "stop", "metadata", "user"])
def test_lone_surrogates(site: Site, part: str) -> None:
    """Half of a character is taken, or refused; nothing breaks, and the answer is JSON."""
    half = '"\\ud800"'
    given = {
        "messages": '[{"role": "user", "content": ' + half + "}]", "tools": tool('{"title": ' + half + "}"),
        "response_format": form('{"title": ' + half + "}"), "stop": half, "metadata": '{"a": ' + half + "}",
        "user": half,
    }  # fmt: skip
    response = send(site, CHAT, chat(**{part: given[part]}))

    assert response.status_code in (200, 400)
    assert response.json()


BOMB = {
    "$defs": {f"d{depth}": {"type": "object", "properties": {
        side: {"$ref": f"#/$defs/d{depth + 1}"} for side in ("a", "b", "c", "d")}} for depth in range(20)
    } | {"d20": {"type": "string"}}, "$ref": "#/$defs/d0",
}  # fmt: skip


@pytest.mark.parametrize(
    "schema",
    [BOMB, {"$ref": "#"}, {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
     {"type": "string", "pattern": "(a+)+$"}, {"type": "string", "minLength": 2**62}, {"enum": ["x" * 1000] * 1000},
     {"$ref": "https://evil.example/schema"}, {"$ref": "file:///etc/passwd"}],
    ids=lambda schema: str(schema)[:30],
)  # fmt: skip
@pytest.mark.parametrize("where", ["response_format", "tools"])
def test_forms_that_explode(site: Site, schema: dict[str, Any], where: str) -> None:
    """The server passes a form on as it is: it neither unfolds nor fetches what it refers to."""
    text = json.dumps(schema)
    given = {where: form(text) if where == "response_format" else tool(text)}

    assert 200 == send(site, CHAT, chat(**given, tool_choice='"auto"')).status_code


# --- counts ------------------------------------------------------------------------------------------------------


def test_one_token_over_the_context(site: Site) -> None:
    """Is refused and says how many there are; one that just fits is answered."""
    body = {"model": "toy", "max_tokens": 1}
    fits = send(site, "/v1/completions", json.dumps(body | {"prompt": " ".join(["w"] * 4095)}))
    said = refused(site, "/v1/completions", json.dumps(body | {"prompt": " ".join(["w"] * 4096)}))

    assert 200 == fits.status_code
    assert "4096" in said


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"max_tokens": 0}), ("/v1/completions", {"max_tokens": 0}),
        ("/v1/responses", {"max_output_tokens": 0}), ("/api/generate", {"options": {"num_predict": 0}}),
        ("/v1/completions", {"prompt": []}), ("/v1/embeddings", {"input": []}), ("/v1/responses", {"input": []}),
        ("/v1/chat/completions", {"messages": []}),
    ],
)  # fmt: skip
def test_nothing_asked(site: Site, path: str, body: dict[str, Any]) -> None:
    """No tokens and an empty batch are the caller's errors."""
    refused(site, path, json.dumps(least(path) | body))


@pytest.mark.parametrize("path", sorted({path for path, _ in bodies()}))
def test_who_asks_is_not_said_in_the_body(site: Site, path: str) -> None:
    """No body has a field for a tenant, a principal or rights."""
    for name in ("tenant", "principal", "rights", "scopes", "key"):
        said = refused(site, path, json.dumps(least(path) | {name: "acme"}))
        assert "there is no such field" in said


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "echo\x00", "C:\\x", "http://evil.example", "~"])
def test_a_model_is_no_path(site: Site, name: str) -> None:
    """What looks like one is a name that nobody has; nothing is opened."""
    said = refused(site, CHAT, json.dumps(least(CHAT) | {"model": name}), status=404)

    assert "there is no model" in said
