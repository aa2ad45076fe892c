"""What a decoder looks like: the numbers that the graph, the engine and the manifest share."""

from __future__ import annotations

from typing import Final

import attrs

from llmos_onnx.fields import Fields

MAX_CONTEXT: Final = 131_072
"""Longest context in tokens: the rotation tables grow with it (64 MiB of them for heads of 128)."""
MAX_VOCAB: Final = 1 << 20
MAX_LAYERS: Final = 512
_MAX_WIDTH: Final = 1 << 20


@attrs.frozen(kw_only=True)
class Rope:
    """Rotary position embedding: how far each pair of a head's dimensions turns per token."""

    theta: float = 10_000.0
    """Base of the geometric series of angles."""
    scaling: str = "none"
    """``none``, ``linear`` (all angles divided by *factor*) or ``llama3`` (only the slow ones)."""
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    """Context in tokens before the stretching; used by ``llama3``."""

    @classmethod
    def read(cls, fields: Fields) -> Rope:
        """Read what the manifest says; raise `ModelUnavailable` naming the field that is wrong."""
        fields.only(name.name for name in attrs.fields(cls))
        return cls(
            theta=fields.number("theta", 1.0, 1e12),
            scaling=fields.choice("scaling", ("none", "linear", "llama3")),
            factor=fields.number("factor", 1.0, 1e6),
            low_freq_factor=fields.number("low_freq_factor", 1e-3, 1e6),
            high_freq_factor=fields.number("high_freq_factor", 1e-3, 1e6),
            original_context=fields.integer("original_context", 1, MAX_CONTEXT),
        )


@attrs.frozen(kw_only=True)
class Shape:
    """The sizes and switches of a decoder of the Llama family."""

    architecture: str
    """The checkpoint's ``model_type``: ``llama``, ``mistral``, ``qwen2`` or ``qwen3``."""
    vocab: int
    hidden: int
    layers: int
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads, each shared by ``heads / kv_heads`` query heads."""
    head_dim: int
    mlp: int
    """Width of the gated feed-forward layer."""
    context: int
    """Longest sequence in tokens, prompt and answer together."""
    norm_eps: float
    rope: Rope
    tied: bool
    """The head is the embedding table."""
    qk_norm: bool
    """Each query and key head is normalised before it is rotated (Qwen3)."""
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    window: int
    """A token sees this many tokens, itself included; 0 means all of them."""

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads together, equal to that of the values."""
        return self.kv_heads * self.head_dim

    @classmethod
    def read(cls, fields: Fields) -> Shape:
        """Read what the manifest says; raise `ModelUnavailable` naming the field that is wrong."""
        fields.only(name.name for name in attrs.fields(cls))
        context = fields.integer("context", 1, MAX_CONTEXT)
        shape = cls(
            architecture=fields.choice("architecture", ARCHITECTURES),
            vocab=fields.integer("vocab", 1, MAX_VOCAB),
            hidden=fields.integer("hidden", 1, _MAX_WIDTH),
            layers=fields.integer("layers", 1, MAX_LAYERS),
            heads=fields.integer("heads", 1, 4096),
            kv_heads=fields.integer("kv_heads", 1, 4096),
            head_dim=fields.integer("head_dim", 2, 4096),
            mlp=fields.integer("mlp", 1, _MAX_WIDTH),
            context=context,
            norm_eps=fields.number("norm_eps", 0.0, 1.0),
            rope=Rope.read(fields.inner("rope")),
            tied=fields.flag("tied"),
            qk_norm=fields.flag("qk_norm"),
            qkv_bias=fields.flag("qkv_bias"),
            out_bias=fields.flag("out_bias"),
            mlp_bias=fields.flag("mlp_bias"),
            window=fields.integer("window", 0, context),
        )
        shape.check(fields)
        return shape

    def check(self, fields: Fields) -> None:
        """Raise `ModelUnavailable` where the numbers contradict each other; *fields* says where they came from."""
        if self.heads % self.kv_heads:
            expected = f"query heads ({self.heads}) to be a multiple of key heads"
            raise fields.refuse("kv_heads" if fields.has("kv_heads") else "num_key_value_heads", expected)
        if self.head_dim % 2:
            raise fields.refuse("head_dim", "an even number: positions turn pairs of dimensions")


ARCHITECTURES: Final = ("llama", "mistral", "qwen2", "qwen3")
"""The decoders that the native exporter writes, by their checkpoints' ``model_type``."""
