"""The screen of ``top``, as textual's own pilot uses it."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from llmos_kernel.errors import NotFound
from llmos_observability.screen import TERMINATED, Top
from plugins.observability.tests.test_ps import task, view


class Server:
    """A kernel that keeps what it was asked to do."""

    def __init__(self) -> None:
        self.tasks = {id: task(id) for id in (1, 2, 3)}
        self.asked: list[tuple[Any, ...]] = []

    def control(self, message: str, *args: Any) -> Any:
        """Answer as the control port does."""
        seen = view(*self.tasks.values())
        if message in ("Stats", "ListModels", "ListTasks"):
            return {"Stats": seen.stats, "ListModels": seen.models, "ListTasks": seen.tasks}[message]
        self.asked.append((message, *args))
        if args[0] not in self.tasks:
            raise NotFound(f"there is no task {args[0]}, or it has ended")
        if message == "CancelTask":
            del self.tasks[args[0]]
        else:
            self.tasks[args[0]]["priority"] = args[1]
        return None


async def settle(pilot: Pilot[None]) -> None:
    """Wait until what was begun is done."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def rows(app: Top, name: str = "#tasks") -> list[list[Any]]:
    """Return the rows of a table."""
    shown = app.query_one(name, DataTable)
    return [shown.get_row_at(index) for index in range(shown.row_count)]


def said(app: Top) -> str:
    """Return the sentence below the tasks."""
    return str(app.query_one("#said", Static).content)


@pytest.fixture
def server() -> Server:
    """One with three tasks."""
    return Server()


@pytest.mark.parametrize("width", [80, 120])
async def test_what_is_shown(server: Server, width: int) -> None:
    """Summary, models and tasks."""
    app = Top(server, 60)
    async with app.run_test(size=(width, 24)) as pilot:
        await settle(pilot)

        assert ["1", "2", "3"] == [row[0] for row in rows(app)]
        assert "tiny" == rows(app, "#models")[0][0]
        assert "kernel running" in str(app.query_one("#summary", Static).content)


async def test_cancel(server: Server) -> None:
    """c ends the task under the cursor, and no other."""
    app = Top(server, 60)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("down", "c")
        await settle(pilot)

        assert [("CancelTask", 2)] == server.asked
        assert ["1", "3"] == [row[0] for row in rows(app)]
        assert "task 2 was cancelled" == said(app)


async def test_priority(server: Server) -> None:
    """+ and - change it, within the limits, and the cursor stays on the task wherever it goes."""
    app = Top(server, 60)
    server.tasks[3]["priority"] = 995
    async with app.run_test() as pilot:
        await settle(pilot)
        assert ["3", "1", "2"] == [row[0] for row in rows(app)]
        await pilot.press("plus")
        await settle(pilot)
        await pilot.press("down", "down", "minus")
        await settle(pilot)

        assert [("Reprioritise", 3, 1000), ("Reprioritise", 2, -10)] == server.asked
        assert "task 2 has priority -10" == said(app)


async def test_a_task_that_has_ended(server: Server) -> None:
    """What the kernel refuses is said, and the screen goes on."""
    app = Top(server, 60)
    async with app.run_test() as pilot:
        await settle(pilot)
        del server.tasks[1]
        await pilot.press("c")
        await settle(pilot)

        assert "there is no task 1, or it has ended" == said(app)
        assert ["2", "3"] == [row[0] for row in rows(app)]


async def test_nothing_under_the_cursor(server: Server) -> None:
    """Keys do nothing where there is no task."""
    server.tasks.clear()
    app = Top(server, 60)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("c", "plus", "p")
        await settle(pilot)

        assert [] == server.asked
        assert "paused; p goes on" == said(app)
        await pilot.press("q")


async def test_who_is_told_to_end_gives_the_terminal_back(server: Server) -> None:
    """SIGTERM ends the screen as q does; the program sees that it was no key, and hears signals itself again."""
    app = Top(server, 60)
    async with app.run_test() as pilot:
        await settle(pilot)
        signal.raise_signal(signal.SIGTERM)
        await pilot.pause()

    assert TERMINATED == app.return_code
    assert signal.SIG_DFL is signal.getsignal(signal.SIGTERM)
