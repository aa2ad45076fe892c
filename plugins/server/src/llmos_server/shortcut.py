"""The short way to routes that take a JSON body and answer for themselves: those that are asked again and again.

The framework's way there is general: what it does for a request of these routes, and need not, takes a good part of
the time that the server has for one.  Only good requests come this way.  Whatever is wrong with a body, or only
unusual, is for the framework, so that there is one place where errors are told; both ways lead to the same function.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, get_type_hints

import attrs
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from llmos_kernel.errors import KernelError
from llmos_server.bodies import Body
from llmos_server.failures import Refusal

BODY = "llmos.body"
"""Where in the scope the body is, once it was read."""
JSON = b"application/json"


@attrs.frozen
class Taker:
    """What answers a body of one kind."""

    body: type[Body]
    answer: Callable[[Any, Request], Awaitable[Response]]


def takers(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, Taker]]:
    """Yield the paths of those *routes* that need nothing of the framework but their body, and what answers there."""
    for route in routes:
        if isinstance(route, APIRoute) and route.methods == {"POST"} and not route.dependencies:
            hints = get_type_hints(route.endpoint)
            if hints.keys() == {"body", "request", "return"} and issubclass(hints["return"], Response):
                yield route.path, Taker(hints["body"], route.endpoint)


class Shortcut:
    """ASGI middleware that answers what one of the *routes* takes."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app, self._takers = app, dict(takers(routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        taker = self._takers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        body = _read(taker.body, scope) if taker is not None else None
        if taker is None or body is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await taker.answer(body, Request(scope, receive))
        except KernelError as error:
            response = Refusal.of(error).response(scope["path"])
        except Refusal as refusal:
            response = refusal.response(scope["path"])
        await response(scope, receive, send)


def _read(kind: type[Body], scope: Scope) -> Body | None:
    """Return the body of a request, or None if it is not plainly JSON of that *kind*."""
    if [value for name, value in scope["headers"] if name == b"content-type"] != [JSON]:
        return None
    try:
        return kind.model_validate(json.loads(scope[BODY]))
    except (ValueError, RecursionError):
        return None
