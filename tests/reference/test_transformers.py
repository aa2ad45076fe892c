"""The same numbers and the same tokens as transformers, on published models' shapes with random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from llmos_onnx.export import export_model
from plugins.onnx.tests.checkpoint_writer import NANO, RECIPES, write_checkpoint
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.plain_loop import PlainLoop

if TYPE_CHECKING:
    import numpy.typing as npt

SHAPES = (*NANO, "smollm2-135m", "qwen3-0.6b")
TOKENS = 64
SLOTS = 8


@attrs.frozen
class Pair:
    """A model as transformers runs it, and its folder."""

    model: Any
    folder: Path
    vocab: int

    def logits(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        """Return transformers' logits at every position of *tokens*."""
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = self.model(torch.tensor([tokens])).logits[0].numpy()
        return found

    def disagreements(self, prompt: list[int], tokens: list[int]) -> list[int]:
        """Return at which of the chosen *tokens* transformers, having chosen the ones before, chooses another.

        Equal tokens up to the first disagreement mean equal sequences.  Two tokens whose logits are within 1e-5 of
        each other, relative to the largest, are a tie that either may win.
        """
        logits = self.logits(prompt + tokens)[len(prompt) - 1 : -1]
        best = logits.max(-1)
        chosen = logits[np.arange(len(tokens)), tokens]
        return np.flatnonzero(best - chosen > 1e-5 * np.abs(logits).max()).tolist()


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Each shape in turn, in single precision; its files are gone when the next one comes."""
    with tempfile.TemporaryDirectory() as place:
        source = write_checkpoint(Path(place, "source"), RECIPES[request.param])
        folder = Path(place, request.param)
        export_model(source, folder, weights="fp32", context=512)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
        yield Pair(model, folder, RECIPES[request.param].vocab)


def prompts(vocab: int, count: int, *, low: int, high: int) -> list[list[int]]:
    """Return prompts of *low* to *high* random tokens."""
    rng = np.random.default_rng(11)
    return [rng.integers(4, vocab, rng.integers(low, high + 1)).tolist() for _ in range(count)]


def test_logits(pair: Pair) -> None:
    """The logits of a prompt of 100 tokens are within 1e-4 of transformers', relative to the largest."""
    prompt = prompts(pair.vocab, 1, low=100, high=100)[0]
    expected = pair.logits(prompt)

    found = PlainLoop(pair.folder).logits(prompt)

    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_greedy_tokens(pair: Pair) -> None:
    """Sixty-four tokens are transformers' own choices: for a request alone, and for eight that run side by side.

    The eight have prompts of different lengths and join two at a time while others decode; three short requests run
    before them and leave their places to the last of them.
    """
    executor = load(pair.folder, slots=SLOTS, context=128)
    driver = Driver(executor, chunk=16)
    asked = dict(enumerate(prompts(pair.vocab, SLOTS, low=4, high=40)))
    alone = driver.add(100, asked[0], max_tokens=TOKENS, ignore_eos=True)
    driver.finish()

    for index, prompt in enumerate(prompts(pair.vocab, 3, low=4, high=40)):
        driver.add(200 + index, prompt, max_tokens=4 + index, ignore_eos=True)
    waiting = list(asked.items())
    while waiting or not all(row.ended for row in driver.rows.values()):
        for _ in range(2):
            if waiting and executor.limits.free:
                index, prompt = waiting.pop(0)
                driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True)
        driver.step()
    executor.close()

    assert alone.tokens == driver.rows[0].tokens
    for index, prompt in asked.items():
        assert TOKENS == len(driver.rows[index].tokens)
        assert [] == pair.disagreements(prompt, driver.rows[index].tokens)
