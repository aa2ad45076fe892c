"""What sets each architecture apart, for the numpy decoder: written from the papers and configuration classes.

It shares nothing with the exporter's reading of ``config.json``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from plugins.onnx.tests.checkpoint_writer import Recipe

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

_LLAMA = ("input_layernorm", "", "post_attention_layernorm", "")
_GEMMA = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
_OLMO = ("", "post_attention_layernorm", "", "post_feedforward_layernorm")


@attrs.frozen(kw_only=True)
class Style:
    """One architecture's numbers and functions."""

    norms: tuple[str, str, str, str] = _LLAMA
    """Before and after attention, before and after the feed-forward layer; empty where none stands."""
    epsilon: float = 1e-6
    offset: float = 0.0
    """Added to the weights of norms."""
    head_norms: bool = False
    wide_norms: bool = False
    gate: Callable[[Doubles], Doubles]
    embedding: float = 1.0
    attention: float
    residual: float = 1.0
    logits: float = 1.0
    attention_cap: float = math.inf
    logits_cap: float = math.inf
    windows: list[float]
    """Tokens that a token sees, by layer."""
    turns: list[tuple[Doubles, float]]
    """How far each pair turns per token, and how much longer it gets, by layer; without rotation there is no pair."""


def silu(x: Doubles) -> Doubles:
    """Hendrycks and Gimpel 2016."""
    found: Doubles = x / (1 + np.exp(-x))
    return found


def gelu(x: Doubles) -> Doubles:
    """The tanh form of the same paper."""
    found: Doubles = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return found


def capped(x: Doubles, cap: float) -> Doubles:
    """Return *x* bent to stay within the cap."""
    return x if cap == math.inf else cap * np.tanh(x / cap)


def style(recipe: Recipe) -> Style:
    """Return the style of *recipe*, for prompts longer than the original context of a stretched model."""
    told = recipe.config
    gemma, olmo = recipe.arch.startswith("gemma"), recipe.arch.startswith("olmo")
    around = recipe.arch in ("gemma2", "gemma3_text")
    return Style(
        norms=_OLMO if olmo else _GEMMA if around else _LLAMA,
        offset=1.0 if gemma else 0.0,
        head_norms=recipe.arch in ("qwen3", "gemma3_text"),
        wide_norms=olmo,
        gate=gelu if gemma else silu,
        embedding=recipe.hidden**0.5 if gemma else told.get("embedding_multiplier", 1.0),
        attention=told.get("attention_multiplier", told.get("query_pre_attn_scalar", recipe.head_dim) ** -0.5),
        residual=told.get("residual_multiplier", 1.0),
        logits=1 / told.get("logits_scaling", 1.0),
        attention_cap=told.get("attn_logit_softcapping", math.inf),
        logits_cap=told.get("final_logit_softcapping", math.inf),
        windows=[told["sliding_window"] if _local(recipe, layer) else math.inf for layer in range(recipe.layers)],
        turns=[_turns(recipe, layer) for layer in range(recipe.layers)],
    )


def _local(recipe: Recipe, layer: int) -> bool:
    """Say whether *layer* has a sliding window."""
    if recipe.arch == "smollm3":
        return _unturned(recipe, layer)
    if recipe.arch.startswith("qwen"):
        return bool(recipe.config.get("use_sliding_window")) and layer >= recipe.config["max_window_layers"]
    period = {"gemma2": 2, "gemma3_text": 6, "olmo3": 4}.get(recipe.arch, 0)
    return "sliding_window" in recipe.config and not (period and (layer + 1) % period == 0)


def _unturned(recipe: Recipe, layer: int) -> bool:
    return recipe.arch == "smollm3" and (layer + 1) % recipe.config["no_rope_layer_interval"] == 0


def _turns(recipe: Recipe, layer: int) -> tuple[Doubles, float]:
    if _unturned(recipe, layer):
        return np.zeros(0), 1.0
    told = _rotation(recipe)
    base = told.get("rope_theta", recipe.config.get("rope_theta", 1e4))
    if _local(recipe, layer) and recipe.arch in ("gemma3_text", "olmo3"):
        kinds = recipe.config.get("rope_parameters")
        base = kinds["sliding_attention"]["rope_theta"] if kinds else recipe.config["rope_local_base_freq"]
        told = {}
    width = int(recipe.head_dim * recipe.config.get("partial_rotary_factor", 1.0))
    plain = base ** (-np.arange(0, width, 2) / width)
    return _stretched(recipe, told, plain, base)


def _stretched(recipe: Recipe, told: dict[str, Any], plain: Doubles, base: float) -> tuple[Doubles, float]:
    """Return the angles of a model whose context was stretched as *told*, and how much longer its pairs get."""
    kind = told.get("rope_type", told.get("type"))
    if kind == "linear":
        return plain / told["factor"], 1.0
    if kind == "longrope":
        original = recipe.config["original_max_position_embeddings"]
        longer = math.sqrt(1 + math.log(recipe.context / original) / math.log(original))
        return plain / np.array(told["long_factor"]), longer
    # These two blend from angles that stay to angles divided by the factor; what they blend along differs.
    if kind == "llama3":
        kept = _kept_llama3(told, plain)
        return plain * (kept + (1 - kept) / told["factor"]), 1.0
    if kind == "yarn":
        kept = _kept_yarn(told, base, len(plain))
        return plain * (kept + (1 - kept) / told["factor"]), 0.1 * math.log(told["factor"]) + 1
    return plain, 1.0


def _rotation(recipe: Recipe) -> dict[str, Any]:
    told: dict[str, Any] = recipe.config.get("rope_scaling", recipe.config.get("rope_parameters", {}))
    return dict(told.get("full_attention", told))


def _kept_llama3(told: dict[str, Any], turns: Doubles) -> Doubles:
    """Meta's release of Llama 3.1: by turns within the original context."""
    rounds = told["original_max_position_embeddings"] * turns / (2 * math.pi)
    low, high = told["low_freq_factor"], told["high_freq_factor"]
    found: Doubles = np.clip((rounds - low) / (high - low), 0, 1)
    return found


def _kept_yarn(told: dict[str, Any], base: float, pairs: int) -> Doubles:
    """Peng et al. 2023, with the whole borders of their code: by the index of the pair."""
    original = told["original_max_position_embeddings"]
    borders = [pairs * math.log(original / (2 * math.pi * rounds)) / math.log(base) for rounds in (32, 1)]
    first, last = max(math.floor(borders[0]), 0), min(math.ceil(borders[1]), 2 * pairs - 1)
    found: Doubles = 1 - np.clip((np.arange(pairs) - first) / (last - first), 0, 1)
    return found
