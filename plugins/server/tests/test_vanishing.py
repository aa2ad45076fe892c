"""Clients that go away at any moment leave nothing behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from llmos.testing import EchoBackend
from plugins.server.tests.serving import PATIENCE, Site, serving
from plugins.server.tests.vanishing import MOMENTS, vanish_all

COUNT = 300


def left(site: Site) -> tuple[Any, ...]:
    """Return what the server holds: handles, ports, tasks, connections besides this one, and tasks of the engine."""
    stats = site.http.get("/v1/llmos/stats").json()
    known = sum(len(executor.known) for executor in site.echo.executors)
    others = len(site.server.server_state.connections) - 1
    return stats["handles"], stats["ports"], stats["tasks"], others, known


def test_nothing_is_left_of_clients_that_go(caplog: pytest.LogCaptureFixture) -> None:
    """Handles, ports, tasks, connections and places of the engine are what they were; the log is no longer either."""
    echo = EchoBackend()
    with serving(echo=echo, streams=64) as site:
        site.post("/v1/chat/completions", model="toy", messages=[{"role": "user", "content": "x"}])
        before = left(site)
        address = (site.http.base_url.host, site.http.base_url.port or 0)
        went = asyncio.run(vanish_all(address, COUNT, seed=1))
        deadline = time.monotonic() + PATIENCE
        while left(site) != before and time.monotonic() < deadline:
            continue  # each look is a request, so that there is no time in which nothing happens

        assert set(MOMENTS) == set(went)
        assert before == left(site)
        assert [] == [record.getMessage() for record in caplog.records if record.name == "asyncio"]
