"""Decoders of the Llama kind as a graph: one function per block, composed by `write_decoder`.

What sets one architecture apart from another are fields of `Shape`; no block asks for an architecture by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs
import numpy as np

from llmos_onnx.graph import MICROSOFT, Attribute, Graph, cache_names, signature
from llmos_onnx.rope import tables
from llmos_onnx.weights import fitting

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.shape import Shape
    from llmos_onnx.weights import Format, Matrix

EMBEDDING: Final = "model.embed_tokens.weight"
FINAL_NORM: Final = "model.norm.weight"
HEAD: Final = "lm_head.weight"


class Weights(Protocol):
    """Where the decoder's tensors come from, by the names that Llama checkpoints give them."""

    def matrix(self, *names: str) -> Matrix:
        """Return the tensors *names*, stacked row upon row."""

    def vector(self, *names: str) -> npt.NDArray[np.float32]:
        """Return the one-dimensional tensors *names*, one after another."""


@attrs.frozen
class _Writer:
    """What every block needs."""

    graph: Graph
    shape: Shape
    format: Format
    weights: Weights

    def linear(self, x: str, *names: str, bias: bool = False, zero_points: str = "zp_rows") -> str:
        """Multiply *x* by the stacked weights of the layers *names*, and add their biases if there are any."""
        matrix = self.weights.matrix(*(f"{name}.weight" for name in names))
        added = self.vector(*(f"{name}.bias" for name in names)) if bias else ""
        return self.format.linear(self.graph, x, matrix, bias=added, zero_points=zero_points)

    @property
    def stream(self) -> npt.DTypeLike:
        """Type of the residual stream: single precision where embeddings are scaled up, else the format's.

        The sums of such models (Gemma) grow beyond half precision.
        """
        shape = self.shape
        return np.float32 if shape.norms == "around" or shape.scales.embedding != 1 else self.format.number

    def vector(self, *names: str) -> str:
        """Store the vectors *names* as one constant."""
        values = fitting(names[0], self.weights.vector(*names), self.format.number)
        return self.graph.constant(names[0], values)

    def norm_weights(self, name: str, dtype: npt.DTypeLike) -> str:
        """Store the weights of the norm *name*."""
        values = self.weights.vector(name)
        return self.graph.constant(name, fitting(name, values + 1 if self.shape.norm_offset else values, dtype))

    def norm(self, x: str, name: str, dtype: npt.DTypeLike) -> str:
        """Divide each row of *x*, which is of *dtype*, by its root mean square and multiply by the weights *name*."""
        inputs = [x, self.norm_weights(name, dtype)]
        return self.graph.node("SimplifiedLayerNormalization", inputs, axis=-1, epsilon=self.shape.norm_eps)

    def cast(self, x: str, given: npt.DTypeLike, wanted: npt.DTypeLike) -> str:
        """Return *x*, which is of the type *given*, as *wanted*."""
        return x if np.dtype(given) == np.dtype(wanted) else self.graph.cast(x, wanted)

    def scaled(self, x: str, name: str, factor: float, dtype: npt.DTypeLike = np.float32) -> str:
        """Multiply *x*, which is of *dtype*, by *factor*, kept as the constant *name*."""
        return x if factor == 1 else self.graph.node("Mul", [x, self.graph.scalar(name, factor, dtype)])

    def capped(self, x: str, name: str, cap: float) -> str:
        """Return ``cap * tanh(x / cap)``; *x* itself for a cap of 0."""
        if not cap:
            return x
        return self.scaled(self.graph.node("Tanh", [self.scaled(x, f"{name}_inverse", 1 / cap)]), name, cap)


class _Stream:
    """The residual stream: blocks read it and add to it.

    What a block adds is held back until the next one reads, because sum and norm are one node together.
    """

    def __init__(self, writer: _Writer, value: str) -> None:
        self._writer = writer
        self._value = value
        self._added = ""

    def read(self, norm: str) -> str:
        """Return the stream as a block reads it: normalised by the weights *norm*, or as it is where that is empty."""
        return self._writer.cast(self._read(norm), self._writer.stream, self._writer.format.number)

    def _read(self, norm: str) -> str:
        if not norm:
            return self.value()
        if not self._added:
            return self._writer.norm(self._value, norm, self._writer.stream)
        normed, total = f"{norm}:normed", f"{norm}:residual"
        self._writer.graph.node_into(
            "SkipSimplifiedLayerNormalization",
            [self._added, self._value, self._writer.norm_weights(norm, self._writer.stream)],
            [normed, "", "", total],
            domain=MICROSOFT,
            epsilon=self._writer.shape.norm_eps,
        )
        self._value, self._added = total, ""
        return normed

    def add(self, x: str, norm: str) -> None:
        """Add what a block made of it, normalised by the weights *norm* where it is not empty."""
        writer = self._writer
        x = writer.cast(x, writer.format.number, writer.stream)
        x = writer.norm(x, norm, writer.stream) if norm else x
        self._added = writer.scaled(x, "residual_scale", writer.shape.scales.residual, writer.stream)

    def value(self) -> str:
        """Return the stream itself."""
        if self._added:
            self._value, self._added = self._writer.graph.node("Add", [self._added, self._value]), ""
        return self._value


