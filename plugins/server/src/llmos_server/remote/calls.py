"""``POST /v1/llmos/schedule``: a task for programs that speak HTTP alone; its events are the answer's lines."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import attrs
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from llmos_kernel import Chunk, Done, Failed, Task, TaskHandle
from llmos_kernel.aio import AsyncProcess
from llmos_kernel.api import MAX_SECONDS
from llmos_kernel.errors import KernelError
from llmos_server.admin import plain
from llmos_server.bodies import Body, Name
from llmos_server.document.parts import streamed
from llmos_server.failures import Refusal
from llmos_server.state import seat_of, state_of, trace_of
from llmos_server.streams import LINES, Pieces

router = APIRouter(prefix="/v1/llmos", tags=["llmos"])
Names = Annotated[list[Name], Field(max_length=64, fail_fast=True)]


class ScheduleBody(Body):
    """``POST /v1/llmos/schedule``: the fields of a `Task`."""

    kind: Name
    model: Name
    input: Any = None
    params: dict[str, Any] = Field(default_factory=dict)
    pre: Names = Field(default_factory=list)
    post: Names = Field(default_factory=list)
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    deadline: Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)] | None = None
    stream: bool = False

    def task(self, seconds: float, trace: str) -> Task:
        """Return the task, which ends after *seconds* at the latest and belongs to *trace*."""
        return Task(
            self.kind, self.model, self.input, params=self.params, pre=self.pre, post=self.post,
            priority=self.priority, stream=self.stream, trace=trace,
            deadline=seconds if self.deadline is None else min(self.deadline, seconds),
        )  # fmt: skip


@router.post(
    "/schedule", summary="Run a task of any kind", response_class=StreamingResponse,
    responses=streamed(LINES, "A line of JSON per event of the task."),
)  # fmt: skip
async def schedule(body: ScheduleBody, request: Request) -> Response:
    """Send the task's number and model, each chunk of one that streams, and at the end ``done``, or ``error``.

    The task is cancelled when its reader goes.
    """
    process = seat_of(request).client.process
    handle = await process.schedule(body.task(state_of(request).options.seconds, trace_of(request)))
    return Pieces(_lines(process, handle), LINES)


async def _lines(process: AsyncProcess, handle: TaskHandle) -> AsyncGenerator[bytes]:
    """Yield the lines.  Closed when the reader has gone, which cancels the task."""
    with handle:
        yield _line({"task": handle.id, "model": handle.model})
        event: object = None
        try:
            while not isinstance(event, Done | Failed):
                event = (await process.recv(handle, timeout=MAX_SECONDS)).body
                yield _line(_told(event))
        except KernelError as error:
            yield _line(Refusal.of(error).body())


def _told(event: object) -> dict[str, Any]:
    """Return what a line says of an event."""
    if isinstance(event, Failed):
        return {**Refusal.of(event.error).body(), "text": event.text, "usage": attrs.asdict(event.usage)}
    if not isinstance(event, Chunk | Done):
        raise TypeError(f"a task sent {event!r:.80}")
    facts = {"text": event.text, "tokens": event.tokens, "value": event.value}
    if isinstance(event, Chunk):
        return {"chunk": plain(facts)}
    return {"done": plain(facts | {"finish": event.finish, "usage": attrs.asdict(event.usage)})}


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode("ascii") + b"\n"
