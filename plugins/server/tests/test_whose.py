"""What the holder of a wrong key gets of somebody else's: every route says here what that is.

The routes are those of the running application.  One that is not in `EXPECTED` fails, so whoever adds a route says
whose it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from llmos import Client, KeyRing
from llmos.testing import ScriptedPolicy
from llmos_kernel.errors import NotFound, PermissionDenied
from llmos_server.app import build
from llmos_server.guards import OPEN
from llmos_server.options import ServerOptions
from llmos_server.web import ASSETS
from plugins.server.tests.serving import Gauge, Site, bearer, ended_tasks, routes, serving, streaming
from plugins.server.tests.test_hostile import least

STRANGERS = ("eve", "mallory", "ulf")
"""Of another tenant: without a scope, with scopes that are almost the right one, and called like the owner."""


@attrs.frozen
class World:
    """A server on which Ann of the tenant acme has tasks and a response."""

    site: Site
    keys: dict[str, str]
    policy: ScriptedPolicy
    kept: str
    """Ann's response."""

    def ask(self, who: str, operation: str, body: Any = None, *, id: object = 0) -> httpx.Response:
        """Ask as the holder of one of the keys."""
        method, path = operation.split()
        path = path.replace("{name:path}", "echo").replace("{id}", str(id))
        return self.site.http.request(method, path, json=body, headers=bearer(self.keys[who]))

    def scheduled(self) -> list[tuple[str, str]]:
        """Return who scheduled what, name and tenant."""
        found = [action.principal for action in self.policy.actions if action.name == "schedule"]
        return [(who.name, who.tenant) for who in found]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all tests here, which leave it as it was."""
    ring, policy = KeyRing(tmp_path_factory.mktemp("keys")), ScriptedPolicy()
    scopes = {"boss": ("operator",), "mallory": ("admin", "operators", "Operator", "operator2")}
    tenants = {"ann": "acme", "ben": "acme", "eve": "evil", "mallory": "evil", "ulf": "ACME", "boss": "staff"}
    keys = {}
    for who, tenant in tenants.items():
        name = "ann" if who == "ulf" else who
        keys[who], _ = ring.create(name, tenant=tenant, scopes=scopes.get(who, ()), now=time.time())
    with serving(Gauge(), policy, ring=ring, local="keys") as site:
        body = {"model": "echo", "input": "one two three"}
        kept = site.http.post("/v1/responses", json=body, headers=bearer(keys["ann"])).json()["id"]
        ended_tasks(site, 1, **bearer(keys["ann"]))
        yield World(site, keys, policy, kept)


# --- what is expected --------------------------------------------------------------------------------------------

Expected = Callable[[World, str, str], None]
"""Checks what a stranger gets of an operation."""


def nobodys(world: World, operation: str, who: str) -> None:
    """It tells the same to everybody, and names nobody."""
    body = {"model": "echo"} if operation.startswith("POST") else None
    told = {one: world.ask(one, operation, body) for one in (who, "ann", "boss")}

    assert {200} == {answer.status_code for answer in told.values()}
    assert told[who].text == told["ann"].text == told["boss"].text
    assert "acme" not in told[who].text


def ones_own(world: World, operation: str, who: str) -> None:
    """It begins tasks of whoever asks, and the body cannot say otherwise."""
    path = operation.split()[1]
    before = len(world.scheduled())
    answer = world.ask(who, operation, least(path))

    assert 200 == answer.status_code, answer.text
    new = set(world.scheduled()[before:])
    assert {("ann", "ACME") if who == "ulf" else (who, "evil")} == new
    assert 400 == world.ask(who, operation, least(path) | {"tenant": "acme"}).status_code
    assert 400 == world.ask(who, operation, least(path) | {"principal": "ann"}).status_code


def ones_own_or_unloads(world: World, operation: str, who: str) -> None:
    """As `ones_own`; and what would unload a model for everybody is refused."""
    ones_own(world, operation, who)
    body = {"model": "echo", "keep_alive": 0}

    assert 403 == world.ask(who, operation, body).status_code
    assert "loaded" == world.ask("ann", "GET /v1/llmos/models/echo").json()["state"]


def goes_on_from_ones_own(world: World, operation: str, who: str) -> None:
    """As `ones_own`; and nobody goes on from another one's response."""
    ones_own(world, operation, who)
    body = {"model": "echo", "input": "go on", "previous_response_id": world.kept}
    answer = world.ask(who, operation, body)

    assert (400, "previous_response_id") == (answer.status_code, answer.json()["error"]["param"])