# Before and after attention, before and after the feed-forward layer: the names of the norms that stand there.
_NORMS: Final = {
    "before": ("input_layernorm", "", "post_attention_layernorm", ""),
    "after": ("", "post_attention_layernorm", "", "post_feedforward_layernorm"),
    "around": (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    ),
}  # fmt: skip


def write_decoder(graph: Graph, shape: Shape, form: Format, weights: Weights) -> None:
    """Write the whole decoder into *graph*, as the contract of `llmos_onnx.graph` says.

    Tensors are taken from *weights* in the order in which the graph uses them, and each once.
    """
    writer = _Writer(graph, shape, form, weights)
    graph.declare(*signature(shape, zero_points=form.zero_points, kv=np.dtype(form.number).name))
    ids = graph.node("Reshape", ["input_ids", graph.integers(-1)])
    embedded = form.table(graph, ids, weights.matrix(EMBEDDING))
    embedded = writer.cast(embedded, form.number, writer.stream)
    stream = _Stream(writer, writer.scaled(embedded, "embedding_scale", shape.scales.embedding, writer.stream))
    for layer in range(shape.layers):
        norms = [f"{_layer(layer)}{norm}.weight" if norm else "" for norm in _NORMS[shape.norms]]
        stream.add(_attention(writer, stream.read(norms[0]), layer), norms[1])
        stream.add(_feed_forward(writer, stream.read(norms[2]), _layer(layer) + "mlp."), norms[3])
    _head(writer, stream.value())


def _layer(layer: int) -> str:
    return f"model.layers.{layer}."


def _attention(writer: _Writer, x: str, layer: int) -> str:
    """Queries, keys and values in one product; rotation, cache and attention in one node; then the output product."""
    graph, shape, name = writer.graph, writer.shape, _layer(layer) + "self_attn."
    packed = writer.linear(x, *(name + part for part in _QKV[shape.packed]), bias=shape.qkv_bias)
    if shape.qk_norm or shape.wide_qk_norm:
        inputs = _normed(writer, packed, name)
    else:
        inputs = [_by_row(graph, packed, shape.queries + 2 * shape.keys), "", ""]
    past_k, past_v, present_k, present_v = cache_names(layer)
    rotation, attributes = _rotation(writer, layer)
    graph.node_into(
        "GroupQueryAttention",
        [*inputs, past_k, past_v, "seqlens_k", "total", *rotation],
        [f"{name}out", present_k, present_v],
        domain=MICROSOFT,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.scales.attention or shape.head_dim**-0.5,
        **attributes,
        **_limits(shape, layer),
    )
    rows = graph.node("Reshape", [f"{name}out", graph.integers(-1, shape.queries)])
    return writer.linear(rows, name + "o_proj", bias=shape.out_bias)


def _limits(shape: Shape, layer: int) -> dict[str, Attribute]:
    """Return how far the attention of *layer* reaches, and how great its products may become."""
    window, cap = shape.layer_window(layer), shape.scales.attention_cap
    found: dict[str, Attribute] = {"local_window_size": window} if window else {}
    return found | ({"softcap": cap} if cap else {})


def _normed(writer: _Writer, packed: str, name: str) -> list[str]:
    """Cut the packed product apart and normalise queries and keys, each head by itself or all together.

    The attention node has inputs for these norms, but its CPU version refuses them.
    """
    graph, shape = writer.graph, writer.shape
    q, k, v = graph.split(packed, [shape.queries, shape.keys, shape.keys])
    if not shape.wide_qk_norm:
        heads = graph.integers(-1, shape.head_dim)
        q, k = graph.node("Reshape", [q, heads]), graph.node("Reshape", [k, heads])
    q, k = (writer.norm(x, f"{name}{kind}_norm.weight", writer.format.number) for kind, x in (("q", q), ("k", k)))
    return [_by_row(graph, part, width) for part, width in ((q, shape.queries), (k, shape.keys), (v, shape.keys))]


def _by_row(graph: Graph, x: str, width: int) -> str:
    """Give *x* the dimensions ``[B, S, width]``."""
    target = f"shape_{width}"
    if not graph.made(target):
        graph.node("Concat", [_rows(graph), graph.integers(width)], axis=0, name=target)
    return graph.node("Reshape", [x, target])


def _rows(graph: Graph) -> str:
    name = "shape_ids"
    if not graph.made(name):
        graph.node("Shape", ["input_ids"], name=name)
    return name


