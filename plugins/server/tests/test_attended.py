"""Who waits for an answer, and what happens to the answer when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from llmos import AsyncClient
from llmos_server.guards import Guard
from llmos_server.options import ServerOptions
from llmos_server.state import State


class Visit:
    """A request whose client goes when the test says so, to an application that does what the test says."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self.begun, self.gone = asyncio.Event(), asyncio.Event()
        self.heard: list[str] = []
        """What the application was told."""
        self._given = False
        state = State(lambda who: AsyncClient(credentials=who), ServerOptions())
        self._guard = Guard(self._application, state, None, lambda: 0.0)

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.set()
        try:
            await self._work()
        except asyncio.CancelledError:
            self.heard.append("cancelled")
            raise

    async def _receive(self) -> Message:
        if not self._given:
            self._given = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.heard.append(message["type"])

    async def __call__(self) -> None:
        """Pass the guard."""
        scope = {"type": "http", "path": "/v1/models", "headers": [(b"host", b"localhost")]}
        await self._guard(scope, self._receive, self._send)


async def forever() -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


async def nothing_left() -> None:
    """Fail if a task is left besides the test's own; what was cancelled has a turn to end."""
    await asyncio.sleep(0)
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_a_client_that_goes() -> None:
    """Its answer is given up at once, and that is no error."""
    visit = Visit(forever)
    visiting = asyncio.create_task(visit())
    await visit.begun.wait()
    visit.gone.set()
    await visiting

    assert ["cancelled"] == visit.heard
    await nothing_left()


@pytest.mark.parametrize("goes", [False, True])
async def test_a_server_that_ends(goes: bool) -> None:
    """Whoever else cancels the answer hears that it was cancelled, also when the client goes in the same moment."""
    visit = Visit(forever)
    visiting = asyncio.create_task(visit())
    await visit.begun.wait()
    if goes:
        visit.gone.set()
        await asyncio.sleep(0)  # that is heard in one turn, and told in the next
    visiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await visiting

    assert ["cancelled"] == visit.heard
    await nothing_left()


async def test_an_answer_that_fails() -> None:
    """Is for who called, and leaves nothing behind."""

    async def fail() -> None:
        raise ValueError("no")

    visit = Visit(fail)
    with pytest.raises(ValueError, match="no"):
        await visit()

    assert [] == visit.heard
    await nothing_left()


async def test_a_task_that_goes_on() -> None:
    """Who asked goes on as if nothing had been cancelled."""
    visit = Visit(forever)

    async def ask() -> int:
        await visit()
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)
        return task.cancelling()

    asking = asyncio.create_task(ask())
    await visit.begun.wait()
    visit.gone.set()

    assert 0 == await asking
