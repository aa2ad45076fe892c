"""How often the pieces of a streamed answer come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llmos_kernel import Event, hookimpl
from llmos_kernel.errors import InvalidArgument
from llmos_server.options import ServerOptions
from plugins.server.tests.serving import PATIENCE, Site, serving

SAID = [{"role": "user", "content": "one two three four"}]
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": SAID}),
    "completion": ("/v1/completions", {"prompt": "one two three four"}),
    "response": ("/v1/responses", {"input": "one two three four"}),
    "Ollama's chat": ("/api/chat", {"messages": SAID}),
    "Ollama's generate": ("/api/generate", {"prompt": "one two three four"}),
}


def paces(site: Site) -> list[float]:
    """Return the pace of each task that the model had."""
    return [task.pace for executor in site.echo.executors for task in executor.tasks]


@pytest.mark.parametrize(("path", "body"), ROUTES.values(), ids=ROUTES)
def test_every_text_is_paced(path: str, body: dict[str, Any]) -> None:
    """As the configuration says; the whole text comes, whatever was joined."""
    with serving(pace=0.25) as site:
        response = site.post(path, model="echo", stream=True, **body)

        assert 200 == response.status_code
        assert [0.25] == paces(site)
        assert all(word in response.text for word in ("one", "two", "three", "four"))


class Doorkeeper:
    """An observer that says when a task has been accepted."""

    name = "doorkeeper"

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Let whoever waits for the task go on."""
        if event.name == "task.accepted":
            self.came.release()


def test_a_crowd_shares() -> None:
    """Six at once have the whole pace; of more, each has so much less that together they have as much, to a fifth."""
    door, crowd = Doorkeeper(), 40
    with serving(door, pace=0.25) as site, ThreadPoolExecutor(crowd) as threads:
        site.echo.gate.shut()
        for _ in range(crowd):
            threads.submit(site.post, "/v1/completions", model="toy", prompt="one", stream=True)
            assert door.came.acquire(timeout=PATIENCE)
        site.echo.gate.open()
    longer = [0.25 * count / 6 for count in range(7, 30)]

    assert pytest.approx([0.25] * 6 + longer + [1.25] * 11) == sorted(paces(site))


def test_by_itself() -> None:
    """Fifty pieces a second at most; each piece as it comes where that is wanted."""
    assert 0.02 == ServerOptions().pace
    assert 0.0 == ServerOptions(pace=0).pace
    with pytest.raises(InvalidArgument, match="pace"):
        ServerOptions(pace=-1.0)
