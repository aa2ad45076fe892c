"""transformers: PyTorch on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.benchmarks.peers.hugging import Generate
from tests.benchmarks.peers.progress import Engine

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def prepare(checkpoint: Path, folder: Path, form: str) -> None:
    """Point at the checkpoint: it is read as it is."""
    link = folder / form
    if not link.exists():
        link.symlink_to(checkpoint.resolve())


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Engine:
    """Load the checkpoint in one of two precisions."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - this module is called like the package

    torch.set_num_threads(threads)
    return Generate(AutoModelForCausalLM.from_pretrained(folder / form, dtype=_TYPES[form]), slots)
