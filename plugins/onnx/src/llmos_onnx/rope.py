"""Rotary position embedding: the tables of cosines and sines that attention reads.

Su et al. 2021, "RoFormer"; the ``llama3`` stretching is that of the Llama 3.1 release: angles that turn more than
``high_freq_factor`` times within the original context stay, those that turn less than ``low_freq_factor`` times are
divided by ``factor``, and those between are blended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.shape import Rope


def angles(rope: Rope, head_dim: int) -> npt.NDArray[np.float32]:
    """Return the angle in radians that each of ``head_dim / 2`` pairs turns per token."""
    # Single precision on purpose, here and below: models were trained with angles rounded this way.
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    turn = (1.0 / np.float32(rope.theta) ** exponents).astype(np.float32)
    if rope.scaling == "linear":
        return (turn / np.float32(rope.factor)).astype(np.float32)
    if rope.scaling == "llama3":
        return _llama3(rope, turn)
    return turn


def _llama3(rope: Rope, turn: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    turns = rope.original_context * turn / np.float32(2 * math.pi)
    blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    slow = turn / np.float32(rope.factor)
    mixed = (1 - blend) * slow + blend * turn
    kept = np.where(turns > rope.high_freq_factor, turn, mixed)
    return np.where(turns < rope.low_freq_factor, slow, kept).astype(np.float32)


def tables(rope: Rope, head_dim: int, context: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return cosines and sines, each float32 ``[context, head_dim / 2]``."""
    turned = np.arange(context, dtype=np.float32)[:, None] * angles(rope, head_dim)[None, :]
    return np.cos(turned), np.sin(turned)
