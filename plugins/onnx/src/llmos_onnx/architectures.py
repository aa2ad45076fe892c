"""What ``config.json`` says, as one `Shape`; what this exporter would get wrong is refused by name.

Defaults are those of the checkpoints' own configuration classes: an absent key means there what it means here.
"""

from __future__ import annotations

from typing import Final

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.fields import Fields
from llmos_onnx.shape import ARCHITECTURES, MAX_CONTEXT, MAX_LAYERS, MAX_VOCAB, Rope, Shape

_MAX_WIDTH: Final = 1 << 20
_LARGEST: Final = 1 << 40

# Keys that change the numbers in ways that the graph does not know, and the values with which they change nothing.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "auto_map": (None,),  # needs code from the checkpoint, which is never run
    "quantization_config": (None,),
    "partial_rotary_factor": (None, 1, 1.0),
    "rope_interleaved": (None, False),
}


@attrs.frozen(kw_only=True)
class _Family:
    """How one ``model_type`` differs from plain Llama."""

    qk_norm: bool = False
    qkv_bias: bool = False
    """Queries, keys and values always have a bias, whatever ``attention_bias`` says."""
    attention_bias: bool = False
    """``attention_bias`` is read."""
    mlp_bias: bool = False
    """``mlp_bias`` is read."""
    head_dim: int = 0
    """Head width where the file gives none; 0 is ``hidden_size / num_attention_heads``."""
    window_switch: bool = False
    """``sliding_window`` counts only with ``use_sliding_window``."""
    windowed: bool = False
    """``sliding_window`` is read."""


_FAMILIES: Final[dict[str, _Family]] = {
    "llama": _Family(attention_bias=True, mlp_bias=True),
    "mistral": _Family(windowed=True),
    "qwen2": _Family(qkv_bias=True, windowed=True, window_switch=True),
    "qwen3": _Family(qk_norm=True, attention_bias=True, head_dim=128, windowed=True, window_switch=True),
}


def read_shape(config: Fields, *, context: int | None = None) -> Shape:
    """Return the shape that *config* (``config.json``) describes, with room for *context* tokens.

    Without *context* the model's own longest context is taken, at most `MAX_CONTEXT`.  Raises `ModelUnavailable` naming
    the key of ``config.json`` that cannot be done, and `InvalidArgument` for a *context* that the model does not have.
    """
    family = _FAMILIES[config.choice("model_type", ARCHITECTURES)]
    for name, neutral in _NEUTRAL.items():
        if config.values.get(name) not in neutral:
            raise config.refuse(name, " or ".join(repr(value) for value in neutral))
    config.choice("hidden_act", ("silu",), default="silu")
    hidden = config.integer("hidden_size", 1, _MAX_WIDTH)
    heads = config.integer("num_attention_heads", 1, 4096)
    length = _context(config, context)
    layers = config.integer("num_hidden_layers", 1, MAX_LAYERS)
    bias = family.attention_bias and config.flag("attention_bias", default=False)
    shape = Shape(
        architecture=config.text("model_type", 20),
        vocab=config.integer("vocab_size", 1, MAX_VOCAB),
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", 1, 4096, default=heads),
        head_dim=config.integer("head_dim", 2, 4096, default=family.head_dim or hidden // heads),
        mlp=config.integer("intermediate_size", 1, _MAX_WIDTH),
        context=length,
        norm_eps=config.number("rms_norm_eps", 0.0, 1.0, default=1e-6),
        rope=_rope(config),
        tied=config.flag("tie_word_embeddings", default=False),
        qk_norm=family.qk_norm,
        qkv_bias=family.qkv_bias or bias,
        out_bias=bias,
        mlp_bias=family.mlp_bias and config.flag("mlp_bias", default=False),
        window=_window(config, family, layers, length),
    )
    shape.check(config)
    return shape


def _context(config: Fields, wanted: int | None) -> int:
    longest = config.integer("max_position_embeddings", 1, _LARGEST)
    if wanted is None:
        return min(longest, MAX_CONTEXT)
    if not 1 <= wanted <= min(longest, MAX_CONTEXT):
        expected = f"an integer within 1 … {min(longest, MAX_CONTEXT)}"
        raise InvalidArgument(
            f"context is {wanted}, expected {expected}", field="context", value=wanted, expected=expected
        )
    return wanted


def _rope(config: Fields) -> Rope:
    """Read the rotation: ``rope_parameters``, or in older files ``rope_theta`` beside ``rope_scaling``."""
    newer = config.has("rope_parameters")
    has_any = newer or config.has("rope_scaling")
    inner = config.inner("rope_parameters" if newer else "rope_scaling") if has_any else attrs.evolve(config, values={})
    theta = (inner if inner.has("rope_theta") else config).number("rope_theta", 1.0, 1e12, default=10_000.0)
    if inner.values.get("partial_rotary_factor") not in _NEUTRAL["partial_rotary_factor"]:
        raise inner.refuse("partial_rotary_factor", "1.0")
    key = "rope_type" if inner.has("rope_type") else "type"
    kind = inner.choice(key, ("default", "linear", "llama3"), default="default")
    if kind == "default":
        return Rope(theta=theta)
    factor = inner.number("factor", 1.0, 1e6)
    if kind == "linear":
        return Rope(theta=theta, scaling=kind, factor=factor)
    low = inner.number("low_freq_factor", 1e-3, 1e6)
    high = inner.number("high_freq_factor", 1e-3, 1e6)
    if high <= low:
        raise inner.refuse("high_freq_factor", f"more than low_freq_factor ({low:g})")
    original = inner.integer("original_max_position_embeddings", 1, MAX_CONTEXT)
    return Rope(
        theta=theta,
        scaling=kind,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_context=original,
    )


def _window(config: Fields, family: _Family, layers: int, context: int) -> int:
    """Return the sliding window in tokens, 0 where none is used within *context*."""
    used = family.windowed and (not family.window_switch or config.flag("use_sliding_window", default=False))
    if not used or not config.has("sliding_window"):
        return 0
    window = config.integer("sliding_window", 1, _LARGEST)
    if window >= context:
        return 0
    if family.window_switch and config.integer("max_window_layers", 0, _LARGEST, default=28) > 0:
        raise config.refuse("max_window_layers", f"0 (every layer windowed), or context={window}: below it all is seen")
    kinds = config.values.get("layer_types")
    if kinds is not None and kinds != ["sliding_attention"] * layers:
        raise config.refuse("layer_types", f"'sliding_attention' for each of the {layers} layers")
    return window
