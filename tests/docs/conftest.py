"""What the examples of every document find in their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos_onnx.export import export_folder
from llmos_onnx.options import ExportOptions
from plugins.onnx.tests.encoder_writer import EncoderRecipe, write_encoder_checkpoint
from tests.workspace import ROOT


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that examples name: records, checkpoints and models with random weights, as small as can be."""
    root = tmp_path_factory.mktemp("folders")
    recipes = {"all-MiniLM-L6-v2": EncoderRecipe(pooling="mean_tokens"), "classifier": EncoderRecipe(labels=("a", "b"))}
    for name, recipe in recipes.items():
        export_folder(write_encoder_checkpoint(root / f"{name}-checkpoint", recipe), root / name, ExportOptions())
    (root / "records.jsonl").write_text('{"id": 1, "text": " one  two "}\n', "utf-8")
    (root / "pages").mkdir()
    (root / "pages" / "fox.html").write_text("<h1>The fox</h1><p>It is <b>quick</b>.</p>", "utf-8")
    return {
        "pages": root / "pages",
        "records.jsonl": root / "records.jsonl",
        "checkpoint": ROOT / "plugins" / "tiny" / "train" / "checkpoint",
        "genai-model": ROOT / "plugins" / "onnx" / "tests" / "data" / "genai" / "int4",
        **{name: root / name for name in recipes},
    }
