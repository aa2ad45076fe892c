"""llmos through its client: every text a task."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs

import llmos
from llmos_kernel import ModelSpec

SHOWN = 4
"""Vectors that are reported, to be compared."""


def prepare(checkpoint: Path, folder: Path, form: str) -> None:
    """Write ``folder/FORMAT`` with the native exporter."""
    from llmos_onnx.export import export_folder  # noqa: PLC0415 - only the preparation needs it
    from llmos_onnx.options import ExportOptions  # noqa: PLC0415 - the same

    export_folder(checkpoint, folder / form, ExportOptions(weights=form))


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Ours:
    """Start a kernel with the model in ``folder/FORMAT``."""
    return Ours(folder / form, threads)


class Ours:
    """A client with the model."""

    def __init__(self, folder: Path, threads: int) -> None:
        spec = ModelSpec(name="bench", backend="onnx", path=str(folder), kinds=("embed",), options={"threads": threads})
        config = attrs.evolve(llmos.load_settings().kernel, models=(spec,))
        self._model = llmos.Client(config=config).load_model("bench", timeout=120)

    def embed(self, texts: list[str]) -> dict[str, Any]:
        """Compute a vector of length 1 per text, all of them waiting at once."""
        begin = time.perf_counter()
        vectors = self._model.embed(texts, truncate=True, timeout=600)
        return {"seconds": time.perf_counter() - begin, "vectors": vectors[:SHOWN]}
