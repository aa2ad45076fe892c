"""``/v1/models`` and ``/v1/embeddings``."""

from __future__ import annotations

import base64
import struct
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos import ModelInfo
from llmos_server.document.openai import EmbeddingList, ModelAnswer, ModelList
from llmos_server.document.parts import told
from llmos_server.models import BEGINNING
from llmos_server.openai.requests import EmbeddingBody
from llmos_server.state import seat_of
from llmos_server.vectors import vectors

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", summary="List the models", responses=told(ModelList))
async def models(request: Request) -> Response:
    """List the models, by their names."""
    found = await seat_of(request).models.listed()
    return JSONResponse({"object": "list", "data": [_plain(info) for info in found]})


@router.get("/v1/models/{name:path}", summary="Look a model up", responses=told(ModelAnswer))
async def model(name: str, request: Request) -> Response:
    """Tell of one model, by its name or an alias."""
    return JSONResponse(_plain(await seat_of(request).models.info(name)))


@router.post("/v1/embeddings", summary="Turn texts into vectors", responses=told(EmbeddingList))
async def embed(body: EmbeddingBody, request: Request) -> Response:
    """Turn texts into vectors."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    found = await vectors(request, body.model, texts, dimensions=body.dimensions)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(found.rows)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return JSONResponse({"object": "list", "data": data, "model": found.model, "usage": usage})


def _encoded(vector: list[float], encoding: str) -> list[float] | str:
    """Return the vector as numbers, or as base64 of little-endian single precision."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _plain(info: ModelInfo) -> dict[str, Any]:
    return {"id": info.name, "object": "model", "created": BEGINNING, "owned_by": info.distribution or "llmos"}
