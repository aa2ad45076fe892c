"""Answers that are sent in pieces, and end when their reader does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Message, Send

EVENTS = "text/event-stream"
"""Server-sent events (HTML standard, section 9.2)."""
LINES = "application/x-ndjson"
"""A JSON value per line."""


class Pieces(StreamingResponse):
    """Sends what *pieces* yields, and closes it whatever happens: then what it holds is given back at once.

    A piece is asked for when the one before was taken, so that a slow reader slows its own stream.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes], media_type: str, status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(pieces, status, {"Cache-Control": "no-store", **(headers or {})}, media_type)
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        """Send all of it.  After each piece others have their turn, also to say that this reader has gone."""

        async def sent(message: Message) -> None:
            await send(message)
            await asyncio.sleep(0)

        async with aclosing(self._pieces):
            await super().stream_response(sent)
