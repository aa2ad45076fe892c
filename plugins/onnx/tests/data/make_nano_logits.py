"""Writes ``nano_logits.npz``: what transformers computes for each small checkpoint.  Needs torch and transformers.

Run at the root of the repository: ``python -m plugins.onnx.tests.data.make_nano_logits``
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from plugins.onnx.tests.checkpoint_writer import NANO, RECIPES, write_checkpoint

if TYPE_CHECKING:
    import numpy.typing as npt

PROMPT = 41
SHORT = 30
"""Length of a prompt that stays below the original context of the recipes with ``longrope``."""
EVERY = 8
GREEDY = 24


def main() -> None:
    """Write the fixture beside this file."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in NANO:
        with tempfile.TemporaryDirectory() as folder:
            path = write_checkpoint(Path(folder, name), RECIPES[name])
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        prompt = np.random.default_rng(1).integers(4, RECIPES[name].vocab, (1, PROMPT))
        ids = torch.from_numpy(prompt)
        with torch.no_grad():
            arrays[f"{name}.logits"] = model(ids).logits[0, ::EVERY].numpy()
            arrays[f"{name}.short"] = model(ids[:, :SHORT]).logits[0, -1:].numpy()
            greedy = model.generate(ids, max_new_tokens=GREEDY, do_sample=False, eos_token_id=None, pad_token_id=1)
        arrays[f"{name}.positions"] = np.arange(0, PROMPT, EVERY, dtype=np.int16)
        arrays[f"{name}.prompt"] = prompt[0].astype(np.int16)
        arrays[f"{name}.greedy"] = greedy[0, PROMPT:].numpy().astype(np.int16)
    np.savez(Path(__file__).with_name("nano_logits.npz"), **arrays)  # type: ignore[arg-type] # allow_pickle is no array


if __name__ == "__main__":
    main()
