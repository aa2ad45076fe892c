"""What only a client elsewhere has: functions by name, ports over a network, and Unix sockets."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from llmos import LLMOS, AsyncClient, Client
from llmos_kernel import Kernel, Memory, Model, Port, Reply, Right, Task
from llmos_kernel.errors import (
    Cancelled, DeadlineExceeded, HandleRevoked, InvalidArgument, KernelError, PermissionDenied,
    PortBroken, TaskFailed,
)  # fmt: skip
from llmos.testing import EchoBackend
from plugins.server.tests.serving import Site, serving_kernel
from tests.elsewhere.functions import double, fail, triple


def test_functions(client: Client) -> None:
    """Travel as their names; what they raise comes back as in one process."""
    assert 42 == client.call(double, 21)
    assert [0, 2, 4, 6] == list(client.map(double, range(4), at_once=2))
    assert 63 == client.call(triple, 21)
    with pytest.raises(TaskFailed, match="ZeroDivisionError: on purpose") as caught:
        client.call(fail)
    assert "ZeroDivisionError: on purpose" == caught.value.fields["cause"]
    with pytest.raises(InvalidArgument, match="cannot travel"):
        client.call(lambda: 0)
    with pytest.raises(PermissionDenied, match="offers no function"):
        client.call(threading.active_count)


def test_llmos(site: Site) -> None:
    """The smallest way in takes an address too."""
    with LLMOS(site.url) as system:
        system.submit_task(double, 1)
        system.submit_task(double, 2)
        assert (2, 4) == (system.get_result(), system.get_result())
        assert "a b" == system.load_model("echo").generate_text("a b")


def test_ports_and_handles(client: Client) -> None:
    """Bodies arrive as they were, senders are the kernel's word, and handles move with messages."""
    seat, body = client.process, {"a": (1, None, b"x", {2: 0.5})}
    port, gift = seat.alloc(Port(4)), seat.alloc(Port(1))
    seat.send(gift, "inside")
    assert ("port", True) == (port.kind, Right.SEND in port.rights)
    assert 1 == seat.send(port, body, [gift]).depth
    message = seat.recv(port)
    assert (body, seat.principal) == (message.body, message.sender)
    assert "inside" == seat.recv(message.handles[0]).body
    for gone in (gift, port):
        port.close()
        with pytest.raises(HandleRevoked):
            seat.recv(gone)
        with pytest.raises(HandleRevoked):
            _ = gone.kind


def test_narrowing(kernel: Kernel, client: Client) -> None:
    """Children have some of the rights, go with their parents, and are refused as they are here."""
    for seat in (kernel.attach(), client.process):
        port = seat.alloc(Port(4))
        sender = port.narrow(Right.SEND)
        assert (Right.SEND, "port") == (sender.rights, sender.kind)
        seat.send(sender, 7)
        assert 7 == seat.recv(port.duplicate()).body
        with pytest.raises(PermissionDenied, match="lacks the right"):
            seat.recv(sender)
        with pytest.raises(PermissionDenied, match="duplicated"):
            sender.duplicate()
        with pytest.raises(InvalidArgument, match="rights must be some of"):
            port.narrow(Right.RUN)
        with pytest.raises(InvalidArgument, match="rights must be some of"):
            port.narrow(Right(0))
        port.close()
        with pytest.raises(HandleRevoked):
            seat.send(sender, 8)
        with pytest.raises(HandleRevoked):
            _ = sender.kind
        seat.close()


def test_full_port_waits_and_replies_break(client: Client) -> None:
    """As at a kernel in this process: timeouts, dead peers, and a reply that is never sent."""
    far = client.process
    port = far.alloc(Port(1))
    far.send(port, 1)
    with pytest.raises(DeadlineExceeded) as caught:
        far.send(port, 2, timeout=0.05)
    assert 0.05 == caught.value.fields["seconds"]
    assert 1 == far.recv(port).body
    with pytest.raises(DeadlineExceeded):
        far.recv(port, timeout=0.05)
    far.send(port, 3)
    assert 3 == far.recv(port, timeout=1).body
    reply: Any = far.alloc(Reply())
    reply.sender.close()
    with pytest.raises(PortBroken):
        far.recv(reply)


