"""Runs a checkpoint for the evaluation, with torch: weights as stored, computed in 32 bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from model import Llama, Shape, generate
from safetensors.torch import load_file
from tiny_corpus import END, SPECIALS, Example
from tokenizers import Tokenizer


def load(checkpoint: Path) -> Callable[[list[Example], int], list[str | None]]:
    """Return what continues examples up to a limit of tokens; None stands for a text that does not come to an end."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    model = Llama(Shape.read(json.loads((checkpoint / "config.json").read_text())))
    model.load_state_dict({k: v.float() for k, v in load_file(str(checkpoint / "model.safetensors")).items()})
    torch.set_num_threads(1)
    end = SPECIALS.index(END)

    def run(examples: list[Example], limit: int) -> list[str | None]:
        ids = [tokenizer.encode(e.prompt(), add_special_tokens=False).ids for e in examples]
        with torch.inference_mode():
            written = generate(model, ids, limit, end)
        return [tokenizer.decode(w) if len(w) < limit else None for w in written]

    return run
