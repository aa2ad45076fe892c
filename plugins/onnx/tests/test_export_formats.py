"""Weight formats: their rounding is what they say, it explains their error, and rows do not disturb each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.onnx.tests.checkpoint_writer import NANO, RECIPES
from plugins.onnx.tests.numpy_decoder import NumpyDecoder
from plugins.onnx.tests.plain_loop import PlainLoop
from plugins.onnx.tests.stored import restored_weights

if TYPE_CHECKING:
    import numpy.typing as npt

PROMPT = np.random.default_rng(7).integers(4, 512, 30).tolist()
LONG = np.random.default_rng(8).integers(4, 512, 40).tolist()
"""Longer than every sliding window, and than the original context of stretched models."""
FORMATS = ("fp32", "w8a8", "q8", "q4")


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the root mean square of ``a - b``, relative to that of *b*."""
    return float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))


def test_w8a8_equals_its_definition(model_folder: Callable[..., Path]) -> None:
    """The graph computes what numpy computes when it rounds both sides of every product per row.

    A value half-way between two steps may go either way and take the rest of its prompt along: of twelve short prompts,
    nine must agree.
    """
    prompts = [PROMPT[first : first + 2] for first in range(0, 24, 2)]
    decoder, loop = NumpyDecoder.of(RECIPES["nano"], "w8a8"), PlainLoop(model_folder("nano", "w8a8"))

    errors = [distance(loop.logits(prompt), decoder.logits(prompt)) for prompt in prompts]

    assert sorted(errors)[8] < 1e-5


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("form", ["q8", "q4"])
def test_blocks_are_what_their_integers_say(
    form: str, size: int, asymmetric: bool, search: bool, model_folder: Callable[..., Path]
) -> None:
    """With activations of single precision, the graph computes what numpy computes with the weights as stored."""
    options = {"block_size": size, "asymmetric": asymmetric, "search": search, "accuracy_level": 1}
    folder = model_folder("nano", form, **options)
    expected = NumpyDecoder.restored(RECIPES["nano"], restored_weights(folder), None).logits(PROMPT)

    found = PlainLoop(folder).logits(PROMPT)

    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("form", ["q8", "q4"])
def test_blocks_round_activations_to_8_bits(
    form: str, size: int, asymmetric: bool, model_folder: Callable[..., Path]
) -> None:
    """The default rounds each row's activations to 8 bits per block, as numpy does.

    A value half-way between two steps may go either way and take the rest of its prompt along: of twelve short prompts,
    nine must agree.
    """
    folder = model_folder("nano", form, block_size=size, asymmetric=asymmetric)
    prompts = [PROMPT[first : first + 2] for first in range(0, 24, 2)]
    decoder, loop = NumpyDecoder.restored(RECIPES["nano"], restored_weights(folder), size), PlainLoop(folder)

    errors = [distance(loop.logits(prompt), decoder.logits(prompt)) for prompt in prompts]

    assert sorted(errors)[8] < 1e-5


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NANO)
def test_rounding_explains_the_error(name: str, form: str, model_folder: Callable[..., Path]) -> None:
    """A format is as far from single precision as rounding its weights and activations puts it, and no farther."""
    exact = NumpyDecoder.of(RECIPES[name], "fp32").logits(LONG)
    rounded = NumpyDecoder.of(RECIPES[name], form).logits(LONG)

    found = PlainLoop(model_folder(name, form)).logits(LONG)

    assert distance(found, exact) <= 1.05 * distance(rounded, exact) + 1e-5


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NANO)
def test_rows_of_a_batch_are_alone(name: str, form: str, model_folder: Callable[..., Path]) -> None:
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
@pytest.mark.parametrize("name", NANO)
def test_a_prompt_in_chunks_is_a_prompt(name: str, form: str, model_folder: Callable[..., Path]) -> None:
    """The logits of four chunks, longer and shorter than the sliding windows, are bitwise those of the whole prompt."""
    expected = PlainLoop(model_folder(name, form)).logits(LONG)

    loop = PlainLoop(model_folder(name, form))
    edges = (0, 9, 16, 32, 40)
    found = [
        loop.run([LONG[start:end]], [end], wanted=list(range(end - start))) for start, end in itertools.pairwise(edges)
    ]

    assert np.array_equal(expected, np.concatenate(found))


def test_a_row_of_zeros_stays_finite(model_folder: Callable[..., Path]) -> None:
    """Rounding a row by its greatest value divides by zero where all values are zero: the product is zero, not NaN."""
    loop = PlainLoop(model_folder("nano", "w8a8"))

    found = loop.logits([0] * 4)

    assert np.isfinite(found).all()


def test_tied_weights_are_stored_once(model_folder: Callable[..., Path]) -> None:
    """The data file of a tied model holds its table once, as embedding and head alike."""
    table = 512 * 64
    sizes = {"fp32": 4.0, "w8a8": 1.0, "q8": 1.0, "q4": 0.5}

    stored = {form: (model_folder("nano", form) / "model.onnx.data").stat().st_size for form in sizes}

    parameters = table + 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 128)
    rotation = 2 * 512 * 8 * 4
    for form, size in sizes.items():
        assert stored[form] < parameters * size * 1.2 + rotation + 4096
