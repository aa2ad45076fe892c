"""What the routes share: a seat at the kernel for each holder of a key, and one for who needs none."""

from __future__ import annotations

from typing import Any, cast

import attrs
from starlette.requests import Request

from llmos import AsyncClient, Key, trace_context
from llmos_kernel.api import Credentials
from llmos_kernel.errors import InvalidArgument
from llmos_server.failures import Refusal
from llmos_server.models import Models
from llmos_server.options import ServerOptions
from llmos_server.remote.sessions import Connect, Sessions
from llmos_server.responses.kept import Kept


OPERATOR = "operator"
"""The scope of who may see everybody's tasks, and change what everybody gets."""


@attrs.frozen
class Seat:
    """Somebody's client, the models that were loaded with it, and the latest responses."""

    client: AsyncClient
    models: Models
    responses: Kept


@attrs.define
class State:
    """Everybody's seats, and how much a request may take."""

    connect: Connect
    options: ServerOptions
    _seats: dict[str, Seat] = attrs.field(factory=dict, init=False)
    """By the number of the key; who needs none has an empty one."""
    answered: int = attrs.field(default=0, init=False)
    """Requests that are answered now."""
    sessions: Sessions = attrs.field(init=False)
    """Those of remote clients."""

    def __attrs_post_init__(self) -> None:
        self.sessions = Sessions(self.connect, self.options)

    def seat(self, key: Key | None) -> Seat:
        """Return the seat of the holder of *key*, or of who needs none."""
        number = "" if key is None else key.number
        if number not in self._seats:
            client = self.connect(Credentials() if key is None else key.credentials)
            self._seats[number] = Seat(client, Models(client), Kept(self.options.kept, 4 * self.options.body))
        return self._seats[number]

    async def leave(self, number: str) -> None:
        """Cancel what the holder of a key that was taken back still has running, and take the seat away."""
        await self.sessions.leave(number)
        seat = self._seats.pop(number, None)
        if seat is not None:
            await seat.client.close()

    def holds(self, number: str) -> bool:
        """Return whether somebody sits here by the key of that number."""
        return number in self._seats or self.sessions.holds(number)

    async def close(self) -> None:
        """Take every seat away."""
        await self.sessions.close()
        for number in list(self._seats):
            await self.leave(number)


def state_of(request: Request) -> State:
    """Return the state of the application that answers *request*."""
    return cast("State", request.app.state.llmos)


def key_of(request: Request) -> Key | None:
    """Return the key of who asks; None for who needs none."""
    return cast("Key | None", request.scope.get("llmos.key"))


def may_operate(request: Request) -> bool:
    """Return whether who asks has the scope, or needs no key."""
    key = key_of(request)
    return key is None or OPERATOR in key.scopes


def demand_operator(request: Request, what: str) -> None:
    """Raise `Refusal` for the holder of a key without the scope; *what* is for those who have it."""
    if not may_operate(request):
        raise Refusal(403, f"{what} is for keys with the scope {OPERATOR}", "permission_error")


def seat_of(request: Request) -> Seat:
    """Return the seat of who asks."""
    return state_of(request).seat(key_of(request))


def trace_of(request: Request) -> str:
    """Return whose trace *request* belongs to, as `Task.trace` holds it; empty where it says nothing, or nothing valid.

    As W3C's trace context has it (section 3): the headers of several tracestates are one, and of several traceparents
    none is right.
    """
    parents, states = (request.headers.getlist(name) for name in ("traceparent", "tracestate"))
    try:
        return trace_context({"traceparent": parents[0], "tracestate": ",".join(states)} if len(parents) == 1 else "")
    except InvalidArgument:
        return ""


def shared(request: Request) -> dict[str, Any]:
    """Return what every text that *request* asks for is given.

    That is when it ends, whoever still reads, how often its reader wants pieces, and whose trace it belongs to.
    """
    state = state_of(request)
    pace = state.options.pace_of(state.answered)
    return {"deadline": state.options.seconds, "pace": pace, "trace": trace_of(request)}
