"""What ``config.json`` says, as one `Shape`; what this exporter would get wrong is refused by name.

Defaults are those of the checkpoints' own configuration classes: an absent key means there what it means here.
"""

from __future__ import annotations

from typing import Final

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.fields import Fields, nearest
from llmos_onnx.rope_config import RopeSource
from llmos_onnx.shape import ARCHITECTURES, MAX_CONTEXT, MAX_HEAD, MAX_LAYERS, MAX_VOCAB, Rope, Scales, Shape

_MAX_WIDTH: Final = 1 << 20
_LARGEST: Final = 1 << 40
_TANH_GELU: Final = "gelu_pytorch_tanh"
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"

# Keys that change the numbers in ways that the graph does not know, and the values with which they change nothing.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "quantization_config": (None,),
    "rope_interleaved": (None, False),
    "use_bidirectional_attention": (None, False),
}


@attrs.frozen(kw_only=True)
class _Family:
    """How one ``model_type`` differs from plain Llama."""

    qk_norm: bool = False
    wide_qk_norm: bool = False
    norms: str = "before"
    packed: bool = False
    qkv_bias: bool = False
    """Queries, keys and values always have a bias, whatever ``attention_bias`` says."""
    attention_bias: bool = False
    """``attention_bias`` is read."""
    mlp_bias: bool = False
    """``mlp_bias`` is read."""
    head_dim: int = 0
    """Head width where the file gives none; 0 is ``hidden_size / num_attention_heads``."""
    own_kv_heads: bool = False
    """Where ``num_key_value_heads`` is absent, it is not the number of query heads: the file must say it."""
    norm_eps: float = 1e-6
    theta: float = 10_000.0
    tied: bool = False
    """``tie_word_embeddings`` where the file does not say."""
    code: tuple[str, ...] = ()
    """Classes that ``auto_map`` may name: their code is never run, this module knows what it does."""
    partial_rotary: bool = False
    windowed: bool = False
    """``sliding_window`` is read."""
    window_switch: bool = False
    """``sliding_window`` counts only with ``use_sliding_window``."""
    window: int = 0
    """``sliding_window`` where the file gives none; 0 is no window."""
    period: int = 0
    """Each layer of this number is global, the others are local, unless ``layer_types`` says otherwise."""
    no_rope: bool = False
    """``no_rope_layers`` is read."""
    local_rope: bool = False
    """Local layers are turned by a rotation of their own."""
    local_theta: float = 0.0
    """Its base where the file gives none; 0 is that of the other layers."""
    gemma: bool = False
    """Norm weights less one, scaled embeddings, GELU."""
    query_scalar: bool = False
    """Attention is scaled and capped by ``query_pre_attn_scalar`` and its kin (Gemma 2)."""
    caps: tuple[float, float] = (0.0, 0.0)
    """Caps of attention and logits where the file does not speak of them."""
    multipliers: bool = False
    """``embedding_multiplier`` and its kin are read (Granite)."""


_QWEN: Final = _Family(own_kv_heads=True, windowed=True, window_switch=True, window=4096)
_GEMMA: Final = _Family(gemma=True, tied=True, head_dim=256, attention_bias=True, own_kv_heads=True)
_OLMO: Final = _Family(wide_qk_norm=True, norms="after", attention_bias=True, norm_eps=1e-5)
_FAMILIES: Final[dict[str, _Family]] = {
    "llama": _Family(attention_bias=True, mlp_bias=True),
    "mistral": _Family(own_kv_heads=True, windowed=True, window=4096),
    "qwen2": attrs.evolve(_QWEN, qkv_bias=True),
    "qwen3": attrs.evolve(_QWEN, qk_norm=True, attention_bias=True, head_dim=128),
    "smollm3": _Family(
        attention_bias=True,
        mlp_bias=True,
        own_kv_heads=True,
        theta=2e6,
        tied=True,
        windowed=True,
        window_switch=True,
        no_rope=True,
    ),
    "phi3": _Family(
        packed=True,
        norm_eps=1e-5,
        windowed=True,
        partial_rotary=True,
        code=("configuration_phi3.Phi3Config", "modeling_phi3.Phi3ForCausalLM"),
    ),
    "gemma": _GEMMA,
    "gemma2": attrs.evolve(
        _GEMMA, norms="around", windowed=True, window=4096, period=2, query_scalar=True, caps=(50.0, 30.0)
    ),
    "gemma3_text": attrs.evolve(
        _GEMMA,
        norms="around",
        qk_norm=True,
        windowed=True,
        window=4096,
        period=6,
        query_scalar=True,
        theta=1e6,
        local_rope=True,
        local_theta=1e4,
    ),
    "granite": _Family(attention_bias=True, mlp_bias=True, multipliers=True),
    "olmo2": _OLMO,
    "olmo3": attrs.evolve(_OLMO, windowed=True, window=4096, period=4, theta=5e5, local_rope=True),
}


