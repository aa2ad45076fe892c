"""Ports: full, broken, closed; replies; handles that travel."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from kernel.tests.rig import ask, build, give, in_thread, port_pair, wait_until_waiting
from llmos.testing import EchoBackend, VirtualClock
from llmos_kernel import Budget, Credentials, Kernel, Memory, Model, Port, Process, Reply, Right, Task
from llmos_kernel._waiting import Bell
from llmos_kernel.control import Stats
from llmos_kernel.errors import (
    BudgetExceeded, DeadlineExceeded, HandleRevoked, InvalidArgument, KernelBug, PermissionDenied, PortBroken,
    WouldBlock,
)  # fmt: skip


def test_order_and_sender(process: Process) -> None:
    """Messages come in the order in which they were sent, stamped with the sender."""
    port = process.alloc(Port(3))
    depths = [process.send(port, body).depth for body in "abc"]
    got = [process.recv(port) for _ in "abc"]

    assert [1, 2, 3] == depths
    assert ["a", "b", "c"] == [message.body for message in got]
    assert {process.principal} == {message.sender for message in got}


def test_full(process: Process) -> None:
    """A full port takes nothing: `send_nowait` says so, `send` waits for its timeout, and for room."""
    port = process.alloc(Port(1))
    process.send(port, 1)

    with pytest.raises(WouldBlock):
        process.send_nowait(port, 2)
    with pytest.raises(DeadlineExceeded):
        process.send(port, 2, timeout=0)

    sending = in_thread(lambda: process.send(port, 2))
    wait_until_waiting(process, port)

    assert 1 == process.recv(port).body
    assert 2 == process.recv(port).body
    assert 1 == sending().depth


def test_empty(process: Process) -> None:
    """An empty port gives nothing: `recv_nowait` says so, `recv` waits for its timeout."""
    port = process.alloc(Port(1))

    with pytest.raises(WouldBlock):
        process.recv_nowait(port)
    with pytest.raises(DeadlineExceeded, match="0 s"):
        process.recv(port, timeout=0)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1, 1e12, "1"])
def test_timeouts_are_finite(process: Process, timeout: float) -> None:
    """A timeout that is no finite number of seconds is refused, whatever the call would have done."""
    with pytest.raises(InvalidArgument, match="timeout"):
        process.recv(timeout=timeout)


def test_mailbox(kernel: Kernel, process: Process) -> None:
    """Without a source, `recv` reads the mailbox, to which others send by what they were given."""
    other = kernel.attach()
    give(process, other, process.alloc(Port(1)))

    assert "for you" == other.recv().body
    other.close()


def test_broken_by_the_readers_end(kernel: Kernel, process: Process) -> None:
    """Sending to a port whose owner is gone is `HandleRevoked`; receiving without a sender is `PortBroken`."""
    other = kernel.attach()
    port, sender = port_pair(other, process)
    other.close()

    with pytest.raises(HandleRevoked):
        process.send(sender, "anybody?")

    reply = process.alloc(Reply())
    reply.sender.close()  # type: ignore[attr-defined]

    with pytest.raises(PortBroken):
        process.recv(reply)
    with pytest.raises(HandleRevoked):
        other.recv(port)


def test_no_receiver(process: Process) -> None:
    """A port that nobody can receive from is broken for senders, waiting ones too."""
    core, seat = process._core, process._seat
    with core.lock:
        port: Any = core.alloc_port(seat, 1, Right.SEND | Right.DUPLICATE)

    with pytest.raises(PortBroken, match="receive"):
        process.send(port, 1)


def test_closing_wakes_both_sides(kernel: Kernel, process: Process) -> None:
    """Who waits on a port that is closed is told at once: readers and writers."""
    other = kernel.attach()
    empty, full = process.alloc(Port(1)), process.alloc(Port(1))
    process.send(full, 1)
    waits = [in_thread(lambda: process.recv(empty)), in_thread(lambda: process.send(full, 2))]
    wait_until_waiting(process, empty)
    wait_until_waiting(process, full)
    empty.close()
    full.close()
    for wait in waits:
        with pytest.raises(HandleRevoked):
            wait()
    other.close()


def test_revoking_a_right_wakes_who_waits_with_it(process: Process) -> None:
    """Who waits with a child handle that is revoked is told at once, though the port lives on."""
    port = process.alloc(Port(1))
    process.send(port, 1)
    child = port.narrow(Right.SEND)
    sending = in_thread(lambda: process.send(child, 2))
    wait_until_waiting(process, port)
    child.close()

    with pytest.raises(HandleRevoked):
        sending()
    process.recv(port)
    child = port.narrow(Right.RECV)
    reading = in_thread(lambda: process.recv(child))
    wait_until_waiting(process, port)
    child.close()

    with pytest.raises(HandleRevoked):
        reading()


def test_reply_is_for_one_message(process: Process) -> None:
    """A reply takes one message, once; its sender is gone after it, and the reader learns that no more can come."""
    reply = process.alloc(Reply())
    sender = reply.sender  # type: ignore[attr-defined]
    process.send(sender, "answer")

    with pytest.raises(HandleRevoked):
        process.send(sender, "again")
    assert "answer" == process.recv(reply).body
    with pytest.raises(PortBroken):
        process.recv(reply)


def test_rights(process: Process) -> None:
    """Each use needs its right, rights only narrow, and an invalid handle has none."""
    port = process.alloc(Port(1))
    sender, reader = port.narrow(Right.SEND), port.narrow(Right.RECV)

    with pytest.raises(PermissionDenied, match="RECV"):
        process.recv(sender)
    with pytest.raises(PermissionDenied, match="SEND"):
        process.send(reader, 1)
    with pytest.raises(PermissionDenied, match="duplicated"):
        sender.narrow(Right.SEND)
    with pytest.raises(InvalidArgument, match="rights"):
        port.narrow(Right.CANCEL)
    with pytest.raises(PermissionDenied, match="TRANSFER"):
        process.send(port, 1, (sender,))
    assert Right.SEND == sender.rights
    assert port.rights == port.duplicate().rights
    assert "port" == sender.kind
    assert "Handle" in repr(sender)
    port.close()
    port.close()

    with pytest.raises(HandleRevoked):
        _ = sender.rights


def test_handle_of_another_process(kernel: Kernel, process: Process) -> None:
    """A handle works only for the process that holds it, and only in its kernel."""
    other, elsewhere = kernel.attach(), build()
    port = process.alloc(Port(1))

    with pytest.raises(PermissionDenied, match="another process"):
        other.recv_nowait(port)
    with elsewhere:
        stranger = elsewhere.attach()
        foreign = stranger.alloc(Port(1))
        for handle in [foreign, *(stranger.alloc(Port(1)) for _ in range(20))]:
            with pytest.raises((PermissionDenied, HandleRevoked)):
                process.recv_nowait(handle)
    other.close()


def test_handles_travel_with_their_charge(kernel: Kernel, process: Process) -> None:
    """A sent handle leaves its sender at once, and its charge is the receiver's."""
    other = kernel.attach()
    memory = process.alloc(Memory(4096))
    give(process, other, memory)

    with pytest.raises(HandleRevoked):
        memory.map()  # type: ignore[attr-defined]
    assert (0, 4096) == (process._seat.account.nbytes, other._seat.account.nbytes)

    (received,) = other.recv().handles
    process.close()

    with received.map(write=True) as pages:
        pages.view[:2] = b"ok"
    other.close()

    assert 0 == other._seat.account.nbytes


