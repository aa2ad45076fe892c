"""Answers while they are made, read alike by every API: one stream, or several side by side."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import attrs

from llmos import AsyncModel, AsyncStream, AsyncStreams, Piece, Text


@attrs.frozen
class Ended:
    """One answer is whole."""

    answer: int
    text: Text


class Speech:
    """The answers of a model to one request."""

    def __init__(self, stream: AsyncStream | AsyncStreams) -> None:
        self._stream = stream
        self._first: Piece | None = None
        self._told: set[int] = set()

    @classmethod
    async def chat(
        cls, model: AsyncModel, said: Sequence[Mapping[str, Any]], options: Mapping[str, Any], n: int = 1
    ) -> Speech:
        """Begin to answer a conversation *n* times; what goes wrong before the first piece is raised here."""
        stream = model.chat_stream(said, **options) if n == 1 else model.chat_stream(said, n=n, **options)
        return await cls(stream).begun()

    @classmethod
    async def text(cls, model: AsyncModel, prompt: str, options: Mapping[str, Any], n: int = 1) -> Speech:
        """Begin to continue a text *n* times; what goes wrong before the first piece is raised here."""
        stream = model.stream(prompt, **options) if n == 1 else model.stream(prompt, n=n, **options)
        return await cls(stream).begun()

    async def begun(self) -> Speech:
        """Wait for the first piece; raise what went wrong before it."""
        try:
            self._first = await anext(self._stream, None)
        except BaseException:
            self.close()
            raise
        return self

    @property
    def texts(self) -> list[Text | None]:
        """The answers, where they are whole."""
        if isinstance(self._stream, AsyncStreams):
            return self._stream.texts
        return [self._stream.whole]

    async def events(self) -> AsyncGenerator[Piece | Ended]:
        """Yield the pieces, and after an answer's last one that it is whole."""
        piece = self._first
        while piece is not None:
            yield piece
            for ended in self._ended():
                yield ended
            piece = await anext(self._stream, None)
        for ended in self._ended():
            yield ended

    def close(self) -> None:
        """Cancel what has not ended."""
        self._stream.close()

    def _ended(self) -> list[Ended]:
        """Return the answers that have ended since the last time."""
        found = [
            Ended(index, text) for index, text in enumerate(self.texts) if text is not None and index not in self._told
        ]
        self._told.update(ended.answer for ended in found)
        return found
