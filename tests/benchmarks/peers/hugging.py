"""What transformers and optimum share: ``generate`` on batches that are padded on the left."""

from __future__ import annotations

from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from tests.benchmarks.peers.progress import Progress


class _Watch(StoppingCriteria):  # type: ignore[misc] # untyped here
    """Hears of every step, and stops nothing."""

    def __init__(self, progress: Progress, rows: range) -> None:
        self._progress, self._rows = progress, rows

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Note the newest token of each row."""
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            self._progress.add(row, token)
        return torch.zeros(len(input_ids), dtype=torch.bool)


class Generate:
    """A model with ``generate``, and at most so many rows at once."""

    def __init__(self, model: Any, slots: int) -> None:
        self._model, self._slots = model, slots
        self._model.generation_config.eos_token_id = None
        self._model.generation_config.pad_token_id = 0

    def generate(self, prompts: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        """Run one batch after the other, each as long as its longest request."""
        progress = Progress(lengths)
        for first in range(0, len(prompts), self._slots):
            rows = range(first, min(first + self._slots, len(prompts)))
            longest, most = max(len(prompts[row]) for row in rows), max(lengths[row] for row in rows)
            padding = [longest - len(prompts[row]) for row in rows]
            ids = torch.tensor([[0] * pad + prompts[row] for row, pad in zip(rows, padding, strict=True)])
            mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding])
            watch = StoppingCriteriaList([_Watch(progress, rows)])
            with torch.inference_mode():
                self._model.generate(
                    ids, attention_mask=mask, max_new_tokens=most, do_sample=False, stopping_criteria=watch
                )
        return progress.report()
