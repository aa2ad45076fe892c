"""Writes Hugging Face style checkpoints with random weights: what tests and benchmarks use instead of downloads.

Speed and exactness do not depend on what weights say.  Same recipe, same seed: same bytes, on every machine, but for
``tokenizer.json``, which follows the version of `tokenizers` that trained it.  Needs numpy, attrs and tokenizers.

    python -m plugins.onnx.tests.checkpoint_writer smollm2-135m TARGET
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


@attrs.frozen(kw_only=True)
class Recipe:
    """The shape of a checkpoint, and how its tensors are stored."""

    arch: str = "llama"
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    mlp: int = 128
    vocab: int = 512
    context: int = 512
    tied: bool = True
    dtype: str = "F32"
    """``F32``, ``F16`` or ``BF16``."""
    shards: int = 1
    config: Mapping[str, Any] = attrs.field(factory=dict)
    """Keys of ``config.json`` beyond those of the shape."""


_LLAMA3: Final = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
_YARN: Final = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
_LONGROPE: Final = {
    "type": "longrope",
    "short_factor": [1.0, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7],
    "long_factor": [1.0, 1.1, 1.3, 2.0, 4.0, 7.0, 9.0, 11.0],
}
# Caps and multipliers so far from one that logits without them are far off.
_GEMMA2: Final = {
    "hidden_activation": "gelu_pytorch_tanh",
    "sliding_window": 12,
    "query_pre_attn_scalar": 24,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}
_GEMMA3: Final = {
    "hidden_activation": "gelu_pytorch_tanh",
    "sliding_window": 12,
    "query_pre_attn_scalar": 24,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    "rope_local_base_freq": 100.0,
}
_GRANITE: Final = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.4,
    "residual_multiplier": 0.3,
    "logits_scaling": 5.0,
}
RECIPES: Final[Mapping[str, Recipe]] = {
    "nano": Recipe(),
    "nano-yarn": Recipe(config={"rope_scaling": _YARN}),
    "nano-dynamic": Recipe(config={"rope_scaling": {"type": "dynamic", "factor": 4.0}}),
    "nano-smollm3": Recipe(
        arch="smollm3", layers=4, config={"no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 12}
    ),
    "nano-phi3": Recipe(
        arch="phi3", tied=False,
        config={"rope_scaling": _LONGROPE, "original_max_position_embeddings": 32, "sliding_window": 24},
    ),
    "nano-phi4": Recipe(
        arch="phi3", hidden=128, head_dim=32,
        config={
            "rope_scaling": _LONGROPE, "original_max_position_embeddings": 32, "partial_rotary_factor": 0.5,
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
        },
    ),
    "nano-gemma": Recipe(arch="gemma", head_dim=32, config={"hidden_act": "gelu"}),
    "nano-gemma2": Recipe(arch="gemma2", layers=3, head_dim=32, config=_GEMMA2),
    "nano-gemma3": Recipe(arch="gemma3_text", layers=7, head_dim=32, mlp=64, config=_GEMMA3),
    "nano-granite": Recipe(arch="granite", config=_GRANITE),
    "nano-olmo2": Recipe(arch="olmo2", tied=False),
    "nano-olmo3": Recipe(
        arch="olmo3", layers=4,
        config={
            "sliding_window": 12,
            "rope_parameters": {
                "full_attention": {**_YARN, "rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
    ),
    "nano-qwen2-mixed": Recipe(
        arch="qwen2", config={"sliding_window": 12, "use_sliding_window": True, "max_window_layers": 1}
    ),
    "nano-llama3": Recipe(tied=False, dtype="BF16", shards=2, config={"rope_scaling": _LLAMA3, "attention_bias": True}),
    "nano-mistral": Recipe(arch="mistral", tied=False, dtype="F16", config={"sliding_window": 12}),
    "nano-qwen2": Recipe(arch="qwen2", config={"sliding_window": 64, "max_window_layers": 2}),
    "nano-qwen3": Recipe(arch="qwen3", head_dim=32, config={"rope_theta": 1e6}),
    "pico": Recipe(hidden=32, heads=2, kv_heads=1, mlp=64, vocab=320, context=128),
    "smollm2-135m": Recipe(
        hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, mlp=1536, vocab=49152, context=8192,
        config={"rope_theta": 1e5},
    ),
    "qwen3-0.6b": Recipe(
        arch="qwen3", hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, mlp=3072, vocab=151936, context=40960,
        dtype="BF16", shards=3, config={"rope_theta": 1e6},
    ),
    "llama-3.2-1b": Recipe(
        hidden=2048, layers=16, heads=32, kv_heads=8, head_dim=64, mlp=8192, vocab=128256, context=131072, dtype="BF16",
        config={"rope_theta": 5e5},
    ),
}  # fmt: skip
"""Recipes by name: small ones for each architecture, and published models' shapes."""

NANO: Final = tuple(name for name in RECIPES if name.startswith("nano"))

_CLASSES: Final = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
}
_AROUND: Final = ("input", "post_attention", "pre_feedforward", "post_feedforward")
_AFTER: Final = ("post_attention", "post_feedforward")
_NORMS: Final = {"gemma2": _AROUND, "gemma3_text": _AROUND, "olmo2": _AFTER, "olmo3": _AFTER}
_ITEM_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}
SPECIAL: Final = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
"""Tokens 0 to 3."""
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_checkpoint(target: Path, recipe: Recipe, *, seed: int = 0) -> Path:
    """Write the folder *target*, which must not exist, and return it."""
    target.mkdir(parents=True)
    _write_json(target / "config.json", config(recipe))
    _write_json(target / "generation_config.json", {"bos_token_id": 0, "eos_token_id": [1, 3], "temperature": 0.7})
    tokens = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "</s>", "add_bos_token": False}
    _write_json(target / "tokenizer_config.json", tokens | {"chat_template": CHAT_TEMPLATE})
    (target / "tokenizer.json").write_text(tokenizer(recipe.vocab), encoding="utf-8")
    _write_weights(target, recipe, seed)
    return target


