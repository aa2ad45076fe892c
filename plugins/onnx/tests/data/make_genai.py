"""Writes ``genai/``: folders of onnxruntime-genai's model builder, and what others compute with them.

In an environment with onnxruntime-genai 0.18, onnxruntime, onnx, torch, transformers 5 and numpy:

    python -m plugins.onnx.tests.checkpoint_writer pico CHECKPOINT       # in this workspace's environment
    python plugins/onnx/tests/data/make_genai.py CHECKPOINT

``answers.json`` has, for each prompt and folder, the greedy tokens of onnxruntime-genai's own generator;
``logits.npz`` has transformers' logits at every position of each prompt, from the checkpoint itself.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai
import torch
from transformers import AutoModelForCausalLM

FOLDERS = {
    "fp32": ["-p", "fp32"],
    "int4": ["-p", "int4", "--extra_options", "int4_block_size=32", "int4_accuracy_level=4"],
    "fp16": ["-p", "fp16"],
    "int4-last": ["-p", "int4", "--extra_options", "int4_block_size=32", "int4_accuracy_level=4", "prune_lm_head=true"],
}
TARGET = Path(__file__).parent / "genai"
OUTPUT = 24


def main(checkpoint: Path) -> None:
    """Write the folders and the answers."""
    random = np.random.default_rng(0)
    prompts = [random.integers(4, 320, length).tolist() for length in (31, 3, 17, 16, 8)]
    answers: dict[str, Any] = {"prompts": prompts}
    with tempfile.TemporaryDirectory() as scratch:
        source = shutil.copytree(checkpoint, Path(scratch) / "checkpoint")
        settings = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
        settings["eos_token"] = settings["eos_token"]["content"]  # transformers takes no objects here
        (source / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        for name, how in FOLDERS.items():
            places = ["-i", str(source), "-o", str(TARGET / name), "-c", scratch]
            device = "cuda" if name == "fp16" else "cpu"
            builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-e", device]
            subprocess.run([*builder, *places, *how], check=True)
            if device == "cpu":
                answers[name] = [greedy(TARGET / name, prompt) for prompt in prompts]
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
        with torch.inference_mode():
            logits = {str(row): model(torch.tensor([ids])).logits[0].numpy() for row, ids in enumerate(prompts)}
    (TARGET / "answers.json").write_text(json.dumps(answers) + "\n", encoding="utf-8")
    np.savez_compressed(TARGET / "logits.npz", **logits)


def greedy(folder: Path, prompt: list[int]) -> list[int]:
    """Return the tokens that onnxruntime-genai generates."""
    model = genai.Model(str(folder))
    how = genai.GeneratorParams(model)
    how.set_search_options(max_length=len(prompt) + OUTPUT, do_sample=False)
    generator = genai.Generator(model, how)
    generator.append_tokens(np.array(prompt, np.int32))
    found: list[int] = []
    while not generator.is_done():
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
