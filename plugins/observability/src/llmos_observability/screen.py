"""The screen of ``llmos top``, on textual: the kernel, its models, and its tasks, of which one is chosen."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import ClassVar, Final

from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Static

from llmos_kernel.errors import KernelError
from llmos_observability.view import MODELS, TASKS, Asked, View, clean

TERMINATED: Final = 128 + signal.SIGTERM
"""The return code of a screen that was ended by that signal: it has given the terminal back as it was."""
STEP = 10
"""By how much + and - change a priority."""
LIMITS = (-1000, 1000)
"""The priorities that there are."""


class Top(App[None]):
    """Watches the kernel of *client*, with a look every *interval* seconds."""

    TITLE = "llmos top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: auto; padding: 0 1; }
    #models { height: auto; max-height: 40%; margin-bottom: 1; }
    #tasks { height: 1fr; }
    #said { height: 1; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("c", "cancel", "Cancel"), ("plus", "priority(1)", "Priority +"), ("minus", "priority(-1)", "Priority -"),
        ("p", "pause", "Pause"), ("q", "quit", "Quit"),
    ]  # fmt: skip

    def __init__(self, client: Asked, interval: float) -> None:
        super().__init__()
        self._client, self._interval = client, interval
        self._paused = False
        self._view: View | None = None

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield Static(id="summary", markup=False)
        yield DataTable(id="models", cursor_type="none", show_cursor=False)
        yield DataTable(id="tasks", cursor_type="row")
        yield Static(id="said", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        for name, header in (("#models", MODELS), ("#tasks", TASKS)):
            self.query_one(name, DataTable).add_columns(*header)
        self.query_one("#tasks", DataTable).focus()
        self.set_interval(self._interval, self._tick)
        if sys.platform != "win32":  # there the program is ended without being told
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, None, TERMINATED)
        self.look()

    def on_unmount(self) -> None:
        """Be deaf to signals again."""
        if sys.platform != "win32":
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    def _tick(self) -> None:
        if not self._paused:
            self.look()

    @work(thread=True, exclusive=True, group="look")
    def look(self) -> None:
        """Ask the server, and show what it answers."""
        try:
            view = View.of(self._client)
        except KernelError as error:
            self.call_from_thread(self.say, error.message)
        else:
            self.call_from_thread(self.show, view)

    def show(self, view: View) -> None:
        """Show *view*; the cursor stays on its task."""
        self._view = view
        self.query_one("#summary", Static).update("\n".join(view.summary()))
        models = self.query_one("#models", DataTable)
        models.clear()
        models.add_rows(view.model_rows())
        tasks, chosen = self.query_one("#tasks", DataTable), self._chosen()
        tasks.clear()
        for row in view.task_rows():
            tasks.add_row(*row, key=row[0])
        if chosen is not None and str(chosen) in tasks.rows:
            tasks.move_cursor(row=tasks.get_row_index(str(chosen)))

    def say(self, text: str) -> None:
        """Show a sentence below the tasks."""
        self.query_one("#said", Static).update(clean(text))

    def _chosen(self) -> int | None:
        """Return the number of the task under the cursor."""
        tasks = self.query_one("#tasks", DataTable)
        if not tasks.row_count:
            return None
        return int(str(tasks.get_row_at(tasks.cursor_row)[0]))

    def action_cancel(self) -> None:
        """Cancel the task under the cursor."""
        task = self._chosen()
        if task is not None:
            self.act(f"task {task} was cancelled", "CancelTask", task)

    def action_priority(self, direction: int) -> None:
        """Change the priority of the task under the cursor."""
        task = self._chosen()
        for facts in self._view.tasks if self._view else ():
            if facts["id"] == task:
                priority = min(LIMITS[1], max(LIMITS[0], facts["priority"] + direction * STEP))
                self.act(f"task {task} has priority {priority}", "Reprioritise", task, priority)

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._paused = not self._paused
        self.say("paused; p goes on" if self._paused else "")

    @work(thread=True, group="act")
    def act(self, done: str, message: str, *args: object) -> None:
        """Ask the server to do something, and say how it went."""
        try:
            self._client.control(message, *args)
        except KernelError as error:
            done = error.message
        self.call_from_thread(self.say, done)
        self.look()
