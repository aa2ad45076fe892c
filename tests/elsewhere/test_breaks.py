"""Connections that break, readers that are slow, and clients that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import Any

import pytest

from llmos import Client
from llmos._link import Link
from llmos.testing import EchoBackend
from llmos_kernel import Event, Kernel, Task
from llmos_kernel.errors import HandleRevoked, KernelStopped, NotFound, PortBroken
from llmos_kernel.hookspecs import hookimpl
from plugins.server.tests.serving import PATIENCE, Site, serving
from tests.elsewhere.cutting import Cuts

GREETING = 2
"""Frames of a connection's beginning."""


def all_kinds(client: Client) -> list[object]:
    """Make calls of all kinds, and return what came of them."""
    model = client.load_model("echo")
    with pytest.raises(NotFound):
        client.load_model("ecko")
    stream = model.stream(" ".join("abcdefgh"))
    first = next(stream)
    return [
        client.control("Stats")["state"], model.generate_text("a b c", max_tokens=2), model.embed(["a b", "c"]), first,
        list(stream), stream.result().usage.generated, model.generate_text("x y", n=3),
    ]  # fmt: skip


def test_connection_that_breaks_at_any_frame(kernel: Kernel, site: Site, echo: EchoBackend) -> None:
    """Once, after each number of frames that the program takes: its results are the same, and no task runs twice."""
    with pytest.MonkeyPatch.context() as patch:
        cuts = Cuts().install(patch)
        with Client(site.url) as client:
            expected = all_kinds(client)
    tasks, frames = len(echo.executors[0].tasks), cuts.carried
    for number in range(GREETING, frames):
        with pytest.MonkeyPatch.context() as patch:
            cuts = Cuts(number, times=1).install(patch)
            with Client(site.url) as client:
                assert expected == all_kinds(client)
                assert {} == client.control("Stats")["tasks"]
        assert 2 == cuts.made, number
        assert tasks * (number - GREETING + 2) == len(echo.executors[0].tasks)
    assert frames > 40
    assert {} == kernel._core.seats


def test_a_client_that_is_closed_while_it_is_welcomed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, and its connection with it: nobody waits for a session that nobody wants."""
    found: list[Link] = []

    async def connect(self: Link, session: str, _connect: Any = Link._connect) -> Any:
        welcome = await _connect(self, session)
        found.append(self)
        self.leave()
        await asyncio.sleep(0)  # it has left now, and knows the welcome
        return welcome

    def visit() -> None:
        with contextlib.suppress(HandleRevoked):
            Client(site.url).close()

    monkeypatch.setattr(Link, "_connect", connect)
    visiting = threading.Thread(target=visit, daemon=True)
    visiting.start()
    visiting.join(PATIENCE)

    assert not visiting.is_alive()
    assert [None] == [link._connection for link in found]


@pytest.mark.parametrize("frames", [3, 4, 5, 7, 11])
def test_connections_that_break_again_and_again(
    site: Site, echo: EchoBackend, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    """Each carries the greeting and a frame or a few more; still everything is said and heard once."""
    with Client(site.url) as client:
        expected = all_kinds(client)
    tasks, cuts = len(echo.executors[0].tasks), Cuts(frames).install(monkeypatch)
    with Client(site.url) as client:
        assert expected == all_kinds(client)
        cuts.frames = 2**30

    assert cuts.made > 5
    assert 2 * tasks == len(echo.executors[0].tasks)


def test_server_that_is_gone() -> None:
    """Whoever asks later is told, each time with the same typed error; closing is no error."""
    with serving(grace=0.2) as site:
        client = Client(site.url)
        model = client.load_model("echo")
    for _ in range(2):
        with pytest.raises(KernelStopped, match="stopping"):
            model.generate_text("a")
    client.close()


def test_server_that_is_told_to_stop() -> None:
    """It takes no more tasks and lets a remote client's come to its end, which the client still hears."""
    with serving(drain=PATIENCE) as site, Client(site.url) as client:
        model = client.load_model("echo")
        site.echo.gate.shut()
        stream = model.stream("a b c")
        site.echo.gate.wait_for_visitor()
        site.server.handle_exit(signal.SIGTERM, None)
        while not site.app.state.llmos.sessions._stopping:  # its loop looks ten times a second
            assert "running" == client.control("Stats")["state"]
        with pytest.raises(KernelStopped, match="no more tasks"):
            model.generate_text("a")
        with pytest.raises(KernelStopped):
            Client(site.url)
        site.echo.gate.open()
        assert ["a", " b", " c"] == list(stream)


def test_session_that_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that comes back too late is told that its session has ended; nothing is said again."""
    with serving(grace=0) as site:
        cuts = Cuts().install(monkeypatch)
        with Client(site.url) as client:
            model = client.load_model("echo")
            cuts.frames = 0
            with pytest.raises(PortBroken):
                model.generate_text("a")
            with pytest.raises(PortBroken):
                client.control("Stats")


class Ends:
    """An observer that counts the tasks that were cancelled."""

    name = "ends"

    def __init__(self) -> None:
        self.count, self.changed = 0, threading.Condition()

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Count one."""
        if event.name == "task.cancelled":
            with self.changed:
                self.count += 1
                self.changed.notify_all()


def test_clients_that_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tasks are cancelled, and nothing of them is left, neither at the kernel nor at the server."""
    ends, count = Ends(), 40
    with serving(ends, grace=0.05, sessions=count) as site:
        cuts = Cuts().install(monkeypatch)
        site.echo.gate.shut()
        clients = [Client(site.url) for _ in range(count)]
        for client in clients:
            client.process.schedule(Task("generate", "echo", "a b c"))
        site.echo.gate.wait_for_visitor()
        for client, socket in zip(clients, list(cuts.sockets), strict=True):
            link = client.process._link  # type: ignore[attr-defined]
            link._again = _never  # it does not come back
            link._loop.call_soon_threadsafe(cuts.cut, socket)
        with ends.changed:
            assert ends.changed.wait_for(lambda: ends.count == count, PATIENCE)
        for client in clients:
            client.close()
        with Client(kernel=site.kernel) as left:
            assert {} == left.control("Stats")["tasks"]
            assert {left.process.principal.process} == set(site.kernel._core.seats)
        assert 0 == len(site.app.state.llmos.sessions)


async def _never(welcome: object) -> None:
    raise PortBroken("vanished")


def test_slow_reader_slows_its_own_stream(site: Site, client: Client) -> None:
    """While one stream is not read, its task stalls with a bounded number of pieces on their way; others go on."""
    model, words = client.load_model("echo"), " ".join(f"w{number}" for number in range(1500))
    slow = model.stream(words)
    next(slow)
    fast = [model.stream(words) for _ in range(3)]

    assert [words] * 3 == [str(stream.result()) for stream in fast]
    assert 1 == sum(client.control("Stats")["tasks"].values())
    assert words == slow.result()


def test_reader_that_never_reads_costs_little(client: Client) -> None:
    """No more messages wait at the client than a window has."""
    model = client.load_model("echo")
    slow = model.stream(" ".join("a" * 1000))
    assert "a" == model.generate_text("a")
    link = client.process._link  # type: ignore[attr-defined]
    source = link._sources[slow._task._facts.id]  # type: ignore[attr-defined]

    assert len(source.messages) <= link.opened.result().window
    slow.close()
