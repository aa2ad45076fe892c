"""What the descriptions of all answers share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llmos_server.streams import EVENTS

Responses = dict[int | str, dict[str, Any]]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Answer(BaseModel):
    """An answer, or a part of one: the fields that are named, and no others."""

    model_config = ConfigDict(extra="forbid")


def told(answer: type[Answer], status: int = 200, stream: str = "") -> Responses:
    """Return what a route answers when all is well; *stream* is the media type in which it also comes in pieces."""
    described: dict[str, Any] = {"model": answer, "description": "What was asked for."}
    if stream:
        described["content"] = {stream: {"schema": {"type": "string"}}}
    return {status: described}


def streamed(media_type: str = EVENTS, description: str = "Server-sent events.") -> Responses:
    """Return what a route answers that only streams."""
    return {200: {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}}
