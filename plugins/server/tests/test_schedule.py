"""``POST /v1/llmos/schedule``: tasks of any kind, over HTTP alone."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from llmos_kernel import Event
from llmos_kernel.errors import KernelError
from llmos_kernel.hookspecs import hookimpl
from plugins.server.tests.serving import PATIENCE, Site, serving

PATH = "/v1/llmos/schedule"


def lines(site: Site, **body: Any) -> list[dict[str, Any]]:
    """Return what the server says, line by line."""
    response = site.post(PATH, **{"kind": "generate", "model": "echo", **body})
    assert 200 == response.status_code, response.text
    assert "application/x-ndjson" == response.headers["content-type"]
    return [json.loads(line) for line in response.text.splitlines()]


def test_stream(site: Site) -> None:
    """The task's number, each chunk, and the end."""
    begun, *chunks, end = lines(site, model="parrot", input="a b c", stream=True, params={"max_tokens": 2})

    assert "echo" == begun["model"]
    assert ["a", " b"] == [line["chunk"]["text"] for line in chunks]
    assert ("a b", "length", 2) == (end["done"]["text"], end["done"]["finish"], end["done"]["usage"]["generated"])


def test_whole(site: Site) -> None:
    """Without ``stream`` there is only the end, and values are JSON."""
    _, end = lines(site, kind="embed", input="a b")

    assert [2.0, 3.0] == end["done"]["value"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"kind": ""}, 400, "kind"), ({"model": "ecko"}, 404, "model"),
        ({"kind": "call"}, 400, "kind"), ({"priority": 5000}, 400, "priority"), ({"deadline": 0}, 400, "deadline"),
        ({"tenant": "acme"}, 400, "tenant"), ({"pre": "x"}, 400, "pre"),
    ],
)  # fmt: skip
def test_mistakes(site: Site, body: dict[str, Any], status: int, param: str) -> None:
    """Each has a status and names its field, before there is a task."""
    response = site.post(PATH, **{"kind": "generate", "model": "echo", "input": "a", **body})

    assert (status, param) == (response.status_code, response.json()["error"]["param"])


def test_task_that_fails(site: Site) -> None:
    """The last line is its error, in the form of all errors, with what was said until then."""
    (_, failed) = lines(site, input="a", params={"warmth": 1})
    assert "warmth" in failed["error"]["message"]
    with serving() as other:
        other.echo.faults.row = (1, KernelError("broken row"))
        *_, last = lines(other, input="a b c", stream=True)
    assert ("a", 1) == (last["text"], last["usage"]["generated"])


class Ends:
    """An observer that hears of tasks that are cancelled."""

    name = "ends"

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Note it."""
        if event.name == "task.cancelled":
            self.cancelled.set()


def test_reader_that_goes() -> None:
    """Takes the task along."""
    ends = Ends()
    with serving(ends) as site:
        site.echo.gate.shut()
        body = {"kind": "generate", "model": "echo", "input": "a b c", "stream": True}
        with site.http.stream("POST", PATH, json=body, timeout=PATIENCE) as response:
            lines = response.iter_lines()  # kept: when it is collected, httpx ends the connection
            next(lines)
            site.echo.gate.wait_for_visitor()
        assert ends.cancelled.wait(PATIENCE)
