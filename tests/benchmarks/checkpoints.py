"""Checkpoints with random weights in the shapes of published models: ``python -m tests.benchmarks.checkpoints``.

Speed does not depend on what the weights say, so these stand in for downloads.  The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_SPREAD = 0.02
"""Standard deviation of the weights."""


@attrs.frozen(kw_only=True)
class Shape:
    """The sizes of a decoder of the Llama family."""

    model_type: str = "llama"
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    theta: float
    """Base of the rotary embedding."""


SHAPES = {
    "smollm2-135m": Shape(
        hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, mlp=1536, vocab=49152, theta=1e5
    ),
    "qwen3-0.6b": Shape(
        model_type="qwen3", hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, mlp=3072, vocab=151936,
        theta=1e6,
    ),
    "nano": Shape(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=128, vocab=512, theta=1e4),
}  # fmt: skip
_CLASSES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def write_checkpoint(name: str, folder: Path, seed: int = 0) -> None:
    """Write the files of a Hugging Face checkpoint in the shape called *name*; *folder* appears whole or not at all."""
    shape = SHAPES[name]
    part = folder.with_name(f"{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    _write_json(part / "config.json", _config(shape))
    _write_json(part / "generation_config.json", {"bos_token_id": 0, "pad_token_id": 1})
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    _write_json(part / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})
    _tokenizer(shape.vocab).save(str(part / "tokenizer.json"))
    save_file(_weights(shape, seed), part / "model.safetensors", metadata={"format": "pt"})
    part.rename(folder)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2), "utf-8")


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": [_CLASSES[shape.model_type]],
        "model_type": shape.model_type,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": shape.theta,
        "max_position_embeddings": 8192,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "torch_dtype": "float32",
    }


def _weights(shape: Shape, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)

    def normal(*size: int) -> npt.NDArray[np.float32]:
        return (rng.standard_normal(size, dtype=np.float32) * _SPREAD).astype(np.float32)

    width, narrow, hidden = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.hidden
    found = {"model.embed_tokens.weight": normal(shape.vocab, hidden), "model.norm.weight": np.ones(hidden, np.float32)}
    for layer in range(shape.layers):
        matrices = {
            "self_attn.q_proj": (width, hidden), "self_attn.k_proj": (narrow, hidden),
            "self_attn.v_proj": (narrow, hidden), "self_attn.o_proj": (hidden, width),
            "mlp.gate_proj": (shape.mlp, hidden), "mlp.up_proj": (shape.mlp, hidden),
            "mlp.down_proj": (hidden, shape.mlp),
        }  # fmt: skip
        vectors = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
        if shape.model_type == "qwen3":
            vectors |= {"self_attn.q_norm": shape.head_dim, "self_attn.k_norm": shape.head_dim}
        prefix = f"model.layers.{layer}."
        found |= {f"{prefix}{part}.weight": normal(*size) for part, size in matrices.items()}
        found |= {f"{prefix}{part}.weight": np.ones(size, np.float32) for part, size in vectors.items()}
    return found


def _tokenizer(vocab: int) -> Tokenizer:
    """Return a byte-level BPE trained on the standard library's sources, and filled up to the vocabulary."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train([str(path) for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))], trainer)
    made.add_tokens([f"<|pad{number}|>" for number in range(vocab - made.get_vocab_size())])
    return made


def main() -> None:
    """Write one checkpoint."""
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_checkpoint(arguments.shape, arguments.folder, arguments.seed)


if __name__ == "__main__":
    main()
