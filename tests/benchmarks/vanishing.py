"""Clients that go away at random moments, against a server in a process of its own; what it has left is printed.

    python -m tests.benchmarks.vanishing --count 10000

A tenth of the clients come first, so that what a server makes once and keeps is there when it is measured.  Memory is
what the process has resident (Linux); it grows a little by what allocators keep, so it is looked at in tenths.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from plugins.server.tests.serving import serving
from plugins.server.tests.vanishing import vanish_all
from tests.benchmarks.figures import machine

PATIENCE = 60.0
PARTS = 10
REST = 7.0
"""Seconds without a change after which nothing changes by itself: idle connections are kept for five."""


def held(process: int, http: httpx.Client) -> dict[str, Any]:
    """Return what the server holds."""
    stats = http.get("/v1/llmos/stats").json()
    proc = Path(f"/proc/{process}")
    resident = int((proc / "statm").read_text().split()[1]) * 4096
    return {
        "handles": stats["handles"], "ports": stats["ports"], "tasks": stats["tasks"],
        "files": len(list((proc / "fd").iterdir())), "threads": len(list((proc / "task").iterdir())),
        "resident_MiB": round(resident / 2**20, 1),
    }  # fmt: skip


def settled(process: int, http: httpx.Client, like: dict[str, Any]) -> dict[str, Any]:
    """Return what the server holds, once that is as *like*, memory aside, or after a minute."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = held(process, http)
        if found | {"resident_MiB": 0} == like | {"resident_MiB": 0} or time.monotonic() > deadline:
            return found


def at_rest(process: int, http: httpx.Client) -> dict[str, Any]:
    """Return what the server holds, memory aside, once that has been the same for some time."""
    found, since = held(process, http), time.monotonic()
    while time.monotonic() < since + REST:
        now = held(process, http)
        if now | {"resident_MiB": 0} != found | {"resident_MiB": 0}:
            since = time.monotonic()
        found = now
    return found


@contextmanager
def server() -> Iterator[tuple[int, str]]:
    """Serve an echo model in a process."""
    argv = [sys.executable, "-m", "tests.benchmarks.vanishing", "--serve"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().strip()
        process.communicate("\n")


class Nothing(list[Any]):
    """Forgets what it is given: the echo model notes every task and plan, for tests."""

    def append(self, one: object) -> None:
        """Forget it."""


def serve() -> None:
    """Be that process, until a line comes."""
    with serving(streams=1024) as site:
        site.post("/v1/embeddings", model="toy", input="load it")
        for executor in site.echo.executors:
            executor.plans, executor.tasks = Nothing(), Nothing()
        print(site.url, flush=True)
        sys.stdin.readline()


def measure(count: int, seed: int) -> dict[str, Any]:
    """Return what was left after each tenth of *count* clients."""
    went: Counter[str] = Counter()
    with server() as (process, url), httpx.Client(base_url=url, timeout=PATIENCE) as http:
        address = (httpx.URL(url).host, httpx.URL(url).port or 0)
        asyncio.run(vanish_all(address, count // PARTS, seed))
        before = at_rest(process, http)
        after, began = [], time.perf_counter()
        for part in range(1, PARTS + 1):
            went += asyncio.run(vanish_all(address, count // PARTS, seed + part))
            after.append(settled(process, http, before))
        seconds = time.perf_counter() - began
    return {
        "machine": machine(), "clients": sum(went.values()), "went": dict(went), "seconds": round(seconds, 1),
        "before": before, "after": after,
    }  # fmt: skip


def main() -> None:
    """Measure, and print JSON; fail if anything but memory is not as it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    found = measure(given.count, given.seed)
    print(json.dumps(found, indent=1))
    same = all(part | {"resident_MiB": 0} == found["before"] | {"resident_MiB": 0} for part in found["after"])
    sys.exit(0 if same else "the server has something left of clients that went")


if __name__ == "__main__":
    main()