def _rotation(writer: _Writer, layer: int) -> tuple[list[str], dict[str, Attribute]]:
    """Return the attention node's tables for *layer*, stored with the first layer that turns so, and its attributes."""
    graph, shape = writer.graph, writer.shape
    rope = shape.layer_rope(layer)
    if rope is None:
        return ["", ""], {"do_rotary": 0}
    kind = "" if rope == shape.rope else "local_"
    names = [f"{kind}cosines", f"{kind}sines"]
    if not graph.has(names[0]):
        for name, values in zip(names, tables(rope, shape.head_dim, shape.context), strict=True):
            graph.constant(name, values.astype(writer.format.number))
    return names, {"do_rotary": 1, "rotary_interleaved": 0}


def _feed_forward(writer: _Writer, x: str, name: str) -> str:
    """``down(activation(gate(x)) * up(x))``."""
    graph, shape = writer.graph, writer.shape
    gate, up = _gate_and_up(writer, x, name)
    activated = _activation(graph, gate, shape.activation)
    return writer.linear(graph.node("Mul", [activated, up]), name + "down_proj", bias=shape.mlp_bias)


def _gate_and_up(writer: _Writer, x: str, name: str) -> list[str]:
    """Two products, because cutting one in two would copy it; one where the checkpoint packs them."""
    shape = writer.shape
    if shape.packed:
        packed = writer.linear(x, name + "gate_up_proj", bias=shape.mlp_bias)
        return writer.graph.split(packed, [shape.mlp, shape.mlp])
    return [writer.linear(x, f"{name}{part}_proj", bias=shape.mlp_bias) for part in ("gate", "up")]


def _activation(graph: Graph, x: str, name: str) -> str:
    if name == "gelu":  # in its tanh form
        return graph.node("FastGelu", [x], domain=MICROSOFT)
    # With alpha = 1, x * sigmoid(alpha * x) is SiLU itself, in one node.
    return graph.node("QuickGelu", [x], domain=MICROSOFT, alpha=1.0)


def _head(writer: _Writer, residual: str) -> None:
    """Logits for the wanted positions only: a long prompt's would not fit."""
    graph, shape = writer.graph, writer.shape
    number = writer.format.number
    x = writer.norm(graph.node("Gather", [residual, "last_index"]), FINAL_NORM, writer.stream)
    x = writer.cast(x, writer.stream, number)
    matrix = writer.weights.matrix(EMBEDDING if shape.tied else HEAD)
    logits = writer.cast(writer.format.linear(graph, x, matrix, zero_points="zp_last"), number, np.float32)
    logits = writer.scaled(logits, "logits_scale", shape.scales.logits)
    logits = writer.capped(logits, "logits_cap", shape.scales.logits_cap)
    graph.node("Identity", [logits], name="logits")


# The linear layers of which one product is made, by whether the checkpoint stores them packed.
_QKV: Final = {False: ("q_proj", "k_proj", "v_proj"), True: ("qkv_proj",)}
_GATE_UP: Final = {False: ("gate_proj", "up_proj"), True: ("gate_up_proj",)}


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the name and dimensions of every tensor that `write_decoder` takes."""
    found: dict[str, tuple[int, ...]] = {EMBEDDING: (shape.vocab, shape.hidden), FINAL_NORM: (shape.hidden,)}
    if not shape.tied:
        found[HEAD] = (shape.vocab, shape.hidden)
    for layer in range(shape.layers):
        for name, dimensions in _layer_shapes(shape).items():
            found[_layer(layer) + name] = dimensions
    return found


def _layer_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {f"{norm}.weight": (shape.hidden,) for norm in _NORMS[shape.norms] if norm}
    for name, (rows, columns, bias) in _linears(shape).items():
        found[f"{name}.weight"] = (rows, columns)
        if bias:
            found[f"{name}.bias"] = (rows,)
    if shape.qk_norm or shape.wide_qk_norm:
        widths = (shape.queries, shape.keys) if shape.wide_qk_norm else (shape.head_dim, shape.head_dim)
        found |= {f"self_attn.{kind}_norm.weight": (width,) for kind, width in zip("qk", widths, strict=True)}
    return found


def _linears(shape: Shape) -> dict[str, tuple[int, int, bool]]:
    """Return outputs, inputs and whether there is a bias, for each linear layer of a decoder layer."""
    heads: tuple[int, ...] = (shape.queries, shape.keys, shape.keys)
    gates: tuple[int, ...] = (shape.mlp, shape.mlp)
    if shape.packed:
        heads, gates = (sum(heads),), (sum(gates),)
    found: dict[str, tuple[int, int, bool]] = {}
    for part, rows in zip(_QKV[shape.packed], heads, strict=True):
        found[f"self_attn.{part}"] = (rows, shape.hidden, shape.qkv_bias)
    found["self_attn.o_proj"] = (shape.hidden, shape.queries, shape.out_bias)
    for part, rows in zip(_GATE_UP[shape.packed], gates, strict=True):
        found[f"mlp.{part}"] = (rows, shape.hidden, shape.mlp_bias)
    found["mlp.down_proj"] = (shape.hidden, shape.mlp, shape.mlp_bias)
    return found
