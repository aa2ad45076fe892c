"""What a decoder looks like: the numbers that the graph, the engine and the manifest share."""

from __future__ import annotations

from typing import Any, Final

import attrs

from llmos_onnx.fields import Fields

MAX_CONTEXT: Final = 131_072
"""Longest context in tokens: the rotation tables grow with it (64 MiB of them for heads of 128)."""
MAX_VOCAB: Final = 1 << 20
MAX_LAYERS: Final = 512
MAX_HEAD: Final = 4096
_MAX_WIDTH: Final = 1 << 20
_LARGEST_SCALE: Final = 1e6


@attrs.frozen(kw_only=True)
class Rope:
    """Rotary position embedding: how far each pair of a head's dimensions turns per token."""

    theta: float = 10_000.0
    """Base of the geometric series of angles."""
    scaling: str = "none"
    """One of `SCALINGS`; `llmos_onnx.rope` says what each does to the angles."""
    factor: float = 1.0
    """How much longer the context became."""
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    """Context in tokens before the stretching."""
    beta_fast: float = 32.0
    """Pairs that turn more often than this within the original context keep their angle; used by ``yarn``."""
    beta_slow: float = 1.0
    """Pairs that turn less often than this are slowed by the whole *factor*; used by ``yarn``."""
    truncate: bool = True
    """The borders between those pairs are whole numbers; used by ``yarn``."""
    factors: tuple[float, ...] = ()
    """A divisor for each pair's angle; used by ``longrope``."""
    magnitude: float = 1.0
    """Cosines and sines are multiplied by it; used by ``yarn`` and ``longrope``."""
    width: int = 0
    """Only so many leading dimensions of a head are turned; 0 is all of them."""

    @classmethod
    def read(cls, fields: Fields) -> Rope:
        """Read what the manifest says; raise `ModelUnavailable` naming the field that is wrong."""
        fields.only(name.name for name in attrs.fields(cls))
        return cls(
            theta=fields.number("theta", 1.0, 1e12),
            scaling=fields.choice("scaling", SCALINGS),
            factor=fields.number("factor", 1e-3, _LARGEST_SCALE),
            low_freq_factor=fields.number("low_freq_factor", 1e-3, 1e6),
            high_freq_factor=fields.number("high_freq_factor", 1e-3, 1e6),
            original_context=fields.integer("original_context", 1, MAX_CONTEXT),
            beta_fast=fields.number("beta_fast", 1e-3, 1e6, default=32.0),
            beta_slow=fields.number("beta_slow", 1e-3, 1e6, default=1.0),
            truncate=fields.flag("truncate", default=True),
            factors=fields.numbers("factors", 1e-3, 1e6, most=MAX_HEAD // 2) if fields.has("factors") else (),
            magnitude=fields.number("magnitude", 1e-3, 1e3, default=1.0),
            width=fields.integer("width", 0, MAX_HEAD, default=0),
        )


@attrs.frozen(kw_only=True)
class Scales:
    """What a decoder multiplies its values by, and what it caps them at; as they stand here, they change nothing."""

    embedding: float = 1.0
    """Embeddings are multiplied by it."""
    attention: float = 0.0
    """Products of queries and keys are multiplied by it; 0 is one through the root of the head's width."""
    residual: float = 1.0
    """What a block adds to the residual stream is multiplied by it."""
    logits: float = 1.0
    """Logits are multiplied by it."""
    attention_cap: float = 0.0
    """Scaled products x of queries and keys become ``cap * tanh(x / cap)``; 0 leaves them."""
    logits_cap: float = 0.0
    """The same for logits."""

    @classmethod
    def read(cls, fields: Fields) -> Scales:
        """Read what the manifest says; raise `ModelUnavailable` naming the field that is wrong."""
        fields.only(name.name for name in attrs.fields(cls))
        return cls(**{name.name: fields.number(name.name, 0.0, _LARGEST_SCALE) for name in attrs.fields(cls)})


@attrs.frozen(kw_only=True)
class Shape:
    """The sizes and switches of a decoder of the Llama kind."""

    architecture: str
    """The checkpoint's ``model_type``: one of `ARCHITECTURES`."""
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
    """Each query and key head is normalised before it is rotated (Qwen3, Gemma 3)."""
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    window: int
    """A token of a local layer sees this many tokens, itself included; 0 means all of them."""
    wide_qk_norm: bool = False
    """All queries together, and all keys, are normalised before they are rotated (OLMo 2)."""
    norms: str = "before"
    """Whether norms stand ``before`` each block, ``after`` it (OLMo 2) or ``around`` it (Gemma 2)."""
    norm_offset: bool = False
    """The checkpoint stores the weights of its norms less one (Gemma)."""
    packed: bool = False
    """The checkpoint stores queries, keys and values in one matrix, and gate and up in another (Phi-3)."""
    activation: str = "silu"
    """What the gate goes through: ``silu``, or ``gelu`` in its tanh form."""
    global_layers: tuple[int, ...] = ()
    """Layers that see the whole sequence and turn by `rope`, in rising order; all others are local."""
    local_rope: Rope | None = None
    """How local layers turn, where it is not by `rope` (Gemma 3)."""
    unrotated_layers: tuple[int, ...] = ()
    """Layers whose queries and keys are not turned at all (SmolLM3), in rising order."""
    scales: Scales = Scales()

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads together, equal to that of the values."""
        return self.kv_heads * self.head_dim

    def layer_window(self, layer: int) -> int:
        """Return how many tokens a token sees in *layer*, itself included; 0 means all of them."""
        return 0 if layer in self.global_layers else self.window

    def layer_rope(self, layer: int) -> Rope | None:
        """Return how queries and keys of *layer* are turned; None means not at all."""
        if layer in self.unrotated_layers:
            return None
        return self.rope if layer in self.global_layers else self.local_rope or self.rope

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
            head_dim=fields.integer("head_dim", 2, MAX_HEAD),
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
            **_read_variations(fields),
        )
        shape.check(fields)
        return shape

    def check(self, fields: Fields) -> None:
        """Raise `ModelUnavailable` where the numbers contradict each other; *fields* says where they came from."""
        if self.heads % self.kv_heads:
            expected = f"query heads ({self.heads}) to be a multiple of key heads"
            raise fields.refuse("kv_heads" if fields.has("kv_heads") else "num_key_value_heads", expected)
        for rope in (self.rope, self.local_rope or self.rope):
            turned = rope.width or self.head_dim
            if turned % 16 or turned > self.head_dim:
                raise fields.refuse("head_dim", f"at least the {turned} dimensions that turn, and those in sixteens")
            if rope.scaling == "longrope" and 2 * len(rope.factors) != turned:
                raise fields.refuse("head_dim", f"{2 * len(rope.factors)}, as many as the factors of longrope turn")


def _read_variations(fields: Fields) -> dict[str, Any]:
    """Read what not every decoder has; a manifest that does not speak of it is of a decoder without it."""
    return {
        "wide_qk_norm": fields.flag("wide_qk_norm", default=False),
        "norms": fields.choice("norms", NORMS, default="before"),
        "norm_offset": fields.flag("norm_offset", default=False),
        "packed": fields.flag("packed", default=False),
        "activation": fields.choice("activation", ACTIVATIONS, default="silu"),
        "global_layers": _read_layers(fields, "global_layers"),
        "local_rope": Rope.read(fields.inner("local_rope")) if fields.has("local_rope") else None,
        "unrotated_layers": _read_layers(fields, "unrotated_layers"),
        "scales": Scales.read(fields.inner("scales")) if fields.has("scales") else Scales(),
    }


def _read_layers(fields: Fields, name: str) -> tuple[int, ...]:
    return fields.integers(name, 0, MAX_LAYERS - 1, most=MAX_LAYERS) if fields.has(name) else ()


ARCHITECTURES: Final = (
    "llama", "mistral", "qwen2", "qwen3", "smollm3", "phi3", "gemma", "gemma2", "gemma3_text", "granite",
    "olmo2", "olmo3",
)  # fmt: skip
"""The decoders that the native exporter writes, by their checkpoints' ``model_type``."""
SCALINGS: Final = ("none", "linear", "llama3", "yarn", "longrope")
NORMS: Final = ("before", "after", "around")
ACTIVATIONS: Final = ("silu", "gelu")