def test_mistakes_are_the_same(kernel: Kernel, client: Client) -> None:
    """Class, message and fields of errors do not tell where the kernel is."""
    mistakes: list[Any] = [
        lambda seat: seat.alloc(7), lambda seat: seat.alloc(Model("ecko")), lambda seat: seat.schedule(7),
        lambda seat: seat.schedule(Task("generate", "ecko")), lambda seat: seat.schedule(Task("call", "echo")),
        lambda seat: seat.schedule(Task("generate", "echo", "a", durable=True)), lambda seat: seat.recv(timeout=0.01),
        lambda seat: seat.recv(seat.control), lambda seat: seat.send(seat.mailbox, 1, [seat.mailbox]),
        lambda seat: seat.alloc(Port(1), timeout=-1), lambda seat: seat.schedule(Task("generate", 7)),
    ]  # fmt: skip
    with kernel.attach() as near:
        for mistake in mistakes:
            told = []
            for seat in (near, client.process):
                with pytest.raises(KernelError) as caught:
                    mistake(seat)
                error = caught.value
                told.append((type(error), str(error), error.fields))
            assert told[0] == told[1]


def test_handles_of_others(client: Client, site: Site) -> None:
    """A handle of one client is none of another's."""
    with Client(site.url) as other:
        port = other.process.alloc(Port(1))
        with pytest.raises(PermissionDenied, match="another process"):
            client.process.send(port, 1)


def test_memory_is_refused(client: Client) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidArgument, match="shared memory"):
        client.process.alloc(Memory(10))


def test_cancelling_by_the_handle(client: Client, echo: EchoBackend) -> None:
    """The task ends with `Cancelled`, which its reader hears; a task whose handle is dropped runs to its end."""
    echo.gate.shut()
    handle = client.process.schedule(Task("generate", "echo", "a b"))
    handle.cancel()
    assert isinstance(client.process.recv(handle).body.error, Cancelled)
    client.process.schedule(Task("generate", "echo", "a b"))
    assert 1 == sum(client.control("Stats")["tasks"].values())
    echo.gate.open()


def test_client_that_is_closed(site: Site, echo: EchoBackend) -> None:
    """Whoever waits is told, nothing is left at the kernel, and closing again is no error."""
    client = Client(site.url)
    model = client.load_model("echo")
    told: list[KernelError] = []
    echo.gate.shut()

    def ask() -> None:
        try:
            model.generate_text("a b")
        except KernelError as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    echo.gate.wait_for_visitor()
    client.close()
    client.close()
    thread.join()
    echo.gate.open()

    assert [HandleRevoked] == [type(error) for error in told]
    assert {} == site.kernel._core.seats
    assert not [one for one in threading.enumerate() if one.name == "llmos-remote"]
    with pytest.raises(HandleRevoked, match="closed"):
        client.control("Stats")


async def test_cancelled_calls_take_nothing(site: Site) -> None:
    """A coroutine that gives up leaves the message to the next one."""
    async with AsyncClient(site.url) as client:
        port = await client.process.alloc(Port(4))
        waiting = [asyncio.ensure_future(client.process.recv(port)) for _ in range(8)]
        await asyncio.sleep(0)
        for one in waiting[::2]:
            one.cancel()
        for number in range(4):
            await client.process.send(port, number)
        bodies = [(await one).body for one in waiting[1::2]]

    assert [0, 1, 2, 3] == sorted(bodies)
    assert all(one.cancelled() for one in waiting[::2])


async def test_async_client_that_nobody_answers() -> None:
    """It is made without waiting; its first call says what is wrong."""
    client = AsyncClient("http://127.0.0.1:1")
    with pytest.raises(PortBroken):
        await client.models()
    await client.close()


def test_unix_socket(kernel: Kernel, echo: EchoBackend, tmp_path: Path) -> None:
    """An address may be the path of a socket."""
    with serving_kernel(kernel, echo, path=tmp_path / "s") as site:
        for address in (f"unix:{tmp_path}/s", f"http+unix://{tmp_path}/s"):
            with Client(address) as client:
                assert "a b" == client.load_model("echo").generate_text("a b")
        assert site.url == f"unix:{tmp_path}/s"
