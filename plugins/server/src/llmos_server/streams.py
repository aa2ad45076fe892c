"""Answers that are sent in pieces, and end when their reader does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

EVENTS = "text/event-stream"
"""Server-sent events (HTML standard, section 9.2)."""
LINES = "application/x-ndjson"
"""A JSON value per line."""
TURN = 3
"""Pieces after which others have their turn, also to say that this reader has gone.  With the head before them and one
write that failed before that, they are as many as asyncio takes without a warning in its log.
"""


class Pieces(Response):
    """Sends what *pieces* yields, and closes it whatever happens: then what it holds is given back at once.

    A piece is asked for when the one before was taken, so that a slow reader slows its own stream.  That a reader has
    gone is heard by who calls this (`llmos_server.guards`): it would cost every answer a task and several turns of the
    event loop to listen here too, as Starlette's own response does.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes], media_type: str, status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.status_code, self.media_type, self.background = status, media_type, None
        self.init_headers({"Cache-Control": "no-store", **(headers or {})})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        count = 0
        async with aclosing(self._pieces):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in self._pieces:
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    count += 1
                    if not count % TURN:
                        await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
