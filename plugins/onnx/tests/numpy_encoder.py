"""BERT in numpy, one text at a time and without padding: the independent reference (Devlin et al., arXiv:1810.04805).

RoBERTa differs in where positions begin (Liu et al. 2019) and in its classifier's head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


class NumpyEncoder:
    """An encoder of the BERT family in double precision."""

    def __init__(
        self, tensors: Mapping[str, npt.NDArray[np.float32]], *, heads: int, first_position: int = 0, prefix: str = ""
    ) -> None:
        self._tensors = {name: value.astype(np.float64) for name, value in tensors.items()}
        self._heads = heads
        self._first = first_position
        self._prefix = prefix
        self._layers = sum(name.endswith("intermediate.dense.bias") for name in tensors)

    def hidden(self, ids: list[int], types: list[int]) -> Floats:
        """Return the last hidden state: ``[len(ids), hidden]``."""
        base = f"{self._prefix}embeddings."
        positions = np.arange(len(ids)) + self._first
        x = self._tensors[f"{base}word_embeddings.weight"][ids]
        x = x + self._tensors[f"{base}position_embeddings.weight"][positions]
        x = self._norm(x + self._tensors[f"{base}token_type_embeddings.weight"][types], f"{base}LayerNorm")
        for layer in range(self._layers):
            name = f"{self._prefix}encoder.layer.{layer}."
            x = self._norm(x + self._attention(x, name), name + "attention.output.LayerNorm")
            inner = gelu(self._linear(x, name + "intermediate.dense"))
            x = self._norm(x + self._linear(inner, name + "output.dense"), name + "output.LayerNorm")
        return x

    def logits(self, ids: list[int], types: list[int], *names: str) -> Floats:
        """Return the scores of a head of two layers over the first position."""
        first = self.hidden(ids, types)[0]
        return self._linear(np.tanh(self._linear(first, names[0])), names[1])

    def _attention(self, x: Floats, name: str) -> Floats:
        parts = [self._linear(x, f"{name}attention.self.{kind}") for kind in ("query", "key", "value")]
        q, k, v = (part.reshape(len(x), self._heads, -1).transpose(1, 0, 2) for part in parts)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        seen = (weights / weights.sum(-1, keepdims=True)) @ v
        return self._linear(seen.transpose(1, 0, 2).reshape(len(x), -1), name + "attention.output.dense")

    def _linear(self, x: Floats, name: str) -> Floats:
        return np.asarray(x @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"])

    def _norm(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"])


def gelu(x: Floats) -> Floats:
    """Return x times the normal distribution's share below it (Hendrycks and Gimpel 2016)."""
    return np.asarray(x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))
