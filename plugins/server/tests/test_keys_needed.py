"""Who may come: every route without a key, with each kind of wrong one, and with the right one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import websockets.sync.client as ws
from websockets.exceptions import InvalidStatus

from llmos import KeyRing
from llmos_kernel import Action, Decision, Policy
from llmos_kernel.errors import ConfigError, InvalidArgument
from llmos_server.app import build
from llmos_server.guards import OPEN
from llmos_server.options import ServerOptions
from plugins.server.tests.serving import PATIENCE, Site, routes, serving

LONG_AGO = 1000.0
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@attrs.frozen
class Door:
    """A server that asks for keys, and some keys."""

    site: Site
    ring: KeyRing
    right: str
    wrong: dict[str, str | None]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One for all tests here."""
    ring = KeyRing(tmp_path_factory.mktemp("keys"))
    right, _ = ring.create("ann", tenant="acme", now=time.time())
    expired, _ = ring.create("old", tenant="acme", now=LONG_AGO, lifetime=60)
    revoked, key = ring.create("gone", tenant="acme", now=time.time())
    ring.revoke(key.number)
    elsewhere, _ = KeyRing(tmp_path_factory.mktemp("others")).create("eve", tenant="acme", now=time.time())
    wrong = {
        "none": None, "empty": "", "no scheme": right, "another scheme": f"Basic {right}", "no key": "Bearer",
        "hardly any": "Bearer x", "an invented one": "Bearer llmos-0123456789ab-xxxx", "not ours": "Bearer sk-1234",
        "cut": f"Bearer {right[:-1]}", "longer": f"Bearer {right}x", "upper case": f"Bearer {right.upper()}",
        "expired": f"Bearer {expired}", "revoked": f"Bearer {revoked}", "of another server": f"Bearer {elsewhere}",
        "two in one": f"Bearer {right}, Bearer {right}",
    }  # fmt: skip
    with serving(ring=ring, local="keys") as site:
        yield Door(site, ring, right, wrong)


def refused(site: Site, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, str]:
    """Return status, what is said, and the scheme that is asked for."""
    path = path.replace("{name:path}", "echo").replace("{id}", "1")
    if method == "WEBSOCKET":
        address = f"ws{site.url.removeprefix('http')}{path}"
        with pytest.raises(InvalidStatus) as caught:
            ws.connect(address, additional_headers=headers, proxy=None, open_timeout=PATIENCE)
        answer = caught.value.response
        status, body, scheme = answer.status_code, bytes(answer.body), answer.headers["www-authenticate"]
    else:
        response = site.http.request(method, path, headers=headers)
        status, body, scheme = response.status_code, response.content, response.headers["www-authenticate"]
    if method == "HEAD":
        return status, "", scheme
    error = json.loads(body)["error"]
    return status, error if path.startswith("/api/") else error["message"], scheme  # Ollama's errors are one sentence


def test_every_route_asks_for_a_key(door: Door) -> None:
    """Whatever is wrong with the key, and also by methods and paths that there are not: the refusal is the same."""
    asked = {(method, path) for method, path in routes(door.site.app) if path not in OPEN}
    absent = {(method, path) for method in METHODS for path in ("/absent", *(path for _, path in asked))} - asked
    ways = [{} if value is None else {"authorization": value} for value in door.wrong.values()]
    said = {refused(door.site, *one, headers) for one in asked for headers in ways}
    said |= {refused(door.site, *one, {}) for one in absent}
    said = {(status, told, scheme) for status, told, scheme in said if told or (status, scheme) != (401, "Bearer")}

    assert {("POST", "/v1/llmos/schedule"), ("WEBSOCKET", "/v1/llmos/socket")} < asked
    assert 1 == len(said)
    ((status, message, scheme),) = said
    assert (401, "Bearer") == (status, scheme)
    assert "missing, wrong, expired or revoked" in message


def test_who_needs_no_key(door: Door) -> None:
    """The answers of the few open routes are the same with none and with a wrong one."""
    for method, path in routes(door.site.app):
        if path in OPEN:
            for value in ("Bearer x", door.wrong["expired"] or ""):
                assert 200 == door.site.http.request(method, path, headers={"authorization": value}).status_code
            assert 200 == door.site.http.request(method, path).status_code


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_key_opens(door: Door, scheme: str) -> None:
    """However the scheme is spelt."""
    response = door.site.http.get("/v1/models", headers={"authorization": f"{scheme} {door.right}"})

    assert 200 == response.status_code


