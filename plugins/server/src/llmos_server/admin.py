"""``/v1/llmos/*``: what a server's dashboard shows and does, as JSON.

Each route asks the kernel's control port with the seat of whoever came, so a tenant sees and steers its own tasks, an
operator everybody's, and a policy may forbid each of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal, cast

import attrs
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response, StreamingResponse

from llmos_kernel.errors import KernelError
from llmos_server import meter
from llmos_server.bodies import Body
from llmos_server.console import Console, Ended, timeline
from llmos_server.document.llmos import (
    EndedTask, ModelFacts, ModelFactsList, PluginFactsList, Statistics, TaskFacts, TaskFactsList,
)  # fmt: skip
from llmos_server.document.parts import streamed, told
from llmos_server.failures import Refusal
from llmos_server.openai.answers import event
from llmos_server.state import OPERATOR, demand_operator, key_of, may_operate, seat_of

router = APIRouter(prefix="/v1/llmos", tags=["llmos"])
HERE = "local"
"""The tenant of who comes without a key."""
SHARE = 20
"""How many times as long as it takes to look is waited before the next look: watching costs a twentieth at most."""
GUARDED = ("unload", "reasons", "evaluations")
"""What a key must have the scope for: unload models, be told reasons, which may name files, and results."""
TaskId = Annotated[int, Field(ge=0, le=2**40)]
_HIDDEN = ("path", "options")
"""What a model's facts say of the machine."""


class PriorityBody(Body):
    """``PATCH /v1/llmos/tasks/{id}``."""

    priority: Annotated[int, Field(ge=-1000, le=1000)]


# --- who asks ----------------------------------------------------------------------------------------------------


def _console(request: Request) -> Console:
    return cast("Console", request.app.state.console)


def _may_see(request: Request) -> Callable[[str], bool]:
    """Return whether who asks may see tasks of a tenant: the kernel's own rule, for what it has forgotten."""
    key = key_of(request)
    tenant, scopes = (HERE, ()) if key is None else (key.tenant, key.scopes)
    return lambda other: OPERATOR in scopes or other == tenant


def _you(request: Request) -> dict[str, Any]:
    key = key_of(request)
    name, tenant = (HERE, HERE) if key is None else (key.name, key.tenant)
    may = dict.fromkeys(GUARDED, may_operate(request))
    return {"name": name, "tenant": tenant, "operator": key is not None and OPERATOR in key.scopes, "may": may}


async def _ask(request: Request, message: str, *args: object) -> Any:  # noqa: ANN401 - plain values
    return await seat_of(request).client.control(message, *args)


# --- models ------------------------------------------------------------------------------------------------------


@router.get(
    "/models", summary="List the models with their state, size and measured speed", responses=told(ModelFactsList)
)
async def models(request: Request) -> Response:
    """List the models."""
    found = await _ask(request, "ListModels")
    ended = _console(request).ended(_may_see(request))
    return JSONResponse({"object": "list", "data": [await _model(request, facts, ended) for facts in found]})


@router.get("/models/{name:path}", summary="Look one model up", responses=told(ModelFacts))
async def model(name: str, request: Request) -> Response:
    """Tell of one model, by its name or an alias."""
    return await _told(request, await _ask(request, "InspectModel", name))


@router.post(
    "/models/{name:path}/load", summary="Begin to load a model", status_code=202, responses=told(ModelFacts, 202)
)
async def load(name: str, request: Request) -> Response:
    """Begin to load a model; its state says when it is loaded, and why it could not be."""
    return await _told(request, await _ask(request, "LoadModel", name), 202)


@router.post("/models/{name:path}/unload", summary="Unload an idle model", responses=told(ModelFacts))
async def unload(name: str, request: Request) -> Response:
    """Unload a model that nobody uses, which everybody then waits for; 503 for one that is in use."""
    demand_operator(request, "unloading a model")
    return await _told(request, await _ask(request, "UnloadModel", name))


