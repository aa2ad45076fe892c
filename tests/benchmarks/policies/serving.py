"""Requests of two tenants on a loaded model: sent at their times, or always so many at once; the kernel times them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import attrs

from llmos import Client
from llmos_kernel import Kernel, KernelConfig, Process, TaskHandle
from llmos_kernel.api import Credentials, Failed, Task
from llmos_kernel.contracts import ModelSpec

SLOTS, CONTEXT = 16, 1024
INTERACTIVE, BATCH = "interactive", "batch"


@attrs.frozen(kw_only=True)
class Request:
    """One request: when it comes, and how long it is."""

    at: float
    tenant: str
    prompt: int
    output: int
    priority: int = 0
    deadline: float | None = None


@attrs.frozen(kw_only=True)
class Served:
    """What became of it.  Times are in seconds; `at` is when it was accepted, counted from the beginning."""

    request: Request
    at: float
    queued: float = 0.0
    first: float = 0.0
    """From acceptance to the first token."""
    total: float = 0.0
    error: str = ""

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.at + self.total


def poisson(
    rate: float, seconds: float, seed: int, prompt: tuple[int, int], output: tuple[int, int], **who: Any
) -> list[Request]:
    """Return requests at random times, *rate* a second, with lengths drawn evenly from two ranges."""
    rng, at, found = random.Random(seed), 0.0, []
    while (at := at + rng.expovariate(rate)) < seconds:
        found.append(Request(at=at, prompt=rng.randint(*prompt), output=rng.randint(*output), **who))
    return found


Sent = tuple[Request, float, Process, TaskHandle]


class Server:
    """A kernel with one model and one policy."""

    def __init__(self, kernel: Kernel, seed: int) -> None:
        self._seats = {
            name: Client(kernel=kernel, credentials=Credentials(name=name, tenant=name))
            for name in (INTERACTIVE, BATCH)
        }
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self.begun = time.perf_counter()

    def warm(self) -> None:
        """Load the model and do what is done once: a place's memory is given to the process at its first use."""
        for seat in self._seats.values():
            self.end(*self.begin(Request(at=0.0, tenant=BATCH, prompt=64, output=8), seat.process))
        longest = Request(at=0.0, tenant=BATCH, prompt=CONTEXT // 2, output=64)
        for sent in [self.begin(longest) for _ in range(SLOTS)]:
            self.end(*sent)
        self.begun = time.perf_counter()

    def now(self) -> float:
        """Return the seconds since the beginning."""
        return time.perf_counter() - self.begun

    def until(self, at: float) -> None:
        """Wait until so many seconds have passed since the beginning."""
        time.sleep(max(at - self.now(), 0.0))

    def begin(self, request: Request, process: Process | None = None) -> Sent:
        """Send a request now."""
        process = process or self._seats[request.tenant].process
        with self._lock:
            prompt = self._rng.choices(range(100, 500), k=request.prompt)
        params = {"max_tokens": request.output, "min_tokens": request.output, "ignore_eos": True, "temperature": 0.0}
        task = Task("generate", "model", prompt, params=params, priority=request.priority, deadline=request.deadline)
        return request, self.now(), process, process.schedule(task)

    def end(self, request: Request, at: float, process: Process, handle: TaskHandle) -> Served:
        """Wait until it has ended."""
        event = process.recv(handle).body
        usage = event.usage
        first = usage.queued + usage.prefill
        error = type(event.error).__name__ if isinstance(event, Failed) else ""
        return Served(request=request, at=at, queued=usage.queued, first=first, total=first + usage.decode, error=error)

    def counted(self) -> Mapping[str, Any]:
        """Return what the engine has counted so far."""
        facts: Mapping[str, Any] = self._seats[BATCH].control("InspectModel", "model")["executor"]["steps"]
        return facts

    def close(self) -> None:
        """End what is left."""
        for seat in self._seats.values():
            seat.close()


@contextmanager
def serving(folder: Path, scheduler: str, options: Mapping[str, Any], seed: int, **more: object) -> Iterator[Server]:
    """Serve the model in *folder* by a policy; *more* are options of the model."""
    sizes = {"slots": SLOTS, "context": CONTEXT}
    spec = ModelSpec(name="model", backend="onnx", path=str(folder), kinds=("generate",), options={**sizes, **more})
    config = KernelConfig(
        plugins=("*",), models=(spec,), scheduler=scheduler, options={f"scheduler:{scheduler}": options}
    )
    with Kernel(config) as kernel:
        server = Server(kernel, seed)
        try:
            server.warm()
            yield server
        finally:
            server.close()


def send(server: Server, requests: Sequence[Request]) -> list[Sent]:
    """Send every request at its time; return what `Server.end` takes, one per request."""
    sent = []
    for request in requests:
        server.until(request.at)
        sent.append(server.begin(request))
    return sent


class Backlog:
    """A tenant that always has so many requests unfinished, of lengths that repeat."""

    def __init__(self, server: Server, requests: Sequence[Request], count: int) -> None:
        self.served: list[Served] = []
        """Those that have ended."""
        self._server, self._next, self._lock = server, cycle(requests), threading.Lock()
        self._handles: dict[int, TaskHandle] = {}
        self._stopped = False
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        while True:
            with self._lock:
                if self._stopped:
                    return
                sent = self._server.begin(next(self._next))
                self._handles[number] = sent[-1]
            served = self._server.end(*sent)
            with self._lock:
                self.served.append(served)

    def stop(self) -> None:
        """Send nothing more, and cancel what was sent."""
        with self._lock:
            self._stopped = True
            for handle in self._handles.values():
                handle.cancel()
        for thread in self._threads:
            thread.join()
