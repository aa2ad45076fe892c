"""send and recv beside what they stand on: queues of asyncio and of threads, a deque with a wake-up, a pipe."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from queue import SimpleQueue

from llmos_kernel import Port, Process
from tests.benchmarks.figures import Figure, figure

ROUNDS = 8
"""Times that ours and the reference take turns."""


def _against(name: str, ours: list[float], theirs: list[float], other: str, most: float) -> Figure:
    ratio = statistics.median(ours) / statistics.median(theirs)
    reference = f"{other} {statistics.median(theirs) * 1e6:.1f} µs; ours is {ratio:.2f} times that"
    return figure(name, ours, goal=f"≤ {most:g} × {other}", met=ratio <= most, reference=reference)


# --- within one event loop -------------------------------------------------------------------------------------


async def _echoed(
    n: int, ask: Callable[[], Awaitable[object]], hear: Callable[[], Awaitable[object]],
    listen: Callable[[], Awaitable[object]], answer: Callable[[], Awaitable[object]],
) -> list[float]:  # fmt: skip
    """Time *n* questions that another coroutine answers."""

    async def serve() -> None:
        for _ in range(n):
            await listen()
            await answer()

    serving = asyncio.ensure_future(serve())
    samples = []
    for _ in range(n):
        start = time.perf_counter()
        await ask()
        await hear()
        samples.append(time.perf_counter() - start)
    await serving
    return samples


async def _loop(process: Process, n: int) -> tuple[list[float], list[float]]:
    aio = process.aio
    there, back = await aio.alloc(Port(1)), await aio.alloc(Port(1))
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours += await _echoed(
            n, lambda: aio.send(there, 1), lambda: aio.recv(back), lambda: aio.recv(there), lambda: aio.send(back, 1)
        )
        one: asyncio.Queue[int] = asyncio.Queue(1)
        two: asyncio.Queue[int] = asyncio.Queue(1)
        theirs += await _echoed(n, lambda: one.put(1), two.get, one.get, lambda: two.put(1))  # noqa: B023 - used at once
    return ours, theirs


def within_a_loop(process: Process, n: int = 400) -> Figure:
    """A round trip between two coroutines."""
    ours, theirs = asyncio.run(_loop(process, n))
    return _against("send → recv round trip in a loop", ours, theirs, "asyncio.Queue", 5)


# --- between threads -------------------------------------------------------------------------------------------


def _between(n: int, ask: Callable[[], object], listen: Callable[[], object], answer: Callable[[], object],
             hear: Callable[[], object]) -> list[float]:  # fmt: skip
    def serve() -> None:
        for _ in range(n):
            listen()
            answer()

    thread = threading.Thread(target=serve)
    thread.start()
    samples = []
    for _ in range(n):
        start = time.perf_counter()
        ask()
        hear()
        samples.append(time.perf_counter() - start)
    thread.join()
    return samples


def between_threads(process: Process, n: int = 400) -> Figure:
    """A round trip between two threads."""
    there, back = process.alloc(Port(1)), process.alloc(Port(1))
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours += _between(n, lambda: process.send(there, 1), lambda: process.recv(there),
                         lambda: process.send(back, 1), lambda: process.recv(back))  # fmt: skip
        one: SimpleQueue[int] = SimpleQueue()
        two: SimpleQueue[int] = SimpleQueue()
        theirs += _between(n, lambda: one.put(1), one.get, lambda: two.put(1), two.get)  # noqa: B023 - used at once
    return _against("send → recv round trip between threads", ours, theirs, "SimpleQueue", 3)


def pipe(n: int = 400) -> Figure:
    """The reference of another kind: a pipe between two threads."""
    one, two = multiprocessing.Pipe()
    samples: list[float] = []
    for _ in range(ROUNDS):
        samples += _between(n, lambda: one.send(1), two.recv, lambda: two.send(1), one.recv)
    one.close()
    two.close()
    return figure("reference: multiprocessing.Pipe round trip", samples)


# --- from a thread to a loop -----------------------------------------------------------------------------------


async def _delivered(n: int, post: Callable[[float], object], get: Callable[[], Awaitable[float]]) -> list[float]:
    """Time messages that a thread posts one at a time, from before the posting to when the coroutine has them."""
    turn = threading.Semaphore(0)

    def produce() -> None:
        for _ in range(n):
            turn.acquire()
            post(time.perf_counter())

    thread = threading.Thread(target=produce)
    thread.start()
    samples = []
    for _ in range(n):
        turn.release()
        sent = await get()
        samples.append(time.perf_counter() - sent)
    thread.join()
    return samples


async def _to_loop(process: Process, n: int) -> tuple[list[float], list[float]]:
    aio, loop = process.aio, asyncio.get_running_loop()
    port = await aio.alloc(Port(4))
    ours: list[float] = []
    theirs: list[float] = []

    async def receive() -> float:
        return float((await aio.recv(port)).body)

    for _ in range(ROUNDS):
        ours += await _delivered(n, lambda value: process.send(port, value), receive)
        items: deque[float] = deque()
        there = asyncio.Event()

        async def pop() -> float:
            while not items:  # noqa: B023 - used at once
                there.clear()  # noqa: B023
                await there.wait()  # noqa: B023
            return items.popleft()  # noqa: B023

        def push(value: float) -> None:
            items.append(value)  # noqa: B023
            loop.call_soon_threadsafe(there.set)  # noqa: B023

        theirs += await _delivered(n, push, pop)
    return ours, theirs


def thread_to_loop(process: Process, n: int = 400) -> Figure:
    """One message from a thread to a coroutine."""
    ours, theirs = asyncio.run(_to_loop(process, n))
    return _against("send in a thread → recv in a loop", ours, theirs, "call_soon_threadsafe + deque", 1.2)
