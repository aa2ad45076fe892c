"""What the descriptions of all answers share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llmos_server.streams import EVENTS

Responses = dict[int | str, dict[str, Any]]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("data", "event")}, "required": ["data"]}
"""A server-sent event, as OpenAPI 3.2 describes the items of a stream."""


class Answer(BaseModel):
    """An answer, or a part of one: the fields that are named, and no others."""

    model_config = ConfigDict(extra="forbid")


def told(answer: type[Answer], status: int = 200, stream: str = "") -> Responses:
    """Return what a route answers when all is well; *stream* is the media type in which it also comes in pieces."""
    described: dict[str, Any] = {"model": answer, "description": "What was asked for."}
    if stream:
        described["content"] = _content(stream)
    return {status: described}


def streamed(media_type: str = EVENTS, description: str = "Server-sent events.") -> Responses:
    """Return what a route answers that only streams."""
    return {200: {"description": description, "content": _content(media_type)}}


def _content(media_type: str) -> dict[str, Any]:
    """Return the description of what comes in pieces: a list of events, or lines of text."""
    if media_type == EVENTS:
        return {media_type: {"schema": {"type": "array", "items": EVENT}, "itemSchema": EVENT}}
    return {media_type: {"schema": {"type": "string"}}}
