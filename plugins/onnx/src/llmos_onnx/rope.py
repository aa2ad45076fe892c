"""Rotary position embedding: the tables of cosines and sines that attention reads.

Su et al. 2021, "RoFormer".  Models that were stretched to longer contexts change the angles:

    linear     all divided by ``factor``
    llama3     those that turn more than ``high_freq_factor`` times within the original context stay, those that turn
               less than ``low_freq_factor`` times are divided by ``factor``, those between are blended (Llama 3.1)
    yarn       the same between ``beta_fast`` and ``beta_slow`` turns, blended along the index of the pair; and cosines
               and sines are multiplied by ``magnitude`` (Peng et al. 2023, "YaRN")
    longrope   each divided by a factor of its own, and a ``magnitude`` (Ding et al. 2024, "LongRoPE")
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.shape import Rope

    Floats = npt.NDArray[np.float32]


def angles(rope: Rope, head_dim: int) -> Floats:
    """Return the angle in radians that each pair of the turned dimensions turns per token."""
    width = rope.width or head_dim
    # Single precision on purpose, here and below: models were trained with angles rounded this way.
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    turn = (1.0 / np.float32(rope.theta) ** exponents).astype(np.float32)
    if rope.scaling == "linear":
        return (turn / np.float32(rope.factor)).astype(np.float32)
    if rope.scaling == "llama3":
        return _llama3(rope, turn)
    if rope.scaling == "yarn":
        return _yarn(rope, turn)
    if rope.scaling == "longrope":
        return (turn / np.array(rope.factors, np.float32)).astype(np.float32)
    return turn


def _llama3(rope: Rope, turn: Floats) -> Floats:
    turns = rope.original_context * turn / np.float32(2 * math.pi)
    blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    slow = turn / np.float32(rope.factor)
    mixed = (1 - blend) * slow + blend * turn
    kept = np.where(turns > rope.high_freq_factor, turn, mixed)
    return np.where(turns < rope.low_freq_factor, slow, kept).astype(np.float32)


def _yarn(rope: Rope, turn: Floats) -> Floats:
    width = 2 * len(turn)

    def pair(turns: float) -> float:
        """Return which pair, counted in dimensions, turns so many times within the original context."""
        return width * math.log(rope.original_context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    first, last = pair(rope.beta_fast), pair(rope.beta_slow)
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    steep = last - first or 0.001  # the reference's own way around a border without width
    slowed: Floats = np.clip((np.arange(len(turn), dtype=np.float32) - np.float32(first)) / np.float32(steep), 0, 1)
    return (turn / np.float32(rope.factor) * slowed + turn * (1 - slowed)).astype(np.float32, copy=False)


def tables(rope: Rope, head_dim: int, context: int) -> tuple[Floats, Floats]:
    """Return cosines and sines, each float32 ``[context, turned pairs]``."""
    turned = np.arange(context, dtype=np.float32)[:, None] * angles(rope, head_dim)[None, :]
    magnitude = np.float32(rope.magnitude)
    return np.cos(turned) * magnitude, np.sin(turned) * magnitude
