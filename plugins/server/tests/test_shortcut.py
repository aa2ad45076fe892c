"""The short way to routes answers as the framework's way does, good requests and others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llmos_server.app import ROUTERS
from llmos_server.shortcut import takers
from plugins.server.tests.serving import Site, serving

SAID = [{"role": "user", "content": "one two"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": SAID},
    "/v1/completions": {"prompt": "one two"},
    "/v1/embeddings": {"input": "one two"},
    "/v1/responses": {"input": "one two"},
    "/v1/llmos/schedule": {"kind": "generate", "input": "one two"},
    "/api/chat": {"messages": SAID, "stream": False},
    "/api/generate": {"prompt": "one two", "stream": False},
    "/api/embed": {"input": "one two"},
    "/api/embeddings": {"prompt": "one two"},
    "/api/show": {},
}
SHORT, LONG = "application/json", "application/json; charset=utf-8"
"""What a client says its body is; what is not exactly the first takes the framework's way."""
PASSING = {"id", "item_id", "created", "created_at", "completed_at", "task", "usage"}
"""What differs from one answer to the next: names and times."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Serve echo models."""
    with serving() as site:
        yield site


def stays(value: Any) -> Any:
    """Return *value* without what differs from one answer to the next."""
    if isinstance(value, dict):
        return {key: stays(part) for key, part in value.items() if key not in PASSING and not key.endswith("_duration")}
    return [stays(part) for part in value] if isinstance(value, list) else value


def ask(site: Site, path: str, content: bytes, kind: str) -> tuple[int, str, list[Any]]:
    """Return status, type and what stays of the answer: a value, lines of them, or events."""
    response = site.http.post(path, content=content, headers={"content-type": kind})
    lines = [line.removeprefix("data: ") for line in response.text.splitlines()]
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return response.status_code, response.headers["content-type"], [stays(one) for one in told]


def test_which() -> None:
    """Every route that takes a body and answers for itself, and no other."""
    assert set(BODIES) == {path for path, _ in takers(route for router in ROUTERS for route in router.routes)}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "change",
    [
        {}, {"model": "parrot"}, {"model": "absent"}, {"model": ""}, {"model": 5}, {"model": None}, {"x": 1},
        {"stream": True}, {"stream": "yes"}, {"max_tokens": 1}, {"temperature": 1e999}, {"seed": 2**70},
        {f"field_{number}": 0 for number in range(5000)},
    ],
    ids=lambda change: str(change)[:30],
)  # fmt: skip
def test_both_ways(site: Site, path: str, change: dict[str, Any]) -> None:
    """Whatever the body says."""
    content = json.dumps({"model": "echo", **BODIES[path], **change}).encode()
    short, long = ask(site, path, content, SHORT), ask(site, path, content, LONG)

    assert long == short
    if not change:
        assert 200 == short[0]


@pytest.mark.parametrize("kinds", [["text/plain", SHORT], [SHORT, "text/plain"], ["text/plain"], [""]], ids=str)
def test_a_body_of_another_kind(site: Site, kinds: list[str]) -> None:
    """Is for the framework to judge, also where it is said to be JSON besides."""
    content = json.dumps({"model": "echo", "prompt": "one"}).encode()
    headers = [("content-type", kind) for kind in kinds]
    told = site.http.post("/v1/completions", content=content, headers=headers).status_code

    assert (200 if kinds[0] == SHORT else 400) == told


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b"[" * 5000, b'{"model": NaN}'], ids=repr
)
def test_what_is_no_such_body(site: Site, path: str, content: bytes) -> None:
    """Is refused alike, by one typed error."""
    short, long = ask(site, path, content, SHORT), ask(site, path, content, LONG)

    assert long == short
    assert 400 == short[0]
    assert {"error"} == set(short[2][0])
