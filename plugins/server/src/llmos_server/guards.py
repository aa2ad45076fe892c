"""What every request passes before a route sees it: who asks from where, how much, and how many at once.

ASGI middleware, because that alone can stop reading a body.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmos import Key, KeyRing
from llmos_kernel.errors import PermissionDenied
from llmos_server.failures import Refusal
from llmos_server.options import is_loopback
from llmos_server.shortcut import BODY
from llmos_server.state import State
from llmos_server.web import ASSETS

PREFIX = "llmos"
"""What keys of ours begin with."""
OPEN = frozenset(("/health", *ASSETS))
"""Routes that need no key, because they tell of nothing."""
ALWAYS = OPEN | {"/ready"}
"""Routes that are answered however busy the server is."""


class Guard:
    """Refuses what no route has to see.

    A web page of another origin may make a browser send requests here, also by a name that it lets point here.  So the
    name that a request asks for must be this machine's, and an origin, where a browser tells one, must be too.
    """

    def __init__(
        self, app: ASGIApp, state: State, ring: KeyRing | None, now: Callable[[], float],
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._app, self._state, self._options, self._ring, self._now = app, state, state.options, ring, now
        self._leaving = leaving
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        if scope["type"] == "websocket":
            await self._opened(scope, receive, send)
            return
        if scope["type"] != "http":  # the application's own start and end
            await self._app(scope, receive, send)
            return
        try:
            self._check_origin(scope)
            if scope["path"] not in OPEN:
                scope["llmos.key"] = await self._holder(scope)
                self._check_leaving()
            body = scope[BODY] = await self._read(scope, receive)
        except Refusal as refusal:
            await refusal.response(scope["path"])(scope, receive, send)
            return
        if scope["path"] in ALWAYS:
            await self._attended(scope, body, receive, send)
        elif self._state.answered >= self._options.streams:
            message = f"the server answers {self._options.streams} requests at once, and all of them are taken"
            full = Refusal(429, message, "rate_limit_error", code="overloaded", retry_after=1.0)
            await full.response(scope["path"])(scope, receive, send)
        else:
            self._state.answered += 1
            try:
                await self._attended(scope, body, receive, send)
            finally:
                self._state.answered -= 1

    async def _opened(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the opening of a WebSocket on, or refuse it; the route may ask again whether the key is good."""
        try:
            self._check_origin(scope)
            scope["llmos.key"] = await self._holder(scope)
            self._check_leaving()
        except Refusal as refusal:
            await receive()
            await refusal.response(scope["path"])(scope, receive, send)
            return
        scope["llmos.holder"] = functools.partial(self._holder, scope)
        await self._app(scope, receive, send)

    async def _attended(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Have the request answered, and give it up at once when the client has gone, whatever it waits for."""
        gone = asyncio.ensure_future(receive())  # the body was read: nothing else can come
        try:
            async with _until(gone):
                await self._app(scope, _replay(body, gone), send)
        finally:
            gone.cancel()

    def _check_leaving(self) -> None:
        if self._leaving():
            message = "the server is about to stop, and takes no requests any more"
            raise Refusal(503, message, "server_error", code="stopping", retry_after=1.0)

    def _check_origin(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._options.socket or not self._options.open:  # who needs a key is not taken in by a page that has none
            return
        for name in (b"host", b"origin"):
            text = headers.get(name, b"").decode("latin-1")
            if text and not _is_here(text):
                message = f"requests for or from {text!r:.100} are not answered: this server is for this machine alone"
                raise Refusal(403, message, "permission_error", code="wrong_origin")

    async def _holder(self, scope: Scope) -> Key | None:
        """Return whose key came with the request; None for who needs none.  Raise `Refusal` for everybody else."""
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        is_ours = scheme.lower() == "bearer" and shown.startswith(f"{PREFIX}-")
        if self._ring is not None and is_ours:
            try:
                return self._ring.holder(shown, self._now())
            except PermissionDenied:
                await self._forget(shown)
                raise self._unknown() from None
        if self._options.open:
            return None  # clients that insist on a key send anything
        raise self._unknown()

    async def _forget(self, shown: str) -> None:
        """Take the seat away that was had by a key that was taken back since."""
        number, ring = shown.split("-", 2)[1], self._ring
        if ring is not None and self._state.holds(number):
            live = {key.number for key in ring.listed() if not key.expired(self._now())}
            if number not in live:
                await self._state.leave(number)

    @staticmethod
    def _unknown() -> Refusal:
        message = "the key is missing, wrong, expired or revoked: send one as Authorization: Bearer KEY"
        return Refusal(401, message, "authentication_error", code="invalid_api_key")

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body; raise `Refusal` as soon as it is known to be too much."""
        most = self._options.body
        refusal = Refusal(413, f"the request has more than {most} bytes", code="request_too_large")
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and (len(value) > 15 or int(value) > most):
                raise refusal
        body = bytearray()
        try:
            async with asyncio.timeout(self._options.body_seconds):
                async for part in _parts(receive):
                    body += part
                    self._reading += len(part)
                    if len(body) > most:
                        raise refusal
                    if self._reading > self._options.reading:
                        message = "too much is being read at once"
                        raise Refusal(429, message, "rate_limit_error", code="overloaded", retry_after=1.0)
        except TimeoutError:
            message = f"the body did not come within {self._options.body_seconds:g} seconds"
            raise Refusal(408, message, "timeout_error", code="request_timeout") from None
        finally:
            self._reading -= len(body)
        return bytes(body)


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body as it comes; raise `Refusal`, which nobody reads, when the client goes before its end."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(499, "the request did not come to its end", code="cancelled")
        yield message.get("body", b"")
        more = message.get("more_body", False)


@functools.lru_cache(maxsize=64)
def _is_here(text: str) -> bool:
    """Return whether a ``Host`` or an ``Origin`` names this machine."""
    try:
        host = urlsplit(text if "//" in text else f"//{text}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)


@asynccontextmanager
async def _until(over: asyncio.Future[Any]) -> AsyncIterator[None]:
    """End the block when *over* is done, as `asyncio.timeout` ends one: a task of its own would cost more turns."""
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    before, ended = task.cancelling(), False

    def end(_: object) -> None:
        nonlocal ended
        ended = task.cancel()

    over.add_done_callback(end)
    try:
        yield
    except asyncio.CancelledError:
        if not ended or task.cancelling() > before + 1:  # somebody else ends it too
            raise
    finally:
        over.remove_done_callback(end)
        if ended:
            task.uncancel()


def _replay(body: bytes, gone: asyncio.Future[Message]) -> Receive:
    """Return a channel that gives the *body* that was read, then what comes after it: that the client has gone."""
    given = False

    async def channel() -> Message:
        nonlocal given
        if given:
            return await asyncio.shield(gone)
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return channel