def config(recipe: Recipe) -> dict[str, Any]:
    """Return what ``config.json`` says."""
    return {
        "architectures": [_CLASSES[recipe.arch]],
        "model_type": recipe.arch,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.mlp,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "head_dim": recipe.head_dim,
        "vocab_size": recipe.vocab,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
        "max_position_embeddings": recipe.context,
        "tie_word_embeddings": recipe.tied,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[recipe.dtype],
        **recipe.config,
    }


def tensor_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Return the dimensions of each tensor by name, in the order of the file."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (recipe.vocab, recipe.hidden)}
    found["model.norm.weight"] = (recipe.hidden,)
    if not recipe.tied:
        found["lm_head.weight"] = (recipe.vocab, recipe.hidden)
    for layer in range(recipe.layers):
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in _layer_shapes(recipe).items()}
    return found


def _layer_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    queries, keys = recipe.heads * recipe.head_dim, recipe.kv_heads * recipe.head_dim
    rows = {"q": queries, "k": keys, "v": keys, "o": recipe.hidden}
    gates = {"gate": recipe.mlp, "up": recipe.mlp}
    if recipe.arch == "phi3":
        rows, gates = {"qkv": queries + 2 * keys, "o": recipe.hidden}, {"gate_up": 2 * recipe.mlp}
    biased = {"q", "k", "v"} if recipe.arch == "qwen2" else set("qkvo" if recipe.config.get("attention_bias") else "")
    found: dict[str, tuple[int, ...]] = {}
    for part, count in rows.items():
        found[f"self_attn.{part}_proj.weight"] = (count, queries if part == "o" else recipe.hidden)
        if part in biased:
            found[f"self_attn.{part}_proj.bias"] = (count,)
    found |= {f"mlp.{part}_proj.weight": (count, recipe.hidden) for part, count in gates.items()}
    found["mlp.down_proj.weight"] = (recipe.hidden, recipe.mlp)
    norms = _NORMS.get(recipe.arch, ("input", "post_attention"))
    found |= {f"{norm}_layernorm.weight": (recipe.hidden,) for norm in norms}
    if recipe.arch in ("qwen3", "gemma3_text"):
        found["self_attn.q_norm.weight"] = found["self_attn.k_norm.weight"] = (recipe.head_dim,)
    if recipe.arch.startswith("olmo"):
        found |= {"self_attn.q_norm.weight": (queries,), "self_attn.k_norm.weight": (keys,)}
    return found


def tensors(recipe: Recipe, seed: int = 0) -> Iterator[tuple[str, Floats]]:
    """Yield each tensor as float32, scaled so that every layer's output is about as large as its input."""
    rng = np.random.default_rng(seed)
    for name, shape in tensor_shapes(recipe).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("norm.weight"):
            # Gemma stores the weights of its norms less one.
            yield name, np.float32(0.1) * values + (not recipe.arch.startswith("gemma"))
        else:
            yield name, values * np.float32(shape[-1] ** -0.5)


def tokenizer(vocab: int) -> str:
    """Return ``tokenizer.json``: byte-level BPE of a small fixed text, filled up to *vocab* with words nobody says."""
    words = (
        "one two three small large red green sun moon rain house river child bird stone reads sees makes takes".split()
    )
    text = [" ".join(("The", *line, "and", line[0] + ".")) for line in itertools.permutations(words, 3)][::7]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=min(vocab, 480), special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )
    state = json.loads(trained.to_str())
    known = state["model"]["vocab"]
    known.update({f"<|unused{number}|>": number for number in range(len(known), vocab)})
    return json.dumps(state)


def _write_weights(target: Path, recipe: Recipe, seed: int) -> None:
    """Write the tensors into one file, or into *shards* with an index."""
    names = list(tensor_shapes(recipe))
    size = math.ceil(len(names) / recipe.shards)
    parts = [names[first : first + size] for first in range(0, len(names), size)]
    files = [f"model-{number:05}-of-{len(parts):05}.safetensors" for number in range(1, len(parts) + 1)]
    stream = tensors(recipe, seed)
    for file, part in zip(files if recipe.shards > 1 else ["model.safetensors"], parts, strict=True):
        shapes = {name: tensor_shapes(recipe)[name] for name in part}
        write_safetensors(target / file, shapes, itertools.islice(stream, len(part)), recipe.dtype)
    if recipe.shards > 1:
        placed = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        _write_json(target / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})


def write_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], values: Iterator[tuple[str, Floats]], dtype: str
) -> None:
    """Write one safetensors file, tensor by tensor."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * _ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for _, value in values:
            file.write(narrow(value, dtype))


def narrow(value: Floats, dtype: str) -> bytes:
    """Return *value* in the bytes of *dtype*; BF16 is cut, not rounded."""
    if dtype == "BF16":
        return (value.view(np.uint32) >> 16).astype("<u2").tobytes()
    return value.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("target", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_checkpoint(options.target, RECIPES[options.recipe], seed=options.seed)


if __name__ == "__main__":
    main()