def test_receiver_without_room(kernel: Kernel, process: Process) -> None:
    """Handles that the receiver's budget has no room for stay with the sender: all of them."""
    poor = kernel.attach(Credentials(budget=Budget(nbytes=100, ports=1)))
    handles = [process.alloc(Memory(60)), process.alloc(Memory(60))]

    with pytest.raises(BudgetExceeded, match="no room for 60 nbytes"):
        give(process, poor, *handles)
    assert (120, 0) == (process._seat.account.nbytes, poor._seat.account.nbytes)
    for handle in handles:
        assert "memory" == handle.kind
    poor.close()


def test_message_that_its_reader_cannot_pay_stays(kernel: Kernel, process: Process) -> None:
    """A reader without room for what a message carries leaves it on the port."""
    poor = kernel.attach(Credentials(budget=Budget(nbytes=0)))
    port = process.alloc(Port(1))
    give(process, poor, port.narrow(Right.RECV | Right.TRANSFER))
    reader = poor.recv().handles[0]
    process.send(port, "big", (process.alloc(Memory(1)),))

    with pytest.raises(BudgetExceeded):
        poor.recv(reader)
    assert 1 == len(process.recv(port).handles)
    poor.close()


def test_dropped_message_closes_its_handles(process: Process) -> None:
    """Handles in a message that a closing port drops are closed, and their charge comes back."""
    port = process.alloc(Port(1))
    process.send(port, "never read", (process.alloc(Memory(4096)),))
    port.close()

    assert 0 == process._seat.account.nbytes


