"""Texts as vectors, for every API that has them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs
from fastapi import Request

from llmos_server.failures import Refusal
from llmos_server.state import seat_of, state_of, trace_of


@attrs.frozen
class Vectors:
    """What became of texts."""

    model: str
    rows: list[list[float]]
    tokens: int
    """Of all texts."""
    loading: int
    """Nanoseconds."""


async def vectors(
    request: Request, name: str, texts: Sequence[str], *, truncate: bool = False, dimensions: int | None = None
) -> Vectors:
    """Return a vector for each of *texts* by the model called *name*; *dimensions* may only say how long they are.

    Raises `Refusal` for other dimensions, and what the model raises.
    """
    began = time.perf_counter_ns()
    model = await seat_of(request).models.get(name)
    loading = time.perf_counter_ns() - began
    seconds, trace = state_of(request).options.seconds, trace_of(request)
    rows = await model.embed(list(texts), truncate=truncate, timeout=seconds, trace=trace)
    if rows and dimensions not in (None, len(rows[0])):
        raise Refusal(400, f"dimensions: the vectors of {model.name} have {len(rows[0])}", param="dimensions")
    counts = [len(await model.tokenize(text, trace=trace)) for text in texts]
    return Vectors(model.name, rows, sum(counts), loading)
