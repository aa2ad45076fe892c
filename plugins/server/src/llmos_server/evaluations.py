"""``/v1/llmos/evaluations``: results that ``llmos eval`` keeps, as the dashboard shows them.

They are files of one JSON object each, which appear whole and never change.  What was asked and answered stays in them:
the route tells figures.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos_server.admin import plain
from llmos_server.document.llmos import EvaluationList
from llmos_server.document.parts import told
from llmos_server.state import demand_operator, seat_of

router = APIRouter(prefix="/v1/llmos", tags=["llmos"])
FOLDER = "evaluations"
"""The folder's name under that of llmos."""
FORMAT = 1
"""The form of files that is known."""
MOST = 500
"""Files that are read, the newest."""
SIZE = 2**26
"""Most bytes of a file; a larger one is named as unreadable."""
_TOLD = ("model", "suite", "digest", "records", "failed", "seconds", "finished")
_FIGURE = ("title", "unit", "value", "low", "high", "n", "larger")


@router.get("/evaluations", summary="List the results of evaluations that are kept", responses=told(EvaluationList))
async def evaluated(request: Request) -> Response:
    """List what `llmos eval` has kept, the newest first, to this machine and to operators: it is everybody's."""
    demand_operator(request, "the list of evaluations")
    await seat_of(request).client.control("ListModels")  # who may not know the models need not know how good they are
    found = await asyncio.to_thread(stored, request.app.state.home)
    return JSONResponse({"object": "list", **found})


def stored(home: Path | None) -> dict[str, Any]:
    """Return what is kept under *home*, the newest first.

    ``data`` are results, ``unreadable`` the names of files that are none, with the class of the error; ``more`` is how
    many older files were not read.
    """
    folder = None if home is None else home / FOLDER
    files = sorted(folder.glob("*.json"), reverse=True) if folder is not None else []
    data, unreadable = [], []
    for file in files[:MOST]:
        try:
            facts = file.stat()
            data.append({"id": file.stem, **_read(file, facts.st_mtime_ns, facts.st_size)})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            unreadable.append({"id": file.stem, "why": type(error).__name__})
    return {"data": data, "unreadable": unreadable, "more": max(0, len(files) - MOST)}


@lru_cache(maxsize=MOST)
def _read(file: Path, changed: int, size: int) -> Mapping[str, Any]:
    """Return the figures of a file, which is read again when it *changed*."""
    if size > SIZE:
        raise ValueError(size)
    kept = json.loads(file.read_bytes())
    if kept["format"] != FORMAT:
        raise ValueError(kept["format"])
    metrics = {str(name): _figure(figure) for name, figure in kept["metrics"].items()}
    return {name: plain(kept[name]) for name in _TOLD} | {"metrics": metrics}


def _figure(figure: Mapping[str, Any]) -> dict[str, Any]:
    if not math.isfinite(figure["value"]):
        raise ValueError(figure["value"])
    return {name: plain(figure[name]) for name in _FIGURE}
