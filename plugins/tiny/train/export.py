"""Checkpoint to the model folder of the package: the model, its card and its entry in ``models.json``.

    python export.py checkpoint

The folder is exchanged as a whole.  Needs llmos-onnx, no torch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from llmos_onnx.export import export_model

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "src" / "llmos_tiny"
CARD = HERE.parent / "MODEL_CARD.md"


def export(checkpoint: Path, weights: str) -> dict[str, object]:
    """Write the model folder and return its entry for the list of models."""
    with tempfile.TemporaryDirectory(dir=PACKAGE) as temporary:
        source, made = Path(temporary, "source"), Path(temporary, "model")
        shutil.copytree(checkpoint, source)
        shutil.copy(CARD, source / "README.md")
        manifest = export_model(source, made, weights=weights, name="tiny", licence="Apache-2.0")
        shutil.rmtree(PACKAGE / "model", ignore_errors=True)
        made.replace(PACKAGE / "model")
    return {
        "name": "tiny",
        "backend": "onnx",
        "path": "model",
        "aliases": ["gpt-3", "gpt3"],
        "kinds": ["generate", "chat"],
        "languages": ["en", "zh"],
        "context": manifest.shape.context,
        "nbytes": manifest.files["model.onnx.data"].size,
        "license": manifest.licence,
        "description": "A demonstration model: stories, chat about llmos and short tasks in simple English and Chinese.",
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--weights", default="w8a8", help="format of the weights: w8a8, q8, q4 or fp32")
    options = parser.parse_args()
    models = json.dumps([export(options.checkpoint, options.weights)], indent=2)
    (PACKAGE / "models.json").write_text(models + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in (PACKAGE / "model").iterdir())
    print(f"model folder: {size / 1e6:.1f} MB, {options.weights}")


if __name__ == "__main__":
    main()
