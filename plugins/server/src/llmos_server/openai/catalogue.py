"""``/v1/models`` and ``/v1/embeddings``."""

from __future__ import annotations

import base64
import struct
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos import ModelInfo
from llmos_kernel.errors import NotFound
from llmos_server.failures import Refusal
from llmos_server.openai.requests import EmbeddingBody
from llmos_server.state import seat_of, state_of

router = APIRouter(tags=["OpenAI"])
BEGINNING = 1_700_000_000
"""When models that do not say when they were made are said to have been: the field is required."""


@router.get("/v1/models", summary="List the models")
async def models(request: Request) -> Response:
    """List the models, by their names."""
    found = await seat_of(request).models.listed()
    return JSONResponse({"object": "list", "data": [_plain(info) for info in found]})


@router.get("/v1/models/{name:path}", summary="Look a model up")
async def model(name: str, request: Request) -> Response:
    """Tell of one model, by its name or an alias."""
    for info in await seat_of(request).models.listed():
        if name in (info.name, *info.aliases):
            return JSONResponse(_plain(info))
    raise NotFound(f"there is no model {name!r:.200}", field="model", value=name[:200], nearest=[])


@router.post("/v1/embeddings", summary="Turn texts into vectors")
async def embed(body: EmbeddingBody, request: Request) -> Response:
    """Turn texts into vectors."""
    state = state_of(request)
    loaded = await seat_of(request).models.get(body.model)
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors = await loaded.embed(texts, timeout=state.options.seconds)
    if body.dimensions is not None and body.dimensions != len(vectors[0]):
        message = f"dimensions: the vectors of {loaded.name} have {len(vectors[0])}"
        raise Refusal(400, message, param="dimensions")
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    counts = [len(await loaded.tokenize(text)) for text in texts]
    usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    return JSONResponse({"object": "list", "data": data, "model": loaded.name, "usage": usage})


def _encoded(vector: list[float], encoding: str) -> list[float] | str:
    """Return the vector as numbers, or as base64 of little-endian single precision."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _plain(info: ModelInfo) -> dict[str, Any]:
    return {"id": info.name, "object": "model", "created": BEGINNING, "owned_by": info.distribution or "llmos"}
