"""onnxruntime and tokenizers alone, as short as it can be said: llmos' own fp32 graph, batches as the texts come."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32
CONTEXT = 256
SHOWN = 4
"""Vectors that are reported, to be compared."""


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Plain:
    """Load the graph and the tokenizer of the model folder ``folder/FORMAT``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return Plain(folder / form, options)


class Plain:
    """A tokenizer that pads each batch to its longest text, and a session."""

    def __init__(self, folder: Path, options: onnxruntime.SessionOptions) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(CONTEXT)
        self._tokenizer.enable_padding()
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])

    def embed(self, texts: list[str]) -> dict[str, Any]:
        """Compute a vector of length 1 per text."""
        begin = time.perf_counter()
        batches = [self._batch(texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
        vectors = np.concatenate(batches).tolist()
        return {"seconds": time.perf_counter() - begin, "vectors": vectors[:SHOWN]}

    def _batch(self, texts: list[str]) -> Any:
        encoded = self._tokenizer.encode_batch(texts)
        mask = np.array([one.attention_mask for one in encoded], np.int64)
        inputs = {
            "input_ids": np.array([one.ids for one in encoded], np.int64), "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }  # fmt: skip
        (hidden,) = self._session.run(["last_hidden_state"], inputs)
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
