"""Tasks: how soon the first step comes, how long nothing takes, and how much a waiting task weighs."""

from __future__ import annotations

import random
import statistics
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable

from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig, Plan, Prepared, Process, Task
from tests.benchmarks.figures import Figure, figure, quantile, timed

NULL = Task("generate", "echo", "a", params={"max_tokens": 1})
CALL = Task("call", input=int)


def kernel(backend: EchoBackend) -> Kernel:
    """Return a kernel with one echo model, not started."""
    return Kernel(KernelConfig(models=(echo_spec(),)), plugins=(backend, FirstComePlugin()))


def first_step(process: Process, backend: EchoBackend, n: int = 3000) -> Figure:
    """From schedule to the first step of an executor that is idle."""
    starts: list[float] = []
    backend.faults.on_step = lambda number, plan: starts.append(time.perf_counter())
    samples = []
    for _ in range(n):
        starts.clear()
        begin = time.perf_counter()
        process.recv(process.schedule(NULL))
        samples.append(starts[0] - begin)
    backend.faults.on_step = None
    met = statistics.median(samples) <= 100e-6 and quantile(samples, 0.99) <= 1e-3
    return figure("schedule → first step, idle executor", samples, goal="p50 ≤ 100 µs, p99 ≤ 1 ms", met=met)


def first_step_under_arrivals(process: Process, backend: EchoBackend, rate: int, seconds: float = 1.5) -> Figure:
    """The same while tasks arrive at random times, *rate* a second on average."""
    began: dict[int, float] = {}

    def note(number: int, plan: Plan) -> None:
        now = time.perf_counter()
        for id, _ in plan.prefill:
            began.setdefault(id, now)

    backend.faults.on_step = note
    rng = random.Random(rate)
    scheduled: dict[int, float] = {}
    tasks = []
    due = time.perf_counter()
    for _ in range(int(rate * seconds)):
        due += rng.expovariate(rate)
        pause = due - time.perf_counter()
        if pause > 0:
            threading.Event().wait(pause)
        begin = time.perf_counter()
        tasks.append(process.schedule(NULL))
        scheduled[tasks[-1].id] = begin
    for task in tasks:
        process.recv(task)
    backend.faults.on_step = None
    samples = [began[id] - begin for id, begin in scheduled.items()]
    met = quantile(samples, 0.99) <= 1e-3
    return figure(f"schedule → first step at {rate:,}/s arrivals", samples, goal="p99 ≤ 1 ms", met=met)


def end_to_end(process: Process, task: Task, name: str, flying: int, n: int = 4000) -> list[Figure]:
    """How long a task takes that does nothing, with so many in flight, and how many come through a second."""
    samples = []
    window: deque[tuple[float, Callable[[], object]]] = deque()
    begin = time.perf_counter()

    def land() -> None:
        start, wait = window.popleft()
        wait()
        samples.append(time.perf_counter() - start)

    for _ in range(n):
        start = time.perf_counter()
        handle = process.schedule(task)
        window.append((start, lambda handle=handle: process.recv(handle)))  # type: ignore[misc]
        if len(window) >= flying:
            land()
    while window:
        land()
    rate = n / (time.perf_counter() - begin)
    return [
        figure(
            f"null {name} task, {flying} in flight", samples, goal="p99 ≤ 1 ms", met=quantile(samples, 0.99) <= 1e-3
        ),
        figure(f"null {name} tasks, {flying} in flight", [rate], "1/s", goal="≥ 5,000/s", met=rate >= 5000),
    ]


def weight(n: int = 100_000) -> Figure:
    """Bytes of a task that waits, with its handle, among 100,000."""
    backend = EchoBackend(rows=1)
    with kernel(backend) as running, running.attach() as process:
        backend.gate.shut()
        handles = [process.schedule(NULL)]
        backend.gate.wait_for_visitor()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        task = Task("generate", "echo", "a", params={"max_tokens": 1})
        # What the executor keeps of a task is not the kernel's: a stand-in keeps nothing.
        backend.executors[0].prepare = lambda *_: Prepared(1, 1)  # type: ignore[method-assign]
        handles += [process.schedule(task) for _ in range(n)]
        while running._core.workers._jobs.qsize():
            threading.Event().wait(0.05)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for handle in handles:
            handle.close()
        backend.gate.open()
    each = (after - before) / n
    return figure(f"bytes per pending task at {n:,}", [each], "B", goal="≤ 1,200 B", met=each <= 1200)


def raising(process: Process, backend: EchoBackend, n: int = 300) -> Figure:
    """From schedule to the error of an executor that raises in its first step."""
    backend.faults.step = RuntimeError("injected")
    samples = timed(lambda: process.recv(process.schedule(NULL)), n)
    backend.faults.step = None
    worst = max(samples) * 1e3
    return figure(
        "raising executor → its caller", samples, goal="≤ 10 ms", met=worst <= 10, reference=f"worst {worst:.2f} ms"
    )


def start(n: int = 30) -> Figure:
    """`Kernel.start`."""
    samples = []
    for _ in range(n):
        one = kernel(EchoBackend())
        samples += timed(one.start, 1)
        one.stop()
    return figure("Kernel.start()", samples, "ms", goal="≤ 50 ms", met=quantile(samples, 0.99) <= 50e-3)


def handle_check(process: Process) -> Figure:
    """Checking a handle and its right, as send and recv do."""
    core, seat, handle = process._core, process._seat, process.mailbox
    check = core.table.check
    samples = timed(lambda: check(seat, handle, 1), 200, 1000)
    return figure("handle check", samples, goal="≤ 1 µs", met=statistics.median(samples) <= 1e-6)