def test_two_keys_are_none(door: Door) -> None:
    """A header that is there twice could mean one thing here and another to a proxy."""
    headers = [("authorization", f"Bearer {door.right}")] * 2

    assert 401 == door.site.http.get("/v1/models", headers=headers).status_code


def test_revoking_counts_at_once(door: Door) -> None:
    """The next request is refused."""
    shown, key = door.ring.create("bob", tenant="acme", now=time.time())
    headers = {"authorization": f"Bearer {shown}"}
    assert 200 == door.site.http.get("/v1/models", headers=headers).status_code
    door.ring.revoke(key.number)

    assert [401, 401] == [door.site.http.get("/v1/models", headers=headers).status_code for _ in range(2)]


def test_what_is_kept_is_the_holders_own(door: Door) -> None:
    """Another key of the same tenant, or of another one, neither sees, deletes nor goes on from a response."""
    mine = {"authorization": f"Bearer {door.right}"}
    body = {"model": "echo", "input": "one"}
    kept = door.site.http.post("/v1/responses", json=body, headers=mine).json()["id"]
    for tenant in ("acme", "other"):
        shown, _ = door.ring.create("eve", tenant=tenant, now=time.time())
        hers = {"authorization": f"Bearer {shown}"}
        on = door.site.http.post("/v1/responses", json=body | {"previous_response_id": kept}, headers=hers)
        found = [door.site.http.request(verb, f"/v1/responses/{kept}", headers=hers) for verb in ("GET", "DELETE")]
        assert [400, 404, 404] == [on.status_code, *(answer.status_code for answer in found)]
        assert "there is no response" in on.json()["error"]["message"]

    assert 200 == door.site.http.get(f"/v1/responses/{kept}", headers=mine).status_code


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION", "aUtHoRiZaTiOn"])
def test_names_of_headers_have_no_case(door: Door, name: str) -> None:
    """As HTTP has it (RFC 9110, section 5.1)."""
    assert 200 == door.site.http.get("/v1/models", headers={name: f"Bearer {door.right}"}).status_code


class Witness(Policy):
    """Remembers who scheduled."""

    name = "witness"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def check(self, action: Action) -> Decision:
        """Note it."""
        if action.name == "schedule":
            self.seen.append((action.principal.name, action.principal.tenant))
        return Decision.ABSTAIN


def test_the_kernel_knows_who_comes(tmp_path: Path) -> None:
    """From the key alone: what a body says of its user changes nothing.  Without a key it is who is here."""
    ring, witness = KeyRing(tmp_path), Witness()
    shown, _ = ring.create("ann", tenant="acme", now=time.time())
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "user": "root"}
    with serving(witness, ring=ring) as site:
        for headers in ({"authorization": f"Bearer {shown}"}, {"authorization": "Bearer anything"}, {}):
            site.http.post("/v1/chat/completions", json=body, headers=headers).raise_for_status()
        refused = site.http.post("/v1/chat/completions", json=body | {"tenant": "acme"})

    assert [("ann", "acme"), ("local", "local"), ("local", "local")] == witness.seen
    assert 400 == refused.status_code


@pytest.mark.parametrize("options", [{"host": "10.1.2.3"}, {"host": "192.168.1.1"}, {"local": "keys"}])
def test_nobody_could_come_in(tmp_path: Path, options: dict[str, Any]) -> None:
    """A server that asks for keys does not start without one, and says how to make it."""
    for ring in (None, KeyRing(tmp_path)):
        with pytest.raises(ConfigError, match="llmos keys create NAME"):
            build(lambda who: None, ServerOptions(**options), ring)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"host": 7}, "host"), ({"port": -1}, "port"), ({"port": 65536}, "port"), ({"port": "x"}, "port"),
        ({"local": "maybe"}, "local"), ({"body": 0}, "body"), ({"streams": 0}, "streams"),
        ({"seconds": float("nan")}, "seconds"), ({"socket": "/absent/folder/s"}, "socket"),
    ],
)  # fmt: skip
def test_wrong_options(options: dict[str, Any], field: str) -> None:
    """Each is named."""
    with pytest.raises(InvalidArgument) as caught:
        ServerOptions(**options)

    assert field == caught.value.fields["field"]
