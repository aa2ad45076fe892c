"""Writes ``transformers_sampling.npz``: the probabilities that transformers draws from.  Needs torch and transformers.

Run at the root of the repository: ``python -m plugins.onnx.tests.data.make_transformers_sampling``

The processors and their order are those that ``generate`` itself puts together from a generation configuration.  They
compute in double precision, so that what is left of a difference is ours.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.generation import LogitsProcessorList

VOCAB, WIDE = 300, 700
SEEN = 24
"""Tokens of prompt and output; some occur twice."""


def cases() -> list[dict[str, Any]]:
    """Return the parameters of each case."""
    values: dict[str, list[float]] = {
        "temperature": [0.3, 0.7, 1.7], "top_k": [1, 7, 50, 1000], "top_p": [0.05, 0.5, 0.9, 0.999],
        "min_p": [0.001, 0.05, 0.5], "repetition_penalty": [0.7, 1.1, 1.8],
    }  # fmt: skip
    single = [{name: value} for name, some in values.items() for value in some]
    pairs = [
        {first: values[first][1], second: values[second][1]} for first, second in itertools.combinations(values, 2)
    ]
    usual = [
        {},
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
        {"temperature": 1.5, "min_p": 0.1},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05},
        {"temperature": 1.2, "top_k": 40, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.3},
        {"temperature": 2.0, "top_k": 100, "top_p": 0.7, "min_p": 0.01, "repetition_penalty": 0.9},
    ]
    return [*usual, *single, *pairs]


def probabilities(logits: torch.Tensor, seen: torch.Tensor, params: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return what transformers draws the next token from."""
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(do_sample=True, **{**plain, **params})
    size = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **size))
    processors = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=seen.shape[1],
        logits_processor=LogitsProcessorList(),
        device="cpu",
    )
    found: np.ndarray[Any, Any] = torch.softmax(processors(seen, logits[None].clone()), dim=-1)[0].numpy()
    return found


def main() -> None:
    """Write the fixture beside this file."""
    chance = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for name, vocab, spread in (("peaked", VOCAB, 3.0), ("flat", VOCAB, 0.7), ("wide", WIDE, 0.5)):
        logits = (chance.standard_normal(vocab) * spread).astype(np.float32)
        seen = chance.integers(0, vocab, SEEN)
        seen[-2:] = np.argsort(-logits)[:2]  # what is likely was said, or a penalty would hardly be seen
        found = [
            probabilities(torch.from_numpy(logits).double(), torch.from_numpy(seen)[None], params) for params in cases()
        ]
        arrays |= {f"{name}.logits": logits, f"{name}.seen": seen.astype(np.int16)}
        arrays[f"{name}.probabilities"] = np.stack(found).astype(np.float32)
    arrays["cases"] = np.array(json.dumps(cases()))
    arrays["transformers"] = np.array(transformers.__version__)
    np.savez_compressed(Path(__file__).with_name("transformers_sampling.npz"), **arrays)


if __name__ == "__main__":
    main()
