"""onnxruntime-genai: its model builder, and generators of at most as many rows as there are slots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai

from tests.benchmarks.peers.progress import Engine, Progress

_ARGUMENTS = {
    "fp32": ["-p", "fp32"],
    # Products of 8-bit integers, as llama.cpp and the others compute them, and blocks that divide these widths.
    "int4": ["-p", "int4", "--extra_options", "int4_block_size=32", "int4_accuracy_level=4"],
}


def prepare(checkpoint: Path, folder: Path, form: str) -> None:
    """Build with ``python -m onnxruntime_genai.models.builder``."""
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-e", "cpu", *_ARGUMENTS[form]]
    places = ["-i", str(checkpoint), "-o", str(folder / form), "-c", str(folder / "cache")]
    subprocess.run([*builder[:5], *places, *builder[5:]], check=True)


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Engine:
    """Load ``folder/FORMAT``."""
    return _GenAi(folder / form, threads, slots)


class _GenAi:
    def __init__(self, folder: Path, threads: int, slots: int) -> None:
        config = genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._model = genai.Model(config)
        self._pad = json.loads((folder / "genai_config.json").read_text("utf-8"))["model"]["pad_token_id"]
        self._slots = slots

    def generate(self, prompts: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        """Run one batch after the other, each padded on the left and as long as its longest request."""
        progress = Progress(lengths)
        for first in range(0, len(prompts), self._slots):
            rows = range(first, min(first + self._slots, len(prompts)))
            longest, most = max(len(prompts[row]) for row in rows), max(lengths[row] for row in rows)
            how = genai.GeneratorParams(self._model)
            how.set_search_options(max_length=longest + most, batch_size=len(rows), do_sample=False)
            generator = genai.Generator(self._model, how)
            padded = [[self._pad] * (longest - len(prompts[row])) + prompts[row] for row in rows]
            generator.append_tokens(np.array(padded, np.int32))
            for _ in range(most):
                generator.generate_next_token()
                for row, token in zip(rows, generator.get_next_tokens(), strict=True):
                    progress.add(row, int(token))
        return progress.report()
