"""Weight formats: their rounding is what they say, it explains their error, and rows do not disturb each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos_onnx.weights import quantise_blocks, quantise_rows
from plugins.onnx.tests.checkpoint_writer import RECIPES
from plugins.onnx.tests.numpy_decoder import NumpyDecoder
from plugins.onnx.tests.plain_loop import PlainLoop

if TYPE_CHECKING:
    import numpy.typing as npt

PROMPT = np.random.default_rng(7).integers(4, 512, 30).tolist()
FORMATS = ("fp32", "w8a8", "q8", "q4")
weights = st.floats(-4, 4, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)
rows = st.lists(st.lists(weights, min_size=32, max_size=32), min_size=1, max_size=4)


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the root mean square of ``a - b``, relative to that of *b*."""
    return float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))


@given(rows)
def test_rows_are_off_by_half_a_scale_at_most(values: list[list[float]]) -> None:
    """A row's 8-bit integers times its scale are its weights, rounded to the nearest step."""
    block = np.array(values, np.float32)

    integers, scales = quantise_rows(block)

    assert integers.dtype == np.int8
    assert (np.abs(integers * scales[:, None] - block) <= 0.5001 * scales[:, None]).all()


@given(rows)
def test_blocks_of_8_bits_are_off_by_half_a_scale_at_most(values: list[list[float]]) -> None:
    """A block's 8-bit integers count from 128."""
    block = np.array(values, np.float32)

    integers, scales = quantise_blocks(block, 8, 16)

    steps = scales.repeat(16, axis=1)
    assert (np.abs((integers.astype(float) - 128) * steps - block) <= 0.5001 * steps).all()


@given(rows)
def test_blocks_of_4_bits_are_off_by_half_a_scale_or_a_whole_one_at_the_far_end(values: list[list[float]]) -> None:
    """Two integers share a byte, low half first; eight steps lie on the side of the greatest weight, seven opposite."""
    block = np.array(values, np.float32)

    packed, scales = quantise_blocks(block, 4, 16)

    integers = np.stack([packed & 15, packed >> 4], axis=2).reshape(block.shape).astype(float) - 8
    steps = scales.repeat(16, axis=1)
    far = block / steps > 7
    assert (np.abs(integers * steps - block)[~far] <= 0.5001 * np.abs(steps)[~far]).all()
    assert (np.abs(integers * steps - block)[far] <= 1.0001 * np.abs(steps)[far]).all()


def test_w8a8_equals_its_definition(model_folder: Callable[[str, str], Path]) -> None:
    """The graph computes what numpy computes when it rounds both sides of every product per row.

    A value half-way between two steps may go either way and take the rest of its prompt along: of twelve short prompts,
    nine must agree.
    """
    prompts = [PROMPT[first : first + 2] for first in range(0, 24, 2)]
    decoder, loop = NumpyDecoder.of(RECIPES["nano"], "w8a8"), PlainLoop(model_folder("nano", "w8a8"))

    errors = [distance(loop.logits(prompt), decoder.logits(prompt)) for prompt in prompts]

    assert sorted(errors)[8] < 1e-5


@pytest.mark.parametrize("form", FORMATS)
def test_rounding_explains_the_error(form: str, model_folder: Callable[[str, str], Path]) -> None:
    """A format is as far from single precision as rounding its weights and activations puts it, and no farther."""
    exact = NumpyDecoder.of(RECIPES["nano"], "fp32").logits(PROMPT)
    rounded = NumpyDecoder.of(RECIPES["nano"], form).logits(PROMPT)

    found = PlainLoop(model_folder("nano", form)).logits(PROMPT)

    assert distance(found, exact) <= 1.05 * distance(rounded, exact) + 1e-5


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["nano", "nano-qwen3"])
def test_rows_of_a_batch_are_alone(name: str, form: str, model_folder: Callable[[str, str], Path]) -> None:
    """Prefilled side by side and decoded with lengths of their own, rows choose the tokens they choose alone."""
    prompts = [PROMPT[:length] for length in (5, 12, 9)]
    alone = [PlainLoop(model_folder(name, form)).greedy(prompt, 12) for prompt in prompts]

    loop = PlainLoop(model_folder(name, form), rows=3)
    padded = [prompt + [0] * (12 - len(prompt)) for prompt in prompts]
    lengths = [len(prompt) for prompt in prompts]
    wanted = [12 * row + length - 1 for row, length in enumerate(lengths)]
    found = [loop.run(padded, lengths, total=12, wanted=wanted).argmax(-1).tolist()]
    for step in range(1, 12):
        grown = [length + step for length in lengths]
        found.append(loop.run([[last] for last in found[-1]], grown, wanted=[0, 1, 2]).argmax(-1).tolist())

    assert alone == [list(row) for row in zip(*found, strict=True)]


@pytest.mark.parametrize("form", ["fp32", "w8a8"])
def test_a_prompt_in_chunks_is_a_prompt(form: str, model_folder: Callable[[str, str], Path]) -> None:
    """The logits after three chunks of ten tokens are those after thirty at once."""
    expected = PlainLoop(model_folder("nano", form)).logits(PROMPT)[-1]

    loop = PlainLoop(model_folder("nano", form))
    for end in (10, 20):
        loop.run([PROMPT[end - 10 : end]], [end], wanted=[9])
    found = loop.run([PROMPT[20:]], [30], wanted=[9])[0]

    assert distance(found, expected) < 1e-5


def test_a_row_of_zeros_stays_finite(model_folder: Callable[[str, str], Path]) -> None:
    """Rounding a row by its greatest value divides by zero where all values are zero: the product is zero, not NaN."""
    loop = PlainLoop(model_folder("nano", "w8a8"))

    found = loop.logits([0] * 4)

    assert np.isfinite(found).all()


def test_tied_weights_are_stored_once(model_folder: Callable[[str, str], Path]) -> None:
    """The data file of a tied model holds its table once, as embedding and head alike."""
    table = 512 * 64
    sizes = {"fp32": 4.0, "w8a8": 1.0, "q8": 1.0, "q4": 0.5}

    stored = {form: (model_folder("nano", form) / "model.onnx.data").stat().st_size for form in sizes}

    parameters = table + 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 128)
    rotation = 2 * 512 * 8 * 4
    for form, size in sizes.items():
        assert stored[form] < parameters * size * 1.2 + rotation + 4096
