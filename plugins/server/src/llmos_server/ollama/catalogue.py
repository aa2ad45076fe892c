"""What models there are, and their vectors: ``/api/tags``, ``/api/show``, ``/api/ps``, ``/api/embed``."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos import ModelInfo
from llmos_server._version import __version__
from llmos_server.document.ollama import (
    EmbedAnswer, EmbeddingsAnswer, LoadedTags, ModelTags, ShownModel, VersionAnswer,
)  # fmt: skip
from llmos_server.document.parts import told
from llmos_server.models import BEGINNING
from llmos_server.ollama.anytype import AnyType
from llmos_server.ollama.requests import EmbedBody, EmbeddingsBody, ShowBody
from llmos_server.state import seat_of
from llmos_server.vectors import vectors

router = APIRouter(tags=["Ollama"], route_class=AnyType)
NEVER = "2318-01-01T00:00:00Z"
"""A time so far away that it says that a model stays."""


@router.get("/api/version", summary="Tell the server's version", responses=told(VersionAnswer))
async def version() -> Response:
    """Tell the version of this server, not of the Ollama that it resembles."""
    return JSONResponse({"version": __version__})


@router.get("/api/tags", summary="List the models", responses=told(ModelTags))
async def tags(request: Request) -> Response:
    """List the models, by their names."""
    return JSONResponse({"models": [_listed(info) for info in await seat_of(request).models.listed()]})


@router.get("/api/ps", summary="List the models that are loaded", responses=told(LoadedTags))
async def loaded(request: Request) -> Response:
    """List the models that are loaded."""
    found = [info for info in await seat_of(request).models.listed() if info.state == "loaded"]
    more = {"expires_at": NEVER, "size_vram": 0}
    return JSONResponse({"models": [_listed(info) | more | {"context_length": info.context} for info in found]})


@router.post("/api/show", summary="Look a model up", responses=told(ShownModel))
async def show(body: ShowBody, request: Request) -> Response:
    """Tell of one model, by its name or an alias."""
    info = await seat_of(request).models.info(body.model)
    listed = _listed(info)
    facts = {
        "general.architecture": info.backend, "general.languages": list(info.languages),
        f"{info.backend}.context_length": info.longest_context or info.context,
    }  # fmt: skip
    return JSONResponse({
        "modelfile": "", "parameters": "", "template": "", "license": info.license, "details": listed["details"],
        "model_info": facts, "capabilities": _capabilities(info), "modified_at": listed["modified_at"],
    })  # fmt: skip


@router.post("/api/embed", summary="Turn texts into vectors", responses=told(EmbedAnswer))
async def embed(body: EmbedBody, request: Request) -> Response:
    """Turn texts into vectors; a text that is too long is cut unless ``truncate`` is false."""
    began = time.perf_counter_ns()
    texts = [body.input] if isinstance(body.input, str) else body.input
    truncate = body.truncate is not False
    found = await vectors(request, body.model, texts, truncate=truncate, dimensions=body.dimensions)
    return JSONResponse({
        "model": body.model, "embeddings": found.rows, "prompt_eval_count": found.tokens,
        "total_duration": time.perf_counter_ns() - began, "load_duration": found.loading,
    })  # fmt: skip


@router.post("/api/embeddings", summary="Turn a text into a vector", responses=told(EmbeddingsAnswer))
async def embeddings(body: EmbeddingsBody, request: Request) -> Response:
    """Turn a text into a vector."""
    found = await vectors(request, body.model, [body.prompt], truncate=True)
    return JSONResponse({"embedding": found.rows[0]})


def _listed(info: ModelInfo) -> dict[str, Any]:
    details = {
        "parent_model": "", "format": info.backend, "family": info.backend, "families": [info.backend],
        "parameter_size": "", "quantization_level": "",
    }  # fmt: skip
    return {
        "name": info.name, "model": info.name, "modified_at": datetime.fromtimestamp(BEGINNING, UTC).isoformat(),
        "size": info.nbytes, "digest": _digest(info), "details": details,
    }  # fmt: skip


def _digest(info: ModelInfo) -> str:
    """Return the SHA-256 of what is known of the model before it is loaded: the files are the backend's matter."""
    known = [info.name, info.backend, list(info.kinds), info.nbytes, info.distribution]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _capabilities(info: ModelInfo) -> list[str]:
    kinds = {"generate": ["completion"], "chat": ["tools"], "embed": ["embedding"]}
    return [name for kind, names in kinds.items() if kind in info.kinds for name in names]