def a_response(world: World, operation: str, who: str) -> None:
    """To everybody else there is none: not to others of the tenant, and not to operators."""
    for other in (who, "ben", "boss"):
        assert 404 == world.ask(other, operation, id=world.kept).status_code

    assert 200 == world.ask("ann", "GET /v1/responses/{id}", id=world.kept).status_code


def a_task(world: World, operation: str, who: str) -> None:
    """To strangers there is none, as if nobody had it; the owner's goes on as it was."""
    body = {"priority": 9} if operation.startswith("PATCH") else None
    with streaming(world.site, **bearer(world.keys["ann"])):
        (before,) = live(world, "ann")
        refused, absent = (world.ask(who, operation, body, id=id) for id in (before["id"], 2**39))
        (after,) = live(world, "ann")

    assert [404, 404] == [refused.status_code, absent.status_code]
    assert refused.text == absent.text.replace(str(2**39), str(before["id"]))
    assert (before["state"], before["priority"]) == (after["state"], after["priority"])


def live(world: World, who: str) -> list[dict[str, Any]]:
    """Return the tasks that live, as somebody sees them."""
    found: list[dict[str, Any]] = world.ask(who, "GET /v1/llmos/tasks?state=live").json()["data"]
    return found


def tasks(world: World, operation: str, who: str) -> None:
    """Strangers see none of the owner's, which the operator does."""
    with streaming(world.site, **bearer(world.keys["ann"])):
        seen = {one: world.ask(one, f"{operation}?model=echo").json()["data"] for one in (who, "boss")}

    assert "acme" in {task["tenant"] for task in seen["boss"]}
    assert "acme" not in {task["tenant"] for task in seen[who]}


def stats(world: World, operation: str, who: str) -> None:
    """Latency and history are of tasks that one may see: the owner's count for the operator alone.

    What the scope allows is told as `unloads`, `reasons` and `operators` find it.
    """
    counts = [world.ask(one, operation).json() for one in (who, "boss")]

    assert [False, True] == [told["you"]["operator"] for told in counts]
    allowed = ("unload", "reasons", "evaluations")
    assert [dict.fromkeys(allowed, False), dict.fromkeys(allowed, True)] == [told["you"]["may"] for told in counts]
    mine, all_of_them = (told["latency"]["whole"]["count"] for told in counts)
    assert mine < all_of_them


def events(world: World, operation: str, who: str) -> None:
    """As `stats`; the rates count nobody else's tasks."""
    with streaming(world.site, **bearer(world.keys["ann"])):
        running = [first(world, one)["rates"]["running"] for one in (who, "boss")]

    assert [0, 1] == running


def first(world: World, who: str) -> dict[str, Any]:
    """Return the first event that somebody is told."""
    with world.site.http.stream("GET", "/v1/llmos/events", headers=bearer(world.keys[who])) as response:
        line = next(line for line in response.iter_lines() if line.startswith("data: "))
        found: dict[str, Any] = json.loads(line[6:])
        return found


def models(world: World, operation: str, who: str) -> None:
    """Models are everybody's, but their speed is measured by tasks that one may see, and no file is named."""
    found = [world.ask(one, operation).json() for one in (who, "boss")]
    told = [answer["data"][0] if "data" in answer else answer for answer in found]

    assert ["echo", "echo"] == [facts["name"] for facts in told]
    assert told[0]["speed"]["tasks"] < told[1]["speed"]["tasks"]
    assert "" == told[0]["why"]
    assert not {"path", "options"} & told[0].keys()


def loads(world: World, operation: str, who: str) -> None:
    """Whoever may ask a model anything may have it loaded."""
    assert 202 == world.ask(who, operation).status_code


def unloads(world: World, operation: str, who: str) -> None:
    """Everybody would wait for the model again, so that is for operators."""
    for other in (who, "ann"):
        assert 403 == world.ask(other, operation).status_code

    assert "loaded" == world.ask("ann", "GET /v1/llmos/models/echo").json()["state"]


def reasons(world: World, operation: str, who: str) -> None:
    """They may name files, so they are for operators."""
    found = [world.ask(one, operation).json()["data"] for one in (who, "boss")]

    assert {("", "")} == {(one["why"], one["value"]) for one in found[0]}
    assert "" not in {one["value"] for one in found[1]}


def operators(world: World, operation: str, who: str) -> None:
    """Everybody but an operator is refused, and told which scope it takes."""
    answer = world.ask(who, operation)

    assert 403 == answer.status_code
    assert "operator" in answer.json()["error"]["message"]
    assert 200 == world.ask("boss", operation).status_code


