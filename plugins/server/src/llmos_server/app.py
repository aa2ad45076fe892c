"""The application: routes, guards, and errors in one form."""

from __future__ import annotations

import time
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from llmos import KeyRing
from llmos_kernel.errors import KernelBug, KernelError
from llmos_server._version import __version__
from llmos_server.failures import Refusal, invalid
from llmos_server.guards import Guard
from llmos_server.openai import catalogue, completions
from llmos_server.openai.requests import ChatBody, CompletionBody, EmbeddingBody
from llmos_server.options import ServerOptions
from llmos_server.state import Connect, State, state_of

KNOWN = frozenset(name for body in (ChatBody, CompletionBody, EmbeddingBody) for name in body.model_fields)
"""The fields of all bodies."""
DESCRIPTION = "The models of this machine, for the clients of OpenAI's API."


def build(connect: Connect, options: ServerOptions | None = None, ring: KeyRing | None = None) -> FastAPI:
    """Return the application, in which *connect* attaches to the kernel whoever a key of the *ring* says has come.

    Raises `ConfigError` where nobody could come in.  When it is done with, `close` gives back what it holds.
    """
    options = options or ServerOptions()
    options.check_keys(0 if ring is None else len(ring.listed()))
    app = FastAPI(title="llmos", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.llmos = State(connect, options)
    app.include_router(catalogue.router)
    app.include_router(completions.router)
    app.add_api_route("/health", _health, methods=["GET"], summary="Whether the server runs", tags=["Operation"])
    app.add_api_route("/ready", _ready, methods=["GET"], summary="Whether it takes requests", tags=["Operation"])
    app.add_exception_handler(KernelError, _kernel_error)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _surprise)
    app.add_middleware(Guard, state=app.state.llmos, ring=ring, now=time.time)
    return app


async def close(app: FastAPI) -> None:
    """Give back what the application holds of the kernel."""
    await cast("State", app.state.llmos).close()


async def _health() -> Response:
    return JSONResponse({"status": "ok"})


async def _ready(request: Request) -> Response:
    state = await state_of(request).seat(None).client.control("Stats")
    ready = state["state"] == "running"
    return JSONResponse({"status": state["state"]}, 200 if ready else 503)


async def _kernel_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, KernelError):
        raise error
    return Refusal.of(error).response()


async def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return error.response()


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return invalid(error.errors(), KNOWN).response()


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = "unknown_url" if error.status_code == 404 else None
    return Refusal(error.status_code, str(error.detail), code=code).response()


async def _surprise(request: Request, error: Exception) -> Response:
    """Answer for what nobody expected; the server's log has the rest."""
    return Refusal.of(KernelBug(f"{type(error).__name__} in {request.url.path}")).response()
