"""What the sampler draws from is what transformers draws from: each token's probability, for many parameters at once.

``data/make_transformers_sampling.py`` wrote the fixture with transformers' own processors.  The sampler only says which
token it drew, so its probabilities are found from outside: a draw inverts the running sum of the probabilities in the
order of ids, and the borders between tokens are looked for by bisection.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmos_onnx import sampler as sampling
from llmos_onnx.sampler import COLUMNS, Edit, Sampler

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

FIXTURE = np.load(Path(__file__).parent / "data" / "transformers_sampling.npz")
CASES: list[dict[str, Any]] = json.loads(str(FIXTURE["cases"]))
TOLERANCE = 1e-6


class Uniform:
    """Stands in for the random numbers of the sampler."""

    def __init__(self) -> None:
        self.values: Doubles = np.zeros(0)

    def __call__(self, seed: npt.NDArray[np.uint64], position: npt.NDArray[np.uint64]) -> Doubles:
        """Return the number that is meant for each position."""
        return self.values[position.astype(np.int64)]


@pytest.fixture
def uniform(monkeypatch: pytest.MonkeyPatch) -> Uniform:
    """Random numbers that a test chooses."""
    made = Uniform()
    monkeypatch.setattr(sampling, "uniforms", made)
    return made


def probabilities(
    uniform: Uniform, logits: npt.NDArray[np.float32], seen: npt.NDArray[np.int64], params: dict[str, Any]
) -> Doubles:
    """Return the probability of each token, to about 1e-9."""
    vocab = len(logits)
    how = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **params}
    penalty = how.pop("repetition_penalty", 1.0)
    columns = np.array([(*how.values(), 0, row) for row in range(vocab)], COLUMNS)
    edits = [Edit(row, seen, seen[:0], repetition=penalty) for row in range(vocab)] if penalty != 1 else []
    drawing, tokens = Sampler(vocab, vocab), np.arange(vocab)
    low, high = np.zeros(vocab), np.ones(vocab)
    for _ in range(30):  # row t looks for the least number that draws a token beyond t
        uniform.values = (low + high) / 2
        beyond = drawing.choose(np.tile(logits, (vocab, 1)), columns, edits) > tokens
        low, high = np.where(beyond, low, uniform.values), np.where(beyond, uniform.values, high)
    borders = high
    return np.diff(borders, prepend=0.0)


@pytest.mark.parametrize("name", ["peaked", "flat", pytest.param("wide", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: json.dumps(CASES[case]).replace('"', ""))
def test_probabilities_are_those_of_transformers(uniform: Uniform, name: str, case: int) -> None:
    """Each parameter and the usual combinations give every token transformers' probability."""
    logits, seen = FIXTURE[f"{name}.logits"], FIXTURE[f"{name}.seen"].astype(np.int64)
    expected = FIXTURE[f"{name}.probabilities"][case]
    found = probabilities(uniform, logits, seen, CASES[case])

    assert abs(expected.sum() - 1) < TOLERANCE
    assert np.abs(expected - found).max() <= TOLERANCE


def test_ties_go_to_the_lowest_ids(uniform: Uniform) -> None:
    """Where transformers keeps all tokens that are as likely as the last one of top_k, ours are top_k exactly."""
    logits = np.array([1.0, 2.0, 1.0, 1.0], np.float32)
    found = probabilities(uniform, logits, np.zeros(0, np.int64), {"top_k": 2})

    assert [True, True, False, False] == (found > TOLERANCE).tolist()
