"""Configurations as published models have them are read as their makers mean them.

What each file says besides sizes is what its model card or the reference's configuration class says; only keys that the
exporter could stumble over are here.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from llmos_onnx.architectures import read_shape
from llmos_onnx.fields import Fields
from llmos_onnx.shape import Shape

_PHI_CODE = {
    "AutoConfig": "microsoft/Phi-3.5-mini-instruct--configuration_phi3.Phi3Config",
    "AutoModelForCausalLM": "microsoft/Phi-3.5-mini-instruct--modeling_phi3.Phi3ForCausalLM",
    "AutoTokenizer": "Xenova/gpt-4o",
}
_YARN = {
    "attention_factor": 1.2079441541679836,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "yarn",
}
_LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def config(kind: str, sizes: tuple[int, int, int, int, int, int, int], **more: Any) -> dict[str, Any]:
    """Return a configuration of hidden, feed-forward and vocabulary sizes, layers, heads, key heads and context."""
    names = (
        "hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "max_position_embeddings",
    )  # fmt: skip
    return {"model_type": kind, **dict(zip(names, sizes, strict=True)), **more}


PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama-3.2-1B": config(
        "llama", (2048, 8192, 128256, 16, 32, 8, 131072), head_dim=64, rope_scaling=_LLAMA3, rope_theta=5e5,
        tie_word_embeddings=True, mlp_bias=False, attention_bias=False, pretraining_tp=1,
    ),
    "Mistral-7B-v0.1": config("mistral", (4096, 14336, 32000, 32, 32, 8, 32768), sliding_window=4096),
    "Mistral-7B-v0.3": config("mistral", (4096, 14336, 32768, 32, 32, 8, 32768), sliding_window=None, rope_theta=1e6),
    "Qwen2.5-0.5B": config(
        "qwen2", (896, 4864, 151936, 24, 14, 2, 32768), max_window_layers=24, sliding_window=32768,
        use_sliding_window=False, tie_word_embeddings=True, rope_theta=1e6,
    ),
    "Qwen3-0.6B": config(
        "qwen3", (1024, 3072, 151936, 28, 16, 8, 40960), head_dim=128, max_window_layers=28, sliding_window=None,
        use_sliding_window=False, rope_scaling=None, tie_word_embeddings=True, attention_bias=False, rope_theta=1e6,
    ),
    "SmolLM3-3B": config(
        "smollm3", (2048, 11008, 128256, 36, 16, 4, 65536), no_rope_layers=[1, 1, 1, 0] * 9, no_rope_layer_interval=4,
        layer_types=["full_attention"] * 36, use_sliding_window=False, sliding_window=None, max_window_layers=28,
        rope_scaling=None, rope_theta=5e6, mlp_bias=False, attention_bias=False, pretraining_tp=2,
    ),
    "Phi-3-mini-4k": config(
        "phi3", (3072, 8192, 32064, 32, 32, 32, 4096), auto_map=_PHI_CODE, original_max_position_embeddings=4096,
        rope_scaling=None, sliding_window=2047, rms_norm_eps=1e-5, attention_bias=False,
    ),
    "Phi-3.5-mini": config(
        "phi3", (3072, 8192, 32064, 32, 32, 32, 131072), auto_map=_PHI_CODE, original_max_position_embeddings=4096,
        rope_scaling={"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
        sliding_window=262144, rms_norm_eps=1e-5,
    ),
    "Phi-4-mini": config(
        "phi3", (3072, 8192, 200064, 32, 24, 8, 131072), auto_map=_PHI_CODE, original_max_position_embeddings=4096,
        rope_scaling={"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
        partial_rotary_factor=0.75, sliding_window=262144, tie_word_embeddings=True, rms_norm_eps=1e-5,
    ),
    "Gemma-2B": config(
        "gemma", (2048, 16384, 256000, 18, 8, 1, 8192), head_dim=256, hidden_act="gelu", hidden_activation=None,
        attention_bias=False, rope_scaling=None,
    ),
    "Gemma-2-2B": config(
        "gemma2", (2304, 9216, 256000, 26, 8, 4, 8192), head_dim=256, hidden_act="gelu_pytorch_tanh",
        hidden_activation="gelu_pytorch_tanh", attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        query_pre_attn_scalar=256, sliding_window=4096, cache_implementation="hybrid", attention_bias=False,
    ),
    "Gemma-3-1B": config(
        "gemma3_text", (1152, 6912, 262144, 26, 4, 1, 32768), head_dim=256, hidden_activation="gelu_pytorch_tanh",
        attn_logit_softcapping=None, final_logit_softcapping=None, query_pre_attn_scalar=256,
        rope_local_base_freq=10000, rope_scaling=None, rope_theta=1000000, sliding_window=512,
        sliding_window_pattern=6, cache_implementation="hybrid", attention_bias=False,
    ),
    "Granite-3.3-2B": config(
        "granite", (2048, 8192, 49159, 40, 32, 8, 131072), attention_multiplier=0.015625, embedding_multiplier=12.0,
        logits_scaling=8.0, residual_multiplier=0.22, rope_theta=1e7, rope_scaling=None, tie_word_embeddings=True,
    ),
    "OLMo-2-1B": config("olmo2", (2048, 8192, 100352, 16, 16, 16, 4096), rope_theta=500000, rms_norm_eps=1e-6),
    "OLMo-3-7B": config(
        "olmo3", (4096, 11008, 100278, 32, 32, 32, 65536), rope_scaling=_YARN, rope_theta=500000, sliding_window=4096,
        layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 8,
    ),
}  # fmt: skip


def read(name: str) -> Shape:
    """Return the shape of a published model."""
    return read_shape(Fields(name, "config.json", PUBLISHED[name]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_understood(name: str) -> None:
    """No key of a published file is refused, and sizes are taken as they stand."""
    told = PUBLISHED[name]

    shape = read(name)

    assert told["num_attention_heads"] * shape.head_dim == shape.queries
    assert told["max_position_embeddings"] == shape.context


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("Mistral-7B-v0.1", {"window": 4096, "global_layers": (), "tied": False}),
        ("Mistral-7B-v0.3", {"window": 0}),
        ("Qwen2.5-0.5B", {"window": 0, "qkv_bias": True, "out_bias": False}),
        ("SmolLM3-3B", {"tied": True, "unrotated_layers": tuple(range(3, 36, 4)), "window": 0}),
        ("Phi-3-mini-4k", {"packed": True, "window": 2047, "tied": False}),
        ("Phi-3.5-mini", {"window": 0, "head_dim": 96}),
        ("Gemma-2B", {"tied": True, "norms": "before", "norm_offset": True, "activation": "gelu", "window": 0}),
        ("Gemma-2-2B", {"tied": True, "norms": "around", "window": 4096, "global_layers": tuple(range(1, 26, 2))}),
        ("Gemma-3-1B", {"tied": True, "qk_norm": True, "window": 512, "global_layers": (5, 11, 17, 23)}),
        ("OLMo-2-1B", {"norms": "after", "wide_qk_norm": True, "qk_norm": False}),
        ("OLMo-3-7B", {"window": 4096, "global_layers": tuple(range(3, 32, 4))}),
    ],
)
def test_its_layers_are_what_its_makers_say(name: str, facts: dict[str, Any]) -> None:
    """Which layers see what, which norms stand where, and what is tied."""
    shape = read(name)

    assert facts == {fact: getattr(shape, fact) for fact in facts}


@pytest.mark.parametrize(
    ("name", "layer", "facts"),
    [
        ("Llama-3.2-1B", 0, {"theta": 5e5, "scaling": "llama3", "factor": 32.0}),
        ("SmolLM3-3B", 0, {"theta": 5e6, "scaling": "none"}),
        ("Phi-3-mini-4k", 0, {"scaling": "none", "width": 0}),
        ("Phi-3.5-mini", 0, {"scaling": "longrope", "factor": 32.0, "factors": (2.0,) * 48, "width": 0}),
        ("Phi-4-mini", 0, {"scaling": "longrope", "width": 96}),
        ("Gemma-3-1B", 4, {"theta": 1e4}),
        ("Gemma-3-1B", 5, {"theta": 1e6}),
        ("OLMo-3-7B", 2, {"theta": 5e5, "scaling": "none", "magnitude": 1.0}),
        ("OLMo-3-7B", 3, {"theta": 5e5, "scaling": "yarn", "magnitude": 1.2079441541679836}),
    ],
)
def test_its_layers_turn_as_its_makers_say(name: str, layer: int, facts: dict[str, Any]) -> None:
    """Bases, stretchings and widths of the rotation, layer by layer."""
    rope = read(name).layer_rope(layer)

    assert rope is not None
    assert facts == {fact: getattr(rope, fact) for fact in facts}


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("Llama-3.2-1B", (1.0, 0.0, 1.0, 1.0, 0.0, 0.0)),
        ("Gemma-2-2B", (48.0, 1 / 16, 1.0, 1.0, 50.0, 30.0)),
        ("Gemma-3-1B", (1152**0.5, 1 / 16, 1.0, 1.0, 0.0, 0.0)),
        ("Granite-3.3-2B", (12.0, 0.015625, 0.22, 0.125, 0.0, 0.0)),
    ],
)
def test_its_multipliers_and_caps_are_what_its_makers_say(name: str, scales: tuple[float, ...]) -> None:
    """Embedding, attention, residual, logits; the caps of attention and of logits."""
    assert scales == attrs.astuple(read(name).scales)
