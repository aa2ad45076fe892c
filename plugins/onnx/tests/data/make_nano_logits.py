"""Writes ``nano_logits.npz``: what transformers computes for each small checkpoint.  Needs torch and transformers.

Run at the root of the repository: ``python -m plugins.onnx.tests.data.make_nano_logits``
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from plugins.onnx.tests.checkpoint_writer import NANO, RECIPES, write_checkpoint

PROMPT = 40
EVERY = 3
GREEDY = 24


def main() -> None:
    """Write the fixture beside this file."""
    arrays = {}
    for name in NANO:
        with tempfile.TemporaryDirectory() as folder:
            path = write_checkpoint(Path(folder, name), RECIPES[name])
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        prompt = np.random.default_rng(1).integers(4, RECIPES[name].vocab, (1, PROMPT))
        ids = torch.from_numpy(prompt)
        with torch.no_grad():
            logits = model(ids).logits[0, ::EVERY]
            greedy = model.generate(ids, max_new_tokens=GREEDY, do_sample=False, eos_token_id=None, pad_token_id=1)
        arrays[f"{name}.positions"] = np.arange(0, PROMPT, EVERY, dtype=np.int16)
        arrays[f"{name}.prompt"] = prompt[0].astype(np.int16)
        arrays[f"{name}.logits"] = logits.numpy()
        arrays[f"{name}.greedy"] = greedy[0, PROMPT:].numpy().astype(np.int16)
    np.savez(Path(__file__).with_name("nano_logits.npz"), **arrays)  # type: ignore[arg-type] # allow_pickle is no array


if __name__ == "__main__":
    main()
