"""Who may open the socket of remote clients, and what becomes of who says something else there."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets.sync.client as ws
from websockets.exceptions import ConnectionClosed, InvalidStatus

from llmos import Client, KeyRing, wire
from llmos_kernel import Task, control
from llmos_kernel.errors import (
    HandleRevoked, InvalidArgument, KernelError, Overloaded, PermissionDenied, PluginIncompatible,
)  # fmt: skip
from plugins.server.tests.serving import PATIENCE, Site, bearer, serving

SERVER = msgspec.msgpack.Decoder(wire.FromServer)


def url(site: Site) -> str:
    """Return the address of the socket."""
    return f"ws{site.url.removeprefix('http')}/v1/llmos/socket"


def dial(site: Site, **headers: str) -> ws.ClientConnection:
    """Open the socket as anybody may."""
    return ws.connect(url(site), additional_headers=headers, compression=None, proxy=None, open_timeout=PATIENCE)


def refusal(stranger: ws.ClientConnection) -> KernelError:
    """Read until the server says why it ends the connection, which it then does."""
    while True:
        frame = wire.decode(stranger.recv(PATIENCE), SERVER)  # type: ignore[arg-type]
        if isinstance(frame, wire.Refused):
            break
    with pytest.raises(ConnectionClosed):
        stranger.recv(PATIENCE)
    error: KernelError = wire.unpack(frame.error, lambda facts: facts)
    return error


def test_keys(tmp_path: Path) -> None:
    """A server that asks for keys has none come in without one, and knows the holder by it alone."""
    ring = KeyRing(tmp_path)
    right, key = ring.create("ann", tenant="acme", now=time.time(), scopes=("operator",))
    expired, _ = ring.create("old", tenant="acme", now=1000.0, lifetime=60)
    with serving(ring=ring, local="keys") as site:
        for wrong in ({}, {"Authorization": ""}, {"Authorization": f"Bearer {expired}"}, {"Authorization": right}):
            with pytest.raises(InvalidStatus) as caught:
                dial(site, **wrong)
            assert 401 == caught.value.response.status_code
        for token in (None, "x", expired):
            with pytest.raises(PermissionDenied, match="401"):
                Client(site.url, token=token)
        with Client(site.url, token=right) as client:
            who = client.process.principal
            assert ("ann", "acme", frozenset({"operator"})) == (who.name, who.tenant, who.scopes)
        ring.revoke(key.number)
        with pytest.raises(PermissionDenied, match="401"):
            Client(site.url, token=right)


def test_pages_of_other_origins_are_kept_out() -> None:
    """By where they come from, and by the name that they ask for."""
    with serving() as site:
        with pytest.raises(InvalidStatus, match="403"):
            dial(site, Origin="https://example.com")
        sock = socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2])))
        with pytest.raises(InvalidStatus, match="403"):
            ws.connect("ws://rebound.example.com/v1/llmos/socket", sock=sock, proxy=None, open_timeout=PATIENCE)


class Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.fault = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(record.getMessage())
        if record.levelno >= logging.ERROR:
            self.fault.set()


def test_who_is_refused_fills_no_log(tmp_path: Path) -> None:
    """Nothing is logged of strangers, whatever they do; of what is wrong with the server it is."""
    ring, heard = KeyRing(tmp_path), Heard()
    right, _ = ring.create("ann", tenant="acme", now=time.time())
    with serving(ring=ring, local="keys") as site:
        site.http.get("/health")  # then it has said that it began
        log = logging.getLogger("uvicorn")
        log.addHandler(heard)
        try:
            for _ in range(3):
                with pytest.raises(InvalidStatus, match="401"):
                    dial(site)
            with pytest.raises(InvalidStatus, match="403"):
                ws.connect(f"{url(site)}/absent", additional_headers=bearer(right), proxy=None)
            for said in (
                b"\x00\r\n\r\n",
                b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            ):
                with socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2])), PATIENCE) as stranger:
                    stranger.sendall(said)
                    assert stranger.recv(2**16).startswith(b"HTTP/1.1 40")
            with Client(site.url, token=right) as client:
                assert {} == client.control("Stats")["tasks"]
            assert [] == heard.said
            site.app.state.console = None  # as if a route had a fault
            assert 500 == site.http.get("/v1/llmos/stats", headers=bearer(right)).status_code
            assert heard.fault.wait(PATIENCE)  # it is logged after the answer
        finally:
            log.removeHandler(heard)

    assert ["Exception in ASGI application"] == [line.strip() for line in heard.said[:1]]


def test_managing_is_for_operators(tmp_path: Path) -> None:
    """Who is only somewhere else cannot offer models or end the service for all."""
    ring = KeyRing(tmp_path)
    operator, _ = ring.create("op", tenant="acme", now=time.time(), scopes=("operator",))
    with serving(ring=ring) as site:
        with Client(site.url) as client, pytest.raises(PermissionDenied, match="operator"):
            client.control("Drain")
        with Client(site.url, token=operator) as client:
            assert {"unfinished": 0} == client.control("Drain")


def test_functions_are_offered_or_not() -> None:
    """By itself a server calls nothing for others."""
    with serving(functions=("time:*", "os:getpid")) as site, Client(site.url) as client:
        assert os.getpid() == client.result(client.process.schedule(Task("call", input="os:getpid")))
        for function in ("os:system", "os", "os:getpid.__self__", "subprocess:run", 7):
            with pytest.raises((PermissionDenied, InvalidArgument)):
                client.process.schedule(Task("call", input=function))


def test_shared_memory_stays_where_it_is() -> None:
    """A remote client is told so, by either side."""
    from llmos_kernel import Memory  # noqa: PLC0415 - of this test alone

    with serving() as site:
        with Client(site.url) as client, pytest.raises(InvalidArgument, match="shared memory"):
            client.process.alloc(Memory(10))
        with dial(site) as stranger:
            greet(stranger)
            body = wire.pack((Memory(10),), lambda _: None)
            stranger.send(wire.encode(wire.Call(n=1, id=1, name="alloc", body=body)))
            frame: Any = wire.decode(stranger.recv(PATIENCE), SERVER)  # type: ignore[arg-type]
            assert isinstance(wire.unpack(frame.value, lambda facts: facts), InvalidArgument)


def test_one_client_too_many() -> None:
    """Is told to come again."""
    with serving(sessions=1) as site, Client(site.url), pytest.raises(Overloaded, match="takes no more"):
        Client(site.url)


def greet(stranger: ws.ClientConnection) -> wire.Welcome:
    """Say hello, and return the welcome."""
    stranger.send(wire.encode(wire.Hello(version=wire.VERSION)))
    frame = wire.decode(stranger.recv(PATIENCE), SERVER)  # type: ignore[arg-type]
    assert isinstance(frame, wire.Welcome)
    return frame


@pytest.fixture(scope="module")
def shared() -> Any:
    """A server that hears nonsense."""
    with serving() as site:
        yield site


@pytest.mark.parametrize(
    "said",
    [
        b"", b"\x00", b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x91" * 10**5, b"\xdf\xff\xff\xff\xff", "text",
        wire.encode(wire.Leave(n=2)), wire.encode(wire.Ack(a=99)), wire.encode(wire.Hello(n=1, version=1)),
        msgspec.msgpack.encode({"t": "call", "n": 1, "a": 0, "id": 1, "name": "stop", "body": None}),
        msgspec.msgpack.encode({"t": "call", "n": 1, "a": 0, "id": -1, "name": "alloc", "body": None}),
        msgspec.msgpack.encode({"t": "call", "n": 1, "a": 0, "id": 2**63, "name": "alloc", "body": None}),
        msgspec.msgpack.encode({"t": "cancel", "n": 1, "a": 0, "id": 1, "tenant": "acme"}),
    ],
)  # fmt: skip
def test_frames_that_are_none(shared: Site, said: bytes | str) -> None:
    """One typed error, and the connection ends; the server goes on."""
    with dial(shared) as stranger:
        greet(stranger)
        stranger.send(said)
        assert isinstance(refusal(stranger), InvalidArgument)
    with Client(shared.url) as client:
        assert {} == client.control("Stats")["tasks"]


def test_first_frames_that_are_none(shared: Site) -> None:
    """Another version, a session that nobody has, and what is no hello."""
    for said, kind in (
        (wire.Hello(version=99), PluginIncompatible), (wire.Hello(version=1, session="x"), HandleRevoked),
        (wire.Leave(), InvalidArgument),
    ):  # fmt: skip
        with dial(shared) as stranger:
            stranger.send(wire.encode(said))
            assert isinstance(refusal(stranger), kind)


def test_calls_that_are_wrong_hurt_nobody(shared: Site) -> None:
    """Each has its error, and the connection goes on."""
    bodies = [
        None, 7, {"": ["tuple", []]}, {"": ["tuple", [1, 2]]}, {"": ["tuple", [{"": ["handle", [99]]}]]},
        wire.pack((control.Stats(),), lambda _: None), {"": ["tuple", [{"": ["Task", {"kind": ""}]}]]},
    ]  # fmt: skip
    with dial(shared) as stranger:
        greet(stranger)
        names = ("alloc", "schedule", "send")
        calls = [(name, body) for name in names for body in bodies]
        for number, (name, body) in enumerate(calls, 1):
            stranger.send(wire.encode(wire.Call(n=number, id=number, name=name, body=body)))  # type: ignore[arg-type]
        answers: list[Any] = [wire.decode(stranger.recv(PATIENCE), SERVER) for _ in calls]  # type: ignore[arg-type]

    assert set(range(1, len(calls) + 1)) == {answer.id for answer in answers}
    for answer in answers:
        assert isinstance(wire.unpack(answer.value, lambda facts: facts), KernelError)