def test_handle_revoked_on_its_way(kernel: Kernel, process: Process) -> None:
    """A handle that is revoked while it travels arrives dead, even when its place has been taken by another."""
    other = kernel.attach()
    port = process.alloc(Port(1))
    give(process, other, port.narrow(Right.SEND | Right.TRANSFER))
    port.close()
    mine = [process.alloc(Port(1)) for _ in range(4)]
    (dead,) = other.recv().handles

    with pytest.raises(HandleRevoked):
        other.send(dead, "?")
    for handle in mine:
        assert "port" == handle.kind
    other.close()


def test_impossible_passengers(process: Process) -> None:
    """A handle cannot travel through its own port, nor twice in one message."""
    port, memory = process.alloc(Port(1)), process.alloc(Memory(1))

    with pytest.raises(InvalidArgument, match="own handle"):
        process.send(port, "me", (port,))
    with pytest.raises(InvalidArgument, match="twice"):
        process.send(port, "both", (memory, memory))
    assert "memory" == memory.kind


def test_ports_in_each_other(process: Process) -> None:
    """Two ports that travel in each other's messages go with the process that pays for them."""
    one, two = process.alloc(Port(1)), process.alloc(Port(1))
    through = two.narrow(Right.SEND)
    process.send(one, "two", (two,))
    process.send(through, "one", (one,))
    process.close()

    assert 0 == process._seat.account.ports


def test_ended_task_travels_free(kernel: Kernel, process: Process) -> None:
    """A task that has ended is charged to nobody, and can still be handed over to be read."""
    other = kernel.attach()
    task = process.schedule(Task("generate", "echo", "hello"))
    while ask(process, Stats())["tasks"]:
        pass
    give(process, other, task)
    (received,) = other.recv().handles

    assert "hello" == other.recv(received).body.text
    assert (0, 0) == (process._seat.account.tasks, other._seat.account.tasks)
    other.close()


def test_running_task_travels(kernel: Kernel, process: Process, echo: object) -> None:
    """A task that runs is charged to whoever holds it, and does not end with its first owner."""
    other = kernel.attach()
    echo.gate.shut()  # type: ignore[attr-defined]
    task = process.schedule(Task("generate", "echo", "hello"))
    give(process, other, task)
    process.close()

    assert 1 == other._seat.account.tasks
    echo.gate.open()  # type: ignore[attr-defined]

    assert "hello" == other.recv(other.recv().handles[0]).body.text
    assert 0 == other._seat.account.tasks
    other.close()


def test_waiting_with_a_handle_that_is_sent_away(kernel: Kernel, process: Process) -> None:
    """Who waits on a port while its handle is sent away is told; the message is for the new holder."""
    other = kernel.attach()
    port = process.alloc(Port(2))
    sender, reader = port.narrow(Right.SEND), port.narrow(Right.RECV | Right.TRANSFER)
    waiting = in_thread(lambda: process.recv(reader))
    wait_until_waiting(process, port)
    give(process, other, reader)

    with pytest.raises(HandleRevoked):
        waiting()
    process.send(sender, "hello")

    assert "hello" == other.recv(other.recv().handles[0]).body
    other.close()


def test_wake_up_passes_on_when_the_woken_cannot(kernel: Kernel, process: Process) -> None:
    """A woken sender that fails passes its wake-up on to the next."""
    rich = kernel.attach()
    port, sender = port_pair(kernel.attach(Credentials(budget=Budget(nbytes=10))), rich, 1)
    owner = port._seat
    rich.send(sender, "full")
    memory = rich.alloc(Memory(10))
    first = in_thread(lambda: rich.send(sender, "heavy", (memory,)))
    core = rich._core
    entry = core.table.named(port)
    while not len(entry.resource.room._waiters):  # type: ignore[union-attr]
        pass
    second = in_thread(lambda: rich.send(sender, "light"))
    while len(entry.resource.room._waiters) < 2:  # type: ignore[union-attr]
        pass
    with core.lock:
        owner.account.take("nbytes", 10)
        entry.resource.pop()  # type: ignore[union-attr]

    with pytest.raises(BudgetExceeded):
        first()
    assert 1 == second().depth
    with core.lock:
        owner.account.give("nbytes", 10)
    rich.close()


