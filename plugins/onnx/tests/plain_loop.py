"""The shortest right way to run a model folder with onnxruntime alone: tests compare engine and exporter by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from llmos_onnx.folder import open_folder

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


class PlainLoop:
    """One model, *rows* sequences, a cache of *room* tokens each."""

    def __init__(self, path: Path, *, rows: int = 1, room: int = 128) -> None:
        folder = open_folder(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        options.add_external_initializers_from_files_in_memory(*folder.external_files())
        self.session = onnxruntime.InferenceSession(folder.graph, options, providers=["CPUExecutionProvider"])
        self.shape = folder.manifest.shape
        self._zero_points = folder.manifest.weights == "w8a8"
        size = (rows, self.shape.kv_heads, room, self.shape.head_dim)
        names = [f"{layer}_{kind}" for layer in range(self.shape.layers) for kind in "kv"]
        self._cache = {name: np.zeros(size, folder.manifest.kv) for name in names}

    def run(
        self, tokens: list[list[int]], lengths: list[int], *, wanted: list[int], first_row: int = 0, total: int = 0
    ) -> Floats:
        """Run equally long *tokens*, after which row i has *lengths[i]* tokens; return logits of *wanted* positions.

        *total* is the longest length unless it is given, as the first run of padded prompts needs.
        """
        ids = np.array(tokens, np.int64)
        rows = slice(first_row, first_row + len(tokens))
        inputs = {
            "input_ids": ids,
            "seqlens_k": np.array(lengths, np.int32) - 1,
            "total": np.array(total or max(lengths), np.int32),
            "last_index": np.array(wanted, np.int64),
        }
        if self._zero_points:
            inputs |= {"zp_rows": np.full(ids.size, 128, np.uint8), "zp_last": np.full(len(wanted), 128, np.uint8)}
        inputs |= {f"past_{name}": cache[rows] for name, cache in self._cache.items()}
        logits: Floats
        logits, *present = self.session.run(["logits", *(f"present_{name}" for name in self._cache)], inputs)
        for cache, changed in zip(self._cache.values(), present, strict=True):
            cache[rows] = changed
        return logits

    def logits(self, prompt: list[int]) -> Floats:
        """Return the logits of every position of *prompt*, float32 ``[len(prompt), vocab]``, computed in one run."""
        return self.run([prompt], [len(prompt)], wanted=list(range(len(prompt))))

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """Return *count* tokens, each the most likely one."""
        last = int(self.run([prompt], [len(prompt)], wanted=[len(prompt) - 1])[0].argmax())
        found = [last]
        while len(found) < count:
            last = int(self.run([[last]], [len(prompt) + len(found)], wanted=[0])[0].argmax())
            found.append(last)
        return found