def read_shape(config: Fields, *, context: int | None = None) -> Shape:
    """Return the shape that *config* (``config.json``) describes, with room for *context* tokens.

    Without *context* the model's own longest context is taken, at most `MAX_CONTEXT`.  Raises `ModelUnavailable` naming
    the key of ``config.json`` that cannot be done, and `InvalidArgument` for a *context* that the model does not have.
    """
    family = _family(config)
    shape = _layered(config, family, _sized(config, family, _context(config, context)))
    shape.check(config)
    return shape


def _sized(config: Fields, family: _Family, context: int) -> Shape:
    """Return the sizes, and what the family determines by itself."""
    hidden = config.integer("hidden_size", 1, _MAX_WIDTH)
    heads = config.integer("num_attention_heads", 1, 4096)
    bias = family.attention_bias and config.flag("attention_bias", default=False)
    return Shape(
        architecture=config.text("model_type", 20),
        vocab=config.integer("vocab_size", 1, MAX_VOCAB),
        hidden=hidden,
        layers=config.integer("num_hidden_layers", 1, MAX_LAYERS),
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", 1, 4096, default=None if family.own_kv_heads else heads),
        head_dim=config.integer("head_dim", 2, MAX_HEAD, default=family.head_dim or hidden // heads),
        mlp=config.integer("intermediate_size", 1, _MAX_WIDTH),
        context=context,
        norm_eps=config.number("rms_norm_eps", 0.0, 1.0, default=family.norm_eps),
        rope=Rope(),
        tied=config.flag("tie_word_embeddings", default=family.tied),
        qk_norm=family.qk_norm,
        qkv_bias=family.qkv_bias or bias,
        out_bias=bias,
        mlp_bias=family.mlp_bias and config.flag("mlp_bias", default=False),
        window=0,
        wide_qk_norm=family.wide_qk_norm,
        norms=family.norms,
        norm_offset=family.gemma,
        packed=family.packed,
        activation=_activation(config, family),
        scales=_scales(config, family, hidden),
    )


def _layered(config: Fields, family: _Family, shape: Shape) -> Shape:
    """Add to *shape* how its layers turn, and what they see."""
    rope, local_rope = _ropes(config, family, shape)
    unrotated = _unrotated(config, family, shape.layers)
    window, global_layers = _windows(config, family, shape.layers, unrotated)
    if window >= shape.context:
        window = 0
    return attrs.evolve(
        shape,
        rope=rope,
        local_rope=local_rope,
        unrotated_layers=unrotated,
        window=window,
        global_layers=global_layers if window or local_rope else (),
    )


def _family(config: Fields) -> _Family:
    """Return the family of the checkpoint, and refuse what no family can say."""
    kind = config.values.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise config.refuse("model_type", _instead(config))
    for name, neutral in _NEUTRAL.items():
        if config.values.get(name) not in neutral:
            raise config.refuse(name, " or ".join(repr(value) for value in neutral))
    family = _FAMILIES[kind]
    if not _known_code(config.values.get("auto_map"), family):
        raise config.refuse("auto_map", "absent: code of a checkpoint is never run")
    return family


def _known_code(classes: object, family: _Family) -> bool:
    """Say whether the model's classes do what the family does: other code means other numbers.

    Checkpoints from before their architecture was known everywhere bring code along.  A tokenizer among the classes
    does not matter, ``tokenizer.json`` is read.
    """
    if not isinstance(classes, dict):
        return classes is None
    models = [str(value) for name, value in classes.items() if "Tokenizer" not in name]
    return all(value.split("--")[-1] in family.code for value in models)


def _instead(config: Fields) -> str:
    """Return what would be right in place of an architecture that is not written."""
    signs = {
        "text_config": "a model of text alone, not one that wraps it",
        "num_local_experts": "a dense model, not a mixture of experts",
        "num_experts": "a dense model, not a mixture of experts",
        "n_routed_experts": "a dense model, not a mixture of experts",
        "kv_lora_rank": "keys and values that are not compressed",
    }
    why = next((f" ({text})" for name, text in signs.items() if config.has(name)), "")
    known = nearest(str(config.values.get("model_type")), ARCHITECTURES)
    return f"one of {known}{why}; for others: llmos export --with optimum"


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


def _activation(config: Fields, family: _Family) -> str:
    if not family.gemma:
        config.choice("hidden_act", ("silu",), default="silu")
        return "silu"
    # The first Gemma's files say "gelu" and mean the tanh form; its later files and successors say so.
    if config.values["model_type"] == "gemma":
        config.choice("hidden_act", (_TANH_GELU, "gelu"), default=_TANH_GELU)
    config.choice("hidden_activation", (_TANH_GELU,), default=_TANH_GELU)
    return "gelu"


def _ropes(config: Fields, family: _Family, shape: Shape) -> tuple[Rope, Rope | None]:
    """Return how global layers turn, and how local ones do where that differs."""
    source = RopeSource(
        config=config,
        head_dim=shape.head_dim,
        context=shape.context,
        theta=family.theta,
        partial=family.partial_rotary,
        longrope=family.packed,
    )
    if not family.local_rope:
        return source.read(), None
    if family.local_theta:
        return source.read_kinds(local_theta=config.number("rope_local_base_freq", 1.001, 1e12, family.local_theta))
    return source.read_kinds(local_theta=source.base)


def _unrotated(config: Fields, family: _Family, layers: int) -> tuple[int, ...]:
    """Return the layers without rotary positions."""
    if not family.no_rope:
        return ()
    if config.has("no_rope_layers"):
        rotated = config.integers("no_rope_layers", 0, 1, most=MAX_LAYERS)  # the name lies: 1 is a layer that turns
        if len(rotated) < layers:
            raise config.refuse("no_rope_layers", f"one number for each of the {layers} layers")
        return tuple(layer for layer in range(layers) if not rotated[layer])
    interval = config.integer("no_rope_layer_interval", 1, MAX_LAYERS, default=4)
    return tuple(range(interval - 1, layers, interval))


def _windows(config: Fields, family: _Family, layers: int, unrotated: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the sliding window in tokens, 0 for none, and the layers that it does not bind."""
    used = family.windowed and (not family.window_switch or config.flag("use_sliding_window", default=False))
    given = "sliding_window" not in config.values or config.has("sliding_window")
    if not used or not given:
        return 0, _global_layers(config, family, layers, unrotated) if family.local_rope else ()
    if not family.window and not config.has("sliding_window"):
        return 0, ()
    window = config.integer("sliding_window", 1, _LARGEST, default=family.window)
    return window, _global_layers(config, family, layers, unrotated)


def _global_layers(config: Fields, family: _Family, layers: int, unrotated: tuple[int, ...]) -> tuple[int, ...]:
    """Return the layers that see the whole sequence: by ``layer_types``, or by the family's own pattern."""
    kinds = config.values.get("layer_types")
    if kinds is not None:
        return _by_type(config, family, kinds, layers)
    if family.no_rope:
        return tuple(layer for layer in range(layers) if layer not in unrotated)
    if family.window_switch:
        return tuple(range(min(layers, config.integer("max_window_layers", 0, _LARGEST, default=28))))
    if not family.period:
        return ()
    period = config.integer("sliding_window_pattern", 1, MAX_LAYERS, default=family.period)
    if period != family.period and not family.qk_norm:
        raise config.refuse("sliding_window_pattern", str(family.period))
    return tuple(range(period - 1, layers, period))


def _by_type(config: Fields, family: _Family, kinds: object, layers: int) -> tuple[int, ...]:
    known = (_LOCAL, _GLOBAL) if family.period or family.window_switch else (_LOCAL,)
    if not isinstance(kinds, list) or len(kinds) < layers or any(kind not in known for kind in kinds[:layers]):
        raise config.refuse("layer_types", f"{' or '.join(map(repr, known))} for each of the {layers} layers")
    return tuple(layer for layer in range(layers) if kinds[layer] == _GLOBAL)


def _scales(config: Fields, family: _Family, hidden: int) -> Scales:
    if family.multipliers:
        return Scales(
            embedding=config.number("embedding_multiplier", 1e-6, 1e6, default=1.0),
            attention=config.number("attention_multiplier", 1e-6, 1e6, default=1.0),
            residual=config.number("residual_multiplier", 1e-6, 1e6, default=1.0),
            logits=1 / config.number("logits_scaling", 1e-6, 1e6, default=1.0),
        )
    if not family.gemma:
        return Scales()
    scales = Scales(embedding=hidden**0.5)
    if not family.query_scalar:
        return scales
    attention = config.number("query_pre_attn_scalar", 1e-6, 1e6, default=256.0) ** -0.5
    names = ("attn_logit_softcapping", "final_logit_softcapping")
    caps = [_cap(config, name, default) for name, default in zip(names, family.caps, strict=True)]
    return attrs.evolve(scales, attention=attention, attention_cap=caps[0], logits_cap=caps[1])


def _cap(config: Fields, name: str, default: float) -> float:
    """Return a cap; null is none, and an absent key the *default*."""
    if config.has(name):
        return config.number(name, 1e-3, 1e6)
    return 0.0 if name in config.values else default