def measurements(world: World, operation: str, who: str) -> None:
    """An observer is asked for those of the tenant."""
    told = [world.ask(one, operation).text.split()[-1] for one in (who, "ann", "boss")]

    assert ["ACME" if who == "ulf" else "evil", "acme", "None"] == told


def a_session(world: World, operation: str, who: str) -> None:
    """Over the socket a stranger sees and steers no other tenant's tasks, and manages nothing."""
    with streaming(world.site, **bearer(world.keys["ann"])), Client(world.site.url, token=world.keys[who]) as client:
        (task,) = live(world, "ann")
        assert [] == client.control("ListTasks")
        for message in ("InspectTask", "CancelTask"):
            with pytest.raises(NotFound):
                client.control(message, task["id"])
        with pytest.raises(NotFound):
            client.control("Reprioritise", task["id"], 9)
        for message, *args in (("Drain",), ("Reload", "echo"), ("UnloadModel", "echo")):
            with pytest.raises(PermissionDenied, match="operator"):
                client.control(message, *args)
        assert [task["id"]] == [one["id"] for one in live(world, "ann")]


EXPECTED: dict[str, Expected] = {
    "GET /ready": nobodys, "GET /openapi.json": nobodys, "GET /v1/models": nobodys,
    "GET /v1/models/{name:path}": nobodys, "GET /api/version": nobodys, "GET /api/tags": nobodys,
    "GET /api/ps": nobodys, "POST /api/show": nobodys, "HEAD /openapi.json": nobodys,
    "POST /v1/chat/completions": ones_own, "POST /v1/completions": ones_own, "POST /v1/embeddings": ones_own,
    "POST /api/embed": ones_own, "POST /api/embeddings": ones_own, "POST /v1/llmos/schedule": ones_own,
    "POST /api/generate": ones_own_or_unloads, "POST /api/chat": ones_own_or_unloads,
    "POST /v1/responses": goes_on_from_ones_own, "GET /v1/responses/{id}": a_response,
    "DELETE /v1/responses/{id}": a_response,
    "GET /v1/llmos/tasks": tasks, "POST /v1/llmos/tasks/{id}/cancel": a_task, "PATCH /v1/llmos/tasks/{id}": a_task,
    "GET /v1/llmos/stats": stats, "GET /v1/llmos/events": events,
    "GET /v1/llmos/models": models, "GET /v1/llmos/models/{name:path}": models,
    "POST /v1/llmos/models/{name:path}/load": loads, "POST /v1/llmos/models/{name:path}/unload": unloads,
    "GET /v1/llmos/plugins": reasons, "GET /v1/llmos/evaluations": operators, "GET /metrics": measurements,
    "WEBSOCKET /v1/llmos/socket": a_session,
}  # fmt: skip
"""What a stranger gets, by operation; what is in `OPEN` asks nobody for a key."""


def test_every_route_says_whose_it_is(world: World) -> None:
    """A new one, or one more method of a path, is in `EXPECTED`, or it is a file of the dashboard."""
    answered = {f"{method} {path}" for method, path in routes(world.site.app) if path not in OPEN}

    assert EXPECTED.keys() == answered
    assert {"/health", *ASSETS} == OPEN


def test_a_route_that_says_nothing_is_found() -> None:
    """Those of the application itself are all looked at, however they came to it."""
    app = build(lambda who: who, ServerOptions())  # type: ignore[arg-type, return-value]
    before = routes(app)
    app.add_api_route("/new", lambda: None, methods=["PUT"], include_in_schema=False)

    assert {("PUT", "/new")} == routes(app) - before


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("operation", EXPECTED)
def test_strangers(world: World, operation: str, who: str) -> None:
    """Each with each kind of wrong key."""
    EXPECTED[operation](world, operation, who)


def test_operators_unload(tmp_path: Path) -> None:
    """By each of the three ways, and so does who needs no key."""
    ring = KeyRing(tmp_path)
    key, _ = ring.create("boss", tenant="staff", scopes=("operator",), now=time.time())
    for headers, token in ((bearer(key), key), ({}, None)):
        with serving(ring=ring) as site, Client(site.url, token=token) as client:
            site.chat()
            unloaded = site.http.post("/v1/llmos/models/echo/unload", headers=headers)
            assert (200, "unloaded") == (unloaded.status_code, unloaded.json()["state"])
            site.chat()
            body = {"model": "echo", "prompt": "", "keep_alive": 0}
            assert 200 == site.http.post("/api/generate", json=body, headers=headers).status_code
            site.chat()
            assert "unloaded" == client.control("UnloadModel", "echo")["state"]
