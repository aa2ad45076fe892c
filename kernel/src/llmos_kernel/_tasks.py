"""Tasks as the kernel keeps them.

`TaskRecord.end` is the only way to an end, and it works once: whoever comes first (the dispatcher, a canceller, a
deadline, a stopping kernel) writes the terminal event, and everybody later is told False.  Under the core's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmos_kernel._handles import Entry, Resource
from llmos_kernel._ports import PortResource
from llmos_kernel.api import Chunk, Done, Failed, Task, Usage
from llmos_kernel.contracts import Result, TaskState, TaskView
from llmos_kernel.errors import Cancelled, KernelError
from llmos_kernel.services import TextFilter

if TYPE_CHECKING:
    from llmos_kernel._core import Seat
    from llmos_kernel._drivers import ExecutorDriver
    from llmos_kernel._models import Served

ENDED = frozenset(("done", "failed", "cancelled"))


class TaskRecord(Resource):
    """One task, from acceptance until its handle is gone."""

    __slots__ = (
        "accepted", "cached", "context", "deadline", "driver", "dropped", "due", "entry", "filters", "first",
        "generated", "id", "length_class", "lent", "max_tokens", "output", "parent", "placed", "port", "prefilled",
        "priority", "prompt", "redone", "served", "stalled", "started", "state", "task", "trace",
    )  # fmt: skip
    kind = "task"

    def __init__(self, id: int, task: Task, seat: Seat, driver: ExecutorDriver, now: float) -> None:
        self.id, self.task, self.seat, self.driver = id, task, seat, driver
        self.state: TaskState = "accepted"
        self.priority, self.trace, self.accepted, self.due = task.priority, task.trace, now, now
        self.deadline = None if task.deadline is None else now + task.deadline
        self.started: float | None = None
        self.first: float | None = None
        self.stalled: float | None = None
        """Since when nobody reads."""
        self.prompt = self.cached = self.prefilled = self.generated = self.max_tokens = self.length_class = 0
        self.redone = 0
        """Generated tokens that a dropped cache made part of the prompt again."""
        self.dropped = False
        """Its cache was dropped: what the executor finds again of it counts as cached."""
        self.placed = False
        """The executor holds a place for it."""
        self.lent = 0
        """For how many children it waits: its row and its place in flight are lent."""
        self.port: PortResource | None = None
        self.output: tuple[list[str], list[int], list[Any]] | None = None
        """What it has said: texts, tokens and log probabilities."""
        self.filters: list[tuple[str, TextFilter]] | None = None
        self.entry: Entry | None = None
        """Its handle, once nobody can use it any more."""
        self.context: int | None = None
        self.served: Served
        self.parent: int | None = None
        """The ``call`` task that scheduled it."""

    @property
    def charge(self) -> tuple[str, int]:  # type: ignore[override]
        """One task in flight, while it is: not when it ended, and not while its place is lent."""
        return "tasks", int(not self.ended and not self.lent)

    @property
    def ended(self) -> bool:
        """Whether the terminal event is written."""
        return self.state in ENDED

    @property
    def remaining(self) -> int:
        """Prompt tokens that are still to be computed."""
        return self.prompt + self.redone - self.cached - self.prefilled

    @property
    def full(self) -> bool:
        """Whether every place of the port but the terminal event's is taken."""
        return self.port is not None and len(self.port.items) >= self.port.capacity

    def view(self) -> TaskView:
        """Return what a scheduler may know."""
        return TaskView(
            self.id, self.task.kind, self.seat.principal.tenant, self.priority, self.deadline, self.accepted,
            self.prompt + self.redone, self.max_tokens, self.cached, self.prefilled, self.generated, self.max_tokens,
            self.length_class, self.state, self.placed,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return what every event about the task says of it."""
        kind, tenant = self.task.kind, self.seat.principal.tenant
        return {"task": self.id, "model": self.served.name, "kind": kind, "tenant": tenant, "trace": self.trace}

    def usage(self, now: float) -> Usage:
        """Return what it has used until *now*."""
        started, first = (now if time is None else time for time in (self.started, self.first))
        return Usage(self.prompt, self.cached, self.generated, started - self.accepted, first - started, now - first)

    def channel(self) -> PortResource:
        """Return the port of its events, made when it is first needed: most tasks wait without one."""
        if self.port is None:
            self.port = PortResource(self.seat, self.task.capacity)
            self.port.senders = self.port.receivers = 1
        return self.port

    def collect(self, result: Result) -> None:
        """Add what a step produced, and put it on the port if the task streams.

        A piece that finds the port full (the executor was already at it), or that the reader does not want yet, is
        joined to the last one: nothing is lost, and the port does not grow.
        """
        if (used := result.usage) is not None:
            self.prompt, self.cached, self.generated = used.prompt, used.cached, used.generated
        texts, tokens, logprobs = self.output = self.output or ([], [], [])
        texts.append(result.text)
        tokens.extend(result.tokens)
        logprobs.extend(result.logprobs)
        piece = None if result.finish else result.value
        if self.task.stream and (result.text or result.tokens or piece is not None):
            self._publish(Chunk(self.id, result.text, result.tokens, result.logprobs, piece))

    def _publish(self, chunk: Chunk) -> None:
        port, early = self.channel(), self.seat.core.clock.now() < self.due
        if port.items and (early or self.full) and chunk.value is None:
            last = port.items.pop()
            joined = (last.text + chunk.text, last.tokens + chunk.tokens, last.logprobs + chunk.logprobs, last.value)
            chunk = Chunk(self.id, *joined)
        port.items.append(chunk)
        if not early or self.full:
            port.readers.wake()

    def end(self, now: float, *, error: KernelError | None = None, finish: str = "stop", value: Any = None) -> bool:  # noqa: ANN401
        """Write the terminal event; False if there is one already."""
        if self.ended:
            return False
        texts, tokens, logprobs = self.output or ((), (), ())
        usage, text = self.usage(now), "".join(texts)
        if error is None:
            self.state = "done"
            event: Done | Failed = Done(self.id, text, tuple(tokens), tuple(logprobs), value, finish, usage)
        else:
            self.state = "cancelled" if isinstance(error, Cancelled) else "failed"
            event = Failed(self.id, error, text, usage)
        port = self.channel()
        port.items.append(event)
        port.senders = 0
        port.lost(0)
        self.output = self.filters = None
        self.seat.core.ended(self, now, error, finish)
        return True

    def lost(self, rights: int) -> None:
        if self.port is not None:
            self.port.lost(0)

    def disposed(self) -> None:
        """The handle was closed: cancel what still runs."""
        if not self.ended:
            error = Cancelled(f"task {self.id} was cancelled: its handle was closed", task=self.id)
            self.end(self.seat.core.clock.now(), error=error)
