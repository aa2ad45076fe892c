"""The native export computes what transformers computes, for a small checkpoint of each architecture.

``data/nano_logits.npz`` holds transformers' own answers; ``data/make_nano_logits.py`` wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmos_onnx.export import export_model
from plugins.onnx.tests.checkpoint_writer import NANO, RECIPES
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.numpy_decoder import NumpyDecoder
from plugins.onnx.tests.plain_loop import PlainLoop

if TYPE_CHECKING:
    import numpy.typing as npt

    Answers = Mapping[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def answers() -> Answers:
    """What transformers computed."""
    with np.load(Path(__file__).parent / "data" / "nano_logits.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("name", NANO)
def test_logits_equal_those_of_transformers(name: str, answers: Answers, model_folder: Callable[..., Path]) -> None:
    """Single precision logits at every eighth position are within 1e-4 of transformers', relative to the largest."""
    expected = answers[f"{name}.logits"]

    found = PlainLoop(model_folder(name, "fp32")).logits(answers[f"{name}.prompt"].tolist())

    error = np.abs(found[answers[f"{name}.positions"]] - expected).max() / np.abs(expected).max()
    assert error <= 1e-4


@pytest.mark.parametrize("name", NANO)
def test_greedy_tokens_equal_those_of_transformers(
    name: str, answers: Answers, model_folder: Callable[..., Path]
) -> None:
    """Decoding token by token from the cache chooses the tokens that transformers chooses."""
    expected = answers[f"{name}.greedy"].tolist()

    found = PlainLoop(model_folder(name, "fp32")).greedy(answers[f"{name}.prompt"].tolist(), len(expected))

    assert expected == found


@pytest.mark.parametrize("name", NANO)
def test_the_engine_gives_these_tokens_in_chunks_and_beside_others(
    name: str, answers: Answers, model_folder: Callable[..., Path]
) -> None:
    """Prompts in chunks of seven, one joining while another decodes: the tokens are still transformers'."""
    prompt, expected = answers[f"{name}.prompt"].tolist(), answers[f"{name}.greedy"].tolist()
    driver = Driver(load(model_folder(name, "fp32"), slots=3, context=96), chunk=7)

    driver.add(1, prompt[:20], max_tokens=30, ignore_eos=True)
    driver.step()
    row = driver.add(2, prompt, max_tokens=len(expected), ignore_eos=True)
    driver.step()
    driver.add(3, prompt[5:9], max_tokens=5, ignore_eos=True)
    driver.finish()
    driver.executor.close()

    assert expected == row.tokens


@pytest.mark.parametrize("name", ["nano-phi3", "nano-phi4", "nano-dynamic", "nano-gemma3"])
def test_a_short_export_computes_what_transformers_computes_of_short_prompts(
    name: str, answers: Answers, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Exported for no more than the original context, a stretched model turns by the factors for short sequences."""
    expected = answers[f"{name}.short"]
    prompt = answers[f"{name}.prompt"].tolist()[:30]
    export_model(checkpoint(name), tmp_path / "model", context=32)

    found = PlainLoop(tmp_path / "model", room=32).logits(prompt)[-1:]

    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", NANO)
def test_the_numpy_decoder_is_right(name: str, answers: Answers) -> None:
    """What the weight formats are measured by computes what transformers computes."""
    expected = answers[f"{name}.logits"]

    found = NumpyDecoder.of(RECIPES[name], "fp32").logits(answers[f"{name}.prompt"].tolist())

    assert np.abs(found[answers[f"{name}.positions"]] - expected).max() <= 1e-5 * np.abs(expected).max()
