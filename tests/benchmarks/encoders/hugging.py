"""transformers, as sentence-transformers uses it: batches of texts of about equal length, mean over the mask."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

BATCH = 32
CONTEXT = 256
SHOWN = 4
"""Vectors that are reported, to be compared."""


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Hugging:
    """Load the checkpoint at *folder*."""
    torch.set_num_threads(threads)
    return Hugging(folder, {"fp32": torch.float32, "bf16": torch.bfloat16}[form])


class Hugging:
    """The checkpoint's tokenizer and model."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=dtype).eval()

    def embed(self, texts: list[str]) -> dict[str, Any]:
        """Compute a vector of length 1 per text, the longest texts first."""
        begin = time.perf_counter()
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        vectors: dict[int, list[float]] = {}
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            vectors |= dict(zip(rows, self._batch([texts[row] for row in rows]), strict=True))
        return {"seconds": time.perf_counter() - begin, "vectors": [vectors[row] for row in range(SHOWN)]}

    def _batch(self, texts: list[str]) -> list[list[float]]:
        encoded = self._tokenizer(texts, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
        with torch.inference_mode():
            hidden = self._model(**encoded).last_hidden_state.float()
        mask = encoded["attention_mask"][..., None].float()
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        found: list[list[float]] = torch.nn.functional.normalize(pooled, p=2, dim=1).tolist()
        return found
