"""The application: routes, guards, and errors in one form."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection
from typing import cast, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from llmos import KeyRing
from llmos_kernel.errors import KernelBug, KernelError
from llmos_server import admin, evaluations, metrics, operation, web
from llmos_server._version import __version__
from llmos_server.bodies import Body
from llmos_server.console import Console
from llmos_server.document.whole import describe
from llmos_server.failures import Refusal, invalid
from llmos_server.guards import OPEN, Guard
from llmos_server.ollama import catalogue as ollama_catalogue
from llmos_server.ollama import talking as ollama_talking
from llmos_server.openai import catalogue, completions
from llmos_server.options import ServerOptions
from llmos_server.remote import calls
from llmos_server.remote import routes as remote
from llmos_server.remote.sessions import Connect
from llmos_server.responses import routes as responses
from llmos_server.shortcut import Shortcut
from llmos_server.state import State

ROUTERS = (
    completions.router,  # first, because what is asked most often is found first
    operation.router,
    metrics.router,
    catalogue.router,
    ollama_catalogue.router,
    ollama_talking.router,
    responses.router,
    remote.router,
    calls.router,
    admin.router,
    evaluations.router,
    web.router,
)
"""Everything that is served; each module has its own."""
DESCRIPTION = "The models of this machine, for the clients of OpenAI's API."


def build(
    connect: Connect, options: ServerOptions | None = None, ring: KeyRing | None = None, console: Console | None = None
) -> FastAPI:
    """Return the application, in which *connect* attaches to the kernel whoever a key of the *ring* says has come.

    *console* is a plugin of that kernel; without one nothing is known of tasks that ended.  `app.state.home` is the
    folder of llmos, where results of evaluations are; without one there are none.  Raises `ConfigError` where nobody
    could come in.  When it is done with, `close` gives back what it holds.
    """
    options = options or ServerOptions()
    options.check_keys(0 if ring is None else len(ring.listed()))
    app = FastAPI(title="llmos", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    shown = console or Console()
    app.state.llmos, app.state.console, app.state.home = State(connect, options), shown, None
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = functools.cache(lambda: describe(app, keys=not options.open, unlocked=OPEN))  # type: ignore[method-assign]
    app.add_exception_handler(KernelError, _kernel_error)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _surprise)
    leaving = lambda: shown.leaving()  # noqa: PLW0108 - it is told later what that means
    app.add_middleware(Shortcut, routes=[route for router in ROUTERS for route in router.routes])
    app.add_middleware(Guard, state=app.state.llmos, ring=ring, now=time.time, leaving=leaving)
    return app


async def close(app: FastAPI) -> None:
    """Give back what the application holds of the kernel."""
    await cast("State", app.state.llmos).close()


async def _kernel_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, KernelError):
        raise error
    return Refusal.of(error).response(request.url.path)


async def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return error.response(request.url.path)


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return invalid(error.errors(), _fields(request)).response(request.url.path)


def _fields(request: Request) -> Collection[str]:
    """Return the fields of the body that the route of *request* takes."""
    body = get_type_hints(request.scope["route"].endpoint).get("body")
    return body.model_fields if isinstance(body, type) and issubclass(body, Body) else ()


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = "unknown_url" if error.status_code == 404 else None
    return Refusal(error.status_code, str(error.detail), code=code).response(request.url.path)


async def _surprise(request: Request, error: Exception) -> Response:
    """Answer for what nobody expected; the server's log has the rest."""
    return Refusal.of(KernelBug(f"{type(error).__name__} in {request.url.path}")).response(request.url.path)
