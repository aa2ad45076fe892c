"""``/health`` and ``/ready``: what a supervisor asks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos_server.document.llmos import Health, Readiness
from llmos_server.document.parts import told
from llmos_server.state import seat_of

router = APIRouter(tags=["Operation"])
BROKEN = ("failed", "incompatible")
"""States of plugins that were wanted and are not there."""


@router.get("/health", summary="Whether the server runs", responses=told(Health))
async def health() -> Response:
    """Say that the server runs; it is asked without a key."""
    return JSONResponse({"status": "ok"})


@router.get("/ready", summary="Whether it takes requests", responses=told(Readiness) | told(Readiness, 503))
async def ready(request: Request) -> Response:
    """Say whether the kernel takes tasks, and of what that it has to do with something cannot be done, and why."""
    client = seat_of(request).client
    state = (await client.control("Stats"))["state"]
    broken = [plugin for plugin in await client.control("ListPlugins") if plugin["state"] in BROKEN]
    reasons = [
        *([] if state == "running" else [f"the kernel is {state}"]),
        *(f"model {info.name} cannot be loaded" for info in await client.models() if info.state == "failed"),
        *(f"plugin {plugin['key']} is {plugin['state']}" for plugin in broken),
    ]
    return JSONResponse({"status": state, "reasons": reasons}, 200 if state == "running" else 503)
