"""Rounding of weights to integers: per row, or per block of inputs, to the nearest step or by search.

Round-to-nearest takes the scale from a block's extremes, so that one outlier makes all steps coarse.  The search tries
steps around that one and refits each to the integers it gives by least squares; the best squared error wins.  That is
llama.cpp's quantisation search (``make_qx_quants`` for symmetric blocks and ``make_qkx2_quants`` for asymmetric ones,
ggml-quants.c), with scales in single precision, and without its correction of single integers afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

_PIECE: Final = 1 << 18
"""Weights rounded at a time: what the search holds besides stays small, and within the processor's cache."""
# Scales that the search tries, relative to the one that just reaches the extremes; smaller ones clip them.
_TRIED: Final = tuple(1 - 0.02 * step for step in range(-5, 16))


@attrs.frozen(kw_only=True)
class Rounding:
    """How blocks of weights become integers."""

    bits: int
    """4 or 8."""
    size: int
    """Weights of a block, which share a scale."""
    symmetric: bool = True
    """Zero lies in the middle of the integers; otherwise each block has a zero point of its own."""
    search: bool = False
    """Look for the scale of least squared error, instead of taking it from the extremes."""

    @property
    def middle(self) -> int:
        """The integer that means zero in a symmetric block."""
        return 1 << (self.bits - 1)

    @property
    def top(self) -> int:
        """The greatest integer."""
        return (1 << self.bits) - 1


@attrs.frozen
class Rounded:
    """Blocks ``[n, k / size]`` of integers: ``weight ≈ (integer - zero point) * scale``."""

    packed: Bytes
    """``[n, k * bits / 8]``; with 4 bits two values share a byte, the first in its low half."""
    scales: Floats
    """``[n, k / size]``."""
    zeros: Bytes
    """``[n, ceil(k / size * bits / 8)]``, packed like the integers; the middle for symmetric blocks."""


def quantise_rows(block: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return int8 ``[n, k]`` and scales ``[n]``: ``block ≈ integers * scale``, off by at most half a scale."""
    scales = np.abs(block).max(axis=1) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(block / scales[:, None]).astype(np.int8), scales


def quantise_blocks(block: Floats, rounding: Rounding, importance: Floats | None = None) -> Rounded:
    """Round *block*, float32 ``[n, k]``, whose k is a multiple of ``rounding.size``.

    Rounded to nearest, a weight is off by at most half its block's scale, with one exception: symmetric blocks of 4
    bits put the value of greatest magnitude at -8, whatever its sign (as ggml's Q4_0), which uses all sixteen levels;
    one value of the other sign as great as that is off by a whole scale.

    *importance* ``[k]``, 1 by default, weighs the squared errors of the search: the mean square of each input of the
    layer makes it the error of the product.
    """
    rows = max(1, _PIECE // block.shape[1])
    pieces = [_piece(block[first : first + rows], rounding, importance) for first in range(0, len(block), rows)]
    packed, scales, zeros = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return Rounded(packed, scales, zeros)


def _piece(block: Floats, rounding: Rounding, importance: Floats | None) -> tuple[Bytes, Floats, Bytes]:
    values = block.reshape(len(block), -1, rounding.size)
    scales, zeros = _symmetric(values, rounding) if rounding.symmetric else _asymmetric(values, rounding)
    if rounding.search:
        weights = np.ones(block.shape[1], np.float32) if importance is None else importance
        scales, zeros = _search(values, (scales, zeros), weights.reshape(1, -1, rounding.size), rounding)
    integers = (_steps(values, scales, zeros, rounding) + zeros).astype(np.uint8)
    packed = _packed(integers, rounding.bits).reshape(len(block), -1)
    return packed, scales[..., 0], _packed(zeros[..., 0].astype(np.uint8), rounding.bits)


def _symmetric(values: Floats, rounding: Rounding) -> tuple[Floats, Floats]:
    """Return scales and zero points, both ``[n, k / size, 1]``, that just reach each block's extreme."""
    greatest = np.abs(values).argmax(axis=2, keepdims=True)
    extreme = np.take_along_axis(values, greatest, axis=2)
    scales = extreme / np.float32(-8) if rounding.bits == 4 else np.abs(extreme) / np.float32(127)
    return _without_zero(scales.astype(np.float32)), np.full_like(scales, rounding.middle)


def _asymmetric(values: Floats, rounding: Rounding) -> tuple[Floats, Floats]:
    """Return scales and zero points that just reach both ends of each block, and zero, which is always exact."""
    low = np.minimum(values.min(axis=2, keepdims=True), 0)
    high = np.maximum(values.max(axis=2, keepdims=True), 0)
    scales = _without_zero((high - low) / np.float32(rounding.top))
    return scales, np.rint(-low / scales)


def _search(
    values: Floats, reaching: tuple[Floats, Floats], weights: Floats, rounding: Rounding
) -> tuple[Floats, Floats]:
    """Return the scales and zero points of least weighted squared error: *reaching*, or some tried around them."""
    chosen, best = reaching, _error(values, *reaching, weights, rounding)
    for factor in _TRIED:
        tried = reaching[0] * np.float32(factor)
        zeros = reaching[1] if rounding.symmetric else _zeros(values, tried, rounding)
        fitted = _fitted(values, tried, zeros, weights, rounding)
        error = _error(values, fitted, zeros, weights, rounding)
        better = error < best
        best = np.where(better, error, best)
        chosen = np.where(better, fitted, chosen[0]), np.where(better, zeros, chosen[1])
    return chosen


def _zeros(values: Floats, scales: Floats, rounding: Rounding) -> Floats:
    """Return the zero points with which the middle of each block's range is the middle of the integers."""
    middle = (values.min(axis=2, keepdims=True) + values.max(axis=2, keepdims=True)) / 2
    zeros: Floats = np.clip(np.rint(np.float32(rounding.top / 2) - middle / scales), 0, rounding.top)
    return zeros


def _steps(values: Floats, scales: Floats, zeros: Floats, rounding: Rounding) -> Floats:
    """Return the whole numbers of scales, counted from zero, that are nearest to *values* and can be stored."""
    steps: Floats = np.clip(np.rint(values / scales), -zeros, rounding.top - zeros)
    return steps


def _fitted(values: Floats, scales: Floats, zeros: Floats, weights: Floats, rounding: Rounding) -> Floats:
    """Return the scales of least squared error for the integers that *scales* give."""
    steps = _steps(values, scales, zeros, rounding)
    weighted = weights * steps
    squares = (weighted * steps).sum(axis=2, keepdims=True)
    products = (weighted * values).sum(axis=2, keepdims=True)
    return np.where(squares > 0, products / np.where(squares > 0, squares, 1), scales)


def _error(values: Floats, scales: Floats, zeros: Floats, weights: Floats, rounding: Rounding) -> Floats:
    """Return each block's weighted squared error, ``[n, k / size, 1]``."""
    off = values - _steps(values, scales, zeros, rounding) * scales
    error: Floats = (weights * off * off).sum(axis=2, keepdims=True)
    return error


def _packed(integers: Bytes, bits: int) -> Bytes:
    """Return *integers* with two of them in each byte of the last dimension where they have 4 bits."""
    if bits == 8:
        return integers
    if integers.shape[-1] % 2:
        integers = np.concatenate([integers, np.zeros_like(integers[..., :1])], axis=-1)
    packed: Bytes = integers[..., 0::2] | np.left_shift(integers[..., 1::2], 4, dtype=np.uint8)
    return packed


def _without_zero(scales: Floats) -> Floats:
    found: Floats = np.where(scales == 0, np.float32(1), scales)
    return found