def test_interrupted_waiter_is_forgotten(process: Process) -> None:
    """A wait that ends by any exception leaves no waiter behind that could swallow a wake-up."""
    port = process.alloc(Port(1))

    class Interrupting:
        def now(self) -> float:
            return 0.0

        def wait(self, lock: object, until: float) -> bool:
            raise KeyboardInterrupt

    clock, process._core.clock = process._core.clock, Interrupting()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        process.recv(port)
    process._core.clock = clock
    with process._core.lock:
        resource = process._core.table.check(process._seat, port, 0).resource

    assert 0 == len(resource.readers._waiters)


# --- asyncio ---------------------------------------------------------------------------------------------------


async def test_async_round_trip(process: Process) -> None:
    """The four calls work the same from an event loop."""
    async with process.aio as aio:
        port = await aio.alloc(Port(1))
        receiving = asyncio.ensure_future(aio.recv(port))
        await asyncio.sleep(0)
        await aio.send(port, "hello")
        task = await aio.schedule(Task("generate", "echo", "one two"))

        assert "hello" == (await receiving).body
        assert "one two" == (await aio.recv(task)).body.text
        with pytest.raises(DeadlineExceeded):
            await aio.recv(port, timeout=0)


async def test_cancelled_recv_consumes_nothing(process: Process) -> None:
    """A cancelled `recv` takes no message, even when it had been woken for one: the next reader gets it."""
    aio = process.aio
    port = await aio.alloc(Port(2))
    first, second = asyncio.ensure_future(aio.recv(port)), asyncio.ensure_future(aio.recv(port))
    await asyncio.sleep(0)
    process.send_nowait(port, "for the second")
    first.cancel()

    assert "for the second" == (await asyncio.wait_for(second, 20)).body
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize("where", ["here", "thread"])
async def test_message_for_a_reader_that_is_just_cancelled(process: Process, where: str) -> None:
    """A message that comes between a reader's cancellation and its end is for the next reader."""
    aio = process.aio
    port = await aio.alloc(Port(2))
    first, second = asyncio.ensure_future(aio.recv(port)), asyncio.ensure_future(aio.recv(port))
    await asyncio.sleep(0)
    first.cancel()
    if where == "thread":
        in_thread(lambda: process.send_nowait(port, "for the second"))()
    else:
        process.send_nowait(port, "for the second")

    assert "for the second" == (await asyncio.wait_for(second, 20)).body
    assert first.cancelled()


async def test_reader_that_is_cancelled_when_it_is_woken(process: Process) -> None:
    """A reader that another thread woke, and that is cancelled before its loop hears of it, passes the message on."""
    aio = process.aio
    port = await aio.alloc(Port(2))
    first, second = asyncio.ensure_future(aio.recv(port)), asyncio.ensure_future(aio.recv(port))
    await asyncio.sleep(0)
    in_thread(lambda: process.send_nowait(port, "for the second"))()
    first.cancel()

    assert "for the second" == (await asyncio.wait_for(second, 20)).body
    assert first.cancelled()


def test_loop_that_closes_when_its_reader_is_woken(process: Process) -> None:
    """A reader whose loop is closed at the moment in which it is woken passes the message on."""
    port = process.alloc(Port(1))
    loop = asyncio.new_event_loop()
    waiting: Any = loop.create_task(process.aio.recv(port))
    waiting._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    reading = in_thread(lambda: process.recv(port))
    wait_until_waiting(process, port, 2)

    def send() -> None:
        attempt = process._send(port, "for the next", ())
        with process._core.lock:
            attempt()
            loop.close()

    in_thread(send)()

    assert "for the next" == reading().body