async def _told(request: Request, facts: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(await _model(request, facts, _console(request).ended(_may_see(request))), status)


async def _model(request: Request, facts: dict[str, Any], ended: Sequence[Ended]) -> dict[str, Any]:
    console = _console(request)
    if facts["state"] in ("loaded", "failed") and "executor" not in facts:
        facts = await _ask(request, "InspectModel", facts["name"])
    why = facts["why"] or (console.failure(facts["name"]) if facts["state"] == "unloaded" else "")
    shown = {name: value for name, value in facts.items() if name not in _HIDDEN}
    executor = facts.get("executor") or {}
    told = why if may_operate(request) else ""
    return shown | {"why": told, "executor": plain(executor), "speed": meter.speed(ended, facts["name"])}


def plain(value: Any) -> Any:  # noqa: ANN401 - what a plugin says of itself
    """Return *value* as JSON can have it; what JSON has no form for becomes text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# --- tasks -------------------------------------------------------------------------------------------------------


@router.get(
    "/tasks",
    summary="List tasks that live, and the last that ended, with their time lines",
    responses=told(TaskFactsList),
)
async def tasks(
    request: Request,
    state: Literal["all", "live", "ended", "done", "failed", "cancelled"] = "all",
    model: Annotated[str | None, Query(max_length=512)] = None,
    kind: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=2048)] = 200,
) -> Response:
    """List tasks, the youngest first; those that live come before those that ended."""
    console, now = _console(request), time.time()
    live = await _live(request)
    rows = [_living(console, facts, now) for facts in reversed(live)] if state in ("all", "live") else []
    if state != "live":
        ended = console.ended(_may_see(request))
        rows += [_dead(task) for task in ended if state in ("all", "ended", task.state)]
    rows = [row for row in rows if model in (None, row["model"]) and kind in (None, row["kind"])]
    return JSONResponse(
        {"object": "list", "data": rows[:limit], "more": max(0, len(rows) - limit), "heard": console.heard}
    )


@router.post("/tasks/{id}/cancel", summary="Cancel a task", responses=told(EndedTask))
async def cancel(id: TaskId, request: Request) -> Response:
    """End a task; 404 for one that has ended, or is somebody else's."""
    return JSONResponse(await _ask(request, "CancelTask", id))


@router.patch("/tasks/{id}", summary="Give a task another priority", responses=told(TaskFacts))
async def reprioritise(id: TaskId, body: PriorityBody, request: Request) -> Response:
    """Give a task another priority, for schedulers that look at it."""
    facts = await _ask(request, "Reprioritise", id, body.priority)
    return JSONResponse(_living(_console(request), facts, time.time()))


async def _live(request: Request) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await _ask(request, "ListTasks")
    _console(request).saw(found)
    return found


def _living(console: Console, facts: dict[str, Any], now: float) -> dict[str, Any]:
    more = {"accepted": now - facts["age"], "ended": None, "error": ""}
    return facts | more | {"timeline": _spans(facts, console.seen(facts["id"]))}


def _dead(task: Ended) -> dict[str, Any]:
    facts = attrs.asdict(task, filter=attrs.filters.exclude("seen"))
    return facts | {"accepted": task.accepted, "age": task.age, "timeline": _spans(facts, task.seen)}


def _spans(usage: dict[str, Any], seen: tuple[tuple[float, str], ...]) -> list[dict[str, Any]]:
    return [attrs.asdict(span) for span in timeline(usage, seen)]


# --- the rest ----------------------------------------------------------------------------------------------------


@router.get("/plugins", summary="List the plugins with their state and why", responses=told(PluginFactsList))
async def plugins(request: Request) -> Response:
    """List the plugins.  Why one is not usable is told on this machine and to operators: it may name files."""
    found = await _ask(request, "ListPlugins")
    if not may_operate(request):
        found = [facts | {"why": "", "value": ""} for facts in found]
    return JSONResponse({"object": "list", "data": [plain(facts) for facts in found]})


@router.get("/stats", summary="Counts, memory, latency, and the last five minutes", responses=told(Statistics))
async def stats(request: Request) -> Response:
    """Tell how the server is.  Counts and memory are the server's; latency and history are of tasks one may see."""
    console, now = _console(request), time.time()
    counts = await _ask(request, "Stats")
    ended = console.ended(_may_see(request))
    facts = {"you": _you(request), "heard": console.heard, "latency": meter.latency(ended, now)}
    return JSONResponse(counts | facts | {"history": meter.history(ended, now), "at": now})


@router.get(
    "/events", summary="The same counts, again and again", responses=streamed(), response_class=StreamingResponse
)
async def events(
    request: Request, interval: Annotated[float, Query(ge=0.05, le=60, allow_inf_nan=False)] = 1.0
) -> Response:
    """Send server-sent events: what `stats` tells, without history, and the rates since the last one.

    The stream ends with the connection, when the server stops, and with an error when the key is taken back.
    """
    first = await _ask(request, "Stats")  # what goes wrong now still has a status
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_ticks(request, first, interval), media_type="text/event-stream", headers=headers)


async def _ticks(request: Request, counts: dict[str, Any], interval: float) -> AsyncIterator[bytes]:
    console, gauge, may_see = _console(request), meter.Meter(), _may_see(request)
    try:
        while not console.leaving():
            begun = time.perf_counter()
            live, now, ended = await _live(request), time.time(), console.ended(may_see)
            facts = {"rates": gauge.tick(live, ended, now), "latency": meter.latency(ended, now)}
            facts |= {"you": _you(request), "heard": console.heard, "changes": dict(console.changes)}
            yield event(counts | facts)
            await asyncio.sleep(max(interval, SHARE * (time.perf_counter() - begun)))
            counts = await _ask(request, "Stats")
    except KernelError as error:
        yield event(Refusal.of(error).body())
