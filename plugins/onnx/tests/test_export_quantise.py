"""Rounding of weights: off by what each way of rounding says, and never worse when it searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos_onnx.quantise import Rounded, Rounding, quantise_blocks, quantise_rows
from plugins.onnx.tests.stored import unpacked

if TYPE_CHECKING:
    import numpy.typing as npt

SIZE = 16
weights = st.floats(-4, 4, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)
rows = st.lists(st.lists(weights, min_size=3 * SIZE, max_size=3 * SIZE), min_size=1, max_size=4)
roundings = st.builds(
    Rounding, bits=st.sampled_from([4, 8]), size=st.just(SIZE), symmetric=st.booleans(), search=st.booleans()
)


def restored(rounded: Rounded, rounding: Rounding) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the weights that *rounded* stands for, and the step size of each."""
    count = rounded.scales.shape[1]
    integers = unpacked(rounded.packed, rounding.bits, count * rounding.size)
    zeros = unpacked(rounded.zeros, rounding.bits, count).repeat(rounding.size, axis=1)
    steps = rounded.scales.repeat(rounding.size, axis=1).astype(np.float64)
    return (integers - zeros) * steps, np.abs(steps)


@given(rows)
def test_rows_are_off_by_half_a_scale_at_most(values: list[list[float]]) -> None:
    """A row's 8-bit integers times its scale are its weights, rounded to the nearest step."""
    block = np.array(values, np.float32)

    integers, scales = quantise_rows(block)

    assert integers.dtype == np.int8
    assert (np.abs(integers * scales[:, None] - block) <= 0.5001 * scales[:, None]).all()


@given(rows, st.sampled_from([4, 8]))
def test_asymmetric_blocks_are_off_by_half_a_scale_at_most(values: list[list[float]], bits: int) -> None:
    """The steps reach from the least to the greatest weight of a block and to zero, which stays zero."""
    block, rounding = np.array(values, np.float32), Rounding(bits=bits, size=SIZE, symmetric=False)

    found, steps = restored(quantise_blocks(block, rounding), rounding)

    assert (np.abs(found - block) <= 0.5001 * steps).all()
    assert (found[block == 0] == 0).all()


@given(rows)
def test_symmetric_blocks_of_8_bits_are_off_by_half_a_scale_at_most(values: list[list[float]]) -> None:
    """A block's 8-bit integers count from 128."""
    block, rounding = np.array(values, np.float32), Rounding(bits=8, size=SIZE)

    found, steps = restored(quantise_blocks(block, rounding), rounding)

    assert (np.abs(found - block) <= 0.5001 * steps).all()


@given(rows)
def test_symmetric_blocks_of_4_bits_are_off_by_a_whole_scale_at_the_far_end(values: list[list[float]]) -> None:
    """Eight steps lie on the side of the greatest weight, seven on the other; elsewhere half a scale is the most."""
    block, rounding = np.array(values, np.float32), Rounding(bits=4, size=SIZE)

    rounded = quantise_blocks(block, rounding)

    found, steps = restored(rounded, rounding)
    far = block / rounded.scales.repeat(SIZE, axis=1) > 7
    assert (np.abs(found - block)[~far] <= 0.5001 * steps[~far]).all()
    assert (np.abs(found - block)[far] <= 1.0001 * steps[far]).all()


@given(rows, roundings)
def test_zero_points_and_integers_fit_their_bits(values: list[list[float]], rounding: Rounding) -> None:
    """Two 4-bit integers share a byte, zero points likewise; an odd count leaves the last half empty."""
    rounded = quantise_blocks(np.array(values, np.float32), rounding)

    assert (len(values), 3 * SIZE * rounding.bits // 8) == rounded.packed.shape
    assert (len(values), 3) == rounded.scales.shape
    assert (len(values), 2 if rounding.bits == 4 else 3) == rounded.zeros.shape
    assert np.isfinite(rounded.scales).all()
    assert (rounded.scales != 0).all()
    if rounding.symmetric:
        assert (unpacked(rounded.zeros, rounding.bits, 3) == rounding.middle).all()


@given(rows, st.sampled_from([4, 8]), st.booleans(), st.booleans())
def test_a_search_is_never_worse(values: list[list[float]], bits: int, symmetric: bool, weighed: bool) -> None:
    """No block has a greater (weighed) squared error than round-to-nearest gives it."""
    block = np.array(values, np.float32)
    importance = np.linspace(0.5, 4, block.shape[1], dtype=np.float32) if weighed else None
    weight = 1 if importance is None else importance
    errors = []
    for search in (False, True):
        rounding = Rounding(bits=bits, size=SIZE, symmetric=symmetric, search=search)
        found, _ = restored(quantise_blocks(block, rounding, importance), rounding)
        errors.append((weight * (found - block) ** 2).reshape(len(block), 3, SIZE).sum(axis=2))

    assert (errors[1] <= errors[0] * 1.0001 + 1e-12).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_search_pays_on_normal_weights(symmetric: bool, size: int) -> None:
    """At 4 bits, the search takes at least 4 % off the error of normally distributed weights."""
    block = np.random.default_rng(0).standard_normal((64, 512), dtype=np.float32)
    errors = []
    for search in (False, True):
        rounding = Rounding(bits=4, size=size, symmetric=symmetric, search=search)
        found, _ = restored(quantise_blocks(block, rounding), rounding)
        errors.append(float(np.sqrt(((found - block) ** 2).mean())))

    assert errors[1] <= 0.96 * errors[0]


def test_rows_are_rounded_alone() -> None:
    """However many rows are rounded at once, each gets the numbers that it gets alone."""
    block = np.random.default_rng(1).standard_normal((9, 65536), dtype=np.float32)
    rounding = Rounding(bits=4, size=64, symmetric=False)

    together = quantise_blocks(block, rounding)

    for row in range(len(block)):
        alone = quantise_blocks(block[row : row + 1], rounding)
        assert (together.packed[row] == alone.packed[0]).all()
        assert (together.scales[row] == alone.scales[0]).all()
        assert (together.zeros[row] == alone.zeros[0]).all()