async def test_message_in_the_last_moment(echo: EchoBackend) -> None:
    """A message that comes when the time of its reader is up, but before it is told, is received."""
    clock = VirtualClock()
    async with build(echo, clock=clock) as kernel:
        process = kernel.attach()
        port = await process.aio.alloc(Port(1))
        reading = asyncio.ensure_future(process.aio.recv(port, timeout=5))
        await asyncio.sleep(0)
        clock.advance(5)
        process.send_nowait(port, "just in time")

        assert "just in time" == (await reading).body
        process.close()


def test_bell_that_two_ring_at_once() -> None:
    """Of two threads that ring a bell at the same moment one finds it rung, which is what it wanted."""
    bell = Bell()
    lock = bell.lock

    class Rung:
        def locked(self) -> bool:
            lock.release()  # the other one comes first
            return True

        def release(self) -> None:
            lock.release()

    bell.lock = Rung()  # type: ignore[assignment]
    bell.ring()

    assert not lock.locked()


async def test_wake_ups_from_threads_are_coalesced(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many wake-ups from another thread cost the loop one."""
    aio, loop = process.aio, asyncio.get_running_loop()
    rings: list[int] = []
    ports = [await aio.alloc(Port(1)) for _ in range(10)]
    waits = [asyncio.ensure_future(aio.recv(port)) for port in ports]
    await asyncio.sleep(0)
    ring = loop.call_soon_threadsafe

    def count(*args: Any) -> object:
        rings.append(1)
        return ring(*args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    in_thread(lambda: [process.send(port, "x") for port in ports])()
    await asyncio.gather(*waits)

    assert 1 == len(rings)


def test_refused_at_once_in_a_loop(process: Process) -> None:
    """A call for asyncio that can only fail raises what the call for threads raises, without waiting."""
    port = process.alloc(Port(1))
    port.close()

    with pytest.raises(HandleRevoked):
        asyncio.run(_one(process, port))


@pytest.mark.parametrize("where", ["here", "thread", "collected"])
def test_closed_loop(process: Process, where: str) -> None:
    """A reader whose event loop was closed under it hurts nobody: the message is for the next reader."""
    port = process.alloc(Port(1))
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(process.aio.recv(port))
    vars_of_task: Any = waiting
    vars_of_task._log_destroy_pending = False
    del vars_of_task
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    if where == "collected":
        coroutine: Any = waiting.get_coro()
        del waiting, loop
        gc.collect()
        coroutine.close()

    def send() -> object:
        return process.send_nowait(port, "for the next")

    if where == "thread":
        in_thread(send)()
    else:
        send()

    assert "for the next" == process.recv(port, timeout=5).body


def test_two_loops(process: Process) -> None:
    """Readers in different event loops and threads share a port."""
    port = process.alloc(Port(8))
    reads = [in_thread(lambda: asyncio.run(_one(process, port))) for _ in range(3)]
    wait_until_waiting(process, port, 3)
    for number in range(3):
        process.send(port, number)

    assert {0, 1, 2} == {read() for read in reads}


async def _one(process: Process, port: object) -> object:
    return (await process.aio.recv(port)).body  # type: ignore[arg-type]


def test_transferred_model(kernel: Kernel, process: Process) -> None:
    """A model handle can be handed over, and lives on when its first owner is gone."""
    other = kernel.attach()
    give(process, other, process.alloc(Model("echo")))
    process.close()
    (model,) = other.recv().handles
    task = other.schedule(Task("generate", model, "hi"))

    assert "hi" == other.recv(task).body.text
    other.close()


def test_a_call_of_a_thread_is_never_suspended(monkeypatch: pytest.MonkeyPatch, process: Process) -> None:
    """A waiter that gives the thread back instead of blocking it would lose the call; that is a bug, and says so."""
    port = process.alloc(Port(1))

    async def suspend(*_: object) -> bool:
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr("llmos_kernel._waiting.ThreadWaiter.expired", suspend)
    with pytest.raises(KernelBug):
        process.recv(port)


@pytest.mark.parametrize("request_", [Port(1), Reply()])
def test_port_waits_for_room(kernel: Kernel, request_: Port | Reply) -> None:
    """A port beyond what the budget has left now waits for another to be closed."""
    with kernel.attach(Credentials(budget=Budget(ports=1))) as process:
        first = process.alloc(Port(1))
        with pytest.raises(WouldBlock):
            process.alloc_nowait(request_)
        first.close()

        assert "port" == process.alloc(request_).kind
