"""What runs a model for the evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from model import Llama, Shape, generate
from tiny_corpus import END, SPECIALS

Continue = Callable[[list[str], int], list[str | None]]
"""From prompts and a limit of tokens to what the model writes; None where it does not come to an end."""


def with_torch(checkpoint: Path) -> Continue:
    """Load a checkpoint with torch: weights as stored, computed in 32 bits."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    model = Llama(Shape.read(json.loads((checkpoint / "config.json").read_text())))
    model.load_state_dict({k: v.float() for k, v in load_file(str(checkpoint / "model.safetensors")).items()})
    torch.set_num_threads(1)
    end = SPECIALS.index(END)

    def run(prompts: list[str], limit: int) -> list[str | None]:
        ids = [tokenizer.encode(p, add_special_tokens=False).ids for p in prompts]
        with torch.inference_mode():
            written = generate(model, ids, limit, end)
        return [tokenizer.decode(w) if len(w) < limit else None for w in written]

    return run
