"""What the engine says of batches and blocks is so: where it calls a folder batch-invariant, bits are equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.plain_loop import PlainLoop

PROMPTS = [np.random.default_rng(seed).integers(4, 512, 6 + 5 * seed).tolist() for seed in range(5)]


def rows_differ(folder: Path) -> bool:
    """Decode five sequences of different lengths alone and together, and compare the bits of their logits."""
    alone, together = [], PlainLoop(folder, rows=len(PROMPTS))
    for row, prompt in enumerate(PROMPTS):
        loop = PlainLoop(folder)
        loop.run([prompt], [len(prompt)], wanted=[0])
        alone.append(loop.run([[7]], [len(prompt) + 1], wanted=[0])[0])
        together.run([prompt], [len(prompt)], wanted=[0], first_row=row)
    found = together.run([[7]] * 5, [len(prompt) + 1 for prompt in PROMPTS], wanted=list(range(5)))
    return not np.array_equal(np.array(alone), found)


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize(("weights", "size"), [("q4", 16), ("q4", 32), ("q4", 64), ("q8", 32), ("q8", 64)])
def test_what_is_called_invariant_is(
    weights: str, size: int, asymmetric: bool, model_folder: Callable[..., Path]
) -> None:
    """A row's logits have the same bits alone and among others wherever the engine says so."""
    folder = model_folder("nano", weights, block_size=size, asymmetric=asymmetric)

    invariant = load(folder, slots=2, context=64).describe()["batch_invariant"]

    assert not (invariant and rows_differ(folder))


@pytest.mark.parametrize(("weights", "size"), [("q4", 32), ("q8", 64)])
def test_tokens_of_invariant_folders_are_the_same_batched(
    weights: str, size: int, model_folder: Callable[..., Path]
) -> None:
    """Chunked, joined late and decoded together, requests get the tokens that each gets alone."""
    executor = load(model_folder("nano", weights, block_size=size), slots=8, context=128, threads=2)
    if not executor.describe()["batch_invariant"]:
        pytest.skip("this processor's kernels depend on the number of rows, and the engine says so")
    expected = []
    for prompt in PROMPTS:
        driver = Driver(executor)
        row = driver.add(0, prompt, max_tokens=40, ignore_eos=True)
        driver.finish()
        expected.append(row.tokens)

    driver = Driver(executor, chunk=7)
    for id, prompt in enumerate(PROMPTS):
        driver.add(id, prompt, max_tokens=40, ignore_eos=True)
        driver.step()
    driver.finish()

    assert expected == [driver.rows[id].tokens for id in range(len(PROMPTS))]
