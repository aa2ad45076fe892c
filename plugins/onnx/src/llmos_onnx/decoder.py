"""The decoder of the Llama family as a graph: one function per block, composed by `write_decoder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from llmos_onnx.graph import MICROSOFT, Graph, cache_names, signature
from llmos_onnx.rope import tables

if TYPE_CHECKING:
    import numpy as np
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

    def vector(self, *names: str) -> str:
        """Store the vectors *names* as one constant."""
        return self.graph.constant(names[0], self.weights.vector(*names))

    def norm(self, x: str, name: str) -> str:
        """Divide each row of *x* by its root mean square and multiply by the weights *name*."""
        inputs = [x, self.vector(name)]
        return self.graph.node("SimplifiedLayerNormalization", inputs, axis=-1, epsilon=self.shape.norm_eps)

    def add_and_norm(self, x: str, residual: str, name: str) -> tuple[str, str]:
        """Return the norm of ``x + residual``, and the sum itself."""
        normed, total = f"{name}:normed", f"{name}:residual"
        self.graph.node_into(
            "SkipSimplifiedLayerNormalization",
            [x, residual, self.vector(name)],
            [normed, "", "", total],
            domain=MICROSOFT,
            epsilon=self.shape.norm_eps,
        )
        return normed, total


def write_decoder(graph: Graph, shape: Shape, form: Format, weights: Weights) -> None:
    """Write the whole decoder into *graph*, as the contract of `llmos_onnx.graph` says.

    Tensors are taken from *weights* in the order in which the graph uses them, and each once.
    """
    writer = _Writer(graph, shape, form, weights)
    graph.declare(*signature(shape, zero_points=form.zero_points))
    ids = graph.node("Reshape", ["input_ids", graph.integers(-1)])
    residual = form.table(graph, ids, weights.matrix(EMBEDDING))
    x = writer.norm(residual, _layer(0) + "input_layernorm.weight")
    for layer in range(shape.layers):
        name = _layer(layer)
        x = _attention(writer, x, layer)
        x, residual = writer.add_and_norm(x, residual, name + "post_attention_layernorm.weight")
        x = _feed_forward(writer, x, name + "mlp.")
        if layer + 1 < shape.layers:
            x, residual = writer.add_and_norm(x, residual, _layer(layer + 1) + "input_layernorm.weight")
    _head(writer, graph.node("Add", [x, residual]))


def _layer(layer: int) -> str:
    return f"model.layers.{layer}."


def _attention(writer: _Writer, x: str, layer: int) -> str:
    """Queries, keys and values in one product; rotation, cache and attention in one node; then the output product."""
    graph, shape, name = writer.graph, writer.shape, _layer(layer) + "self_attn."
    projections = [f"{name}{kind}_proj" for kind in "qkv"]
    packed = writer.linear(x, *projections, bias=shape.qkv_bias)
    if shape.qk_norm:
        inputs = _normed_heads(writer, packed, name)
    else:
        inputs = [_by_row(graph, packed, shape.queries + 2 * shape.keys), "", ""]
    past_k, past_v, present_k, present_v = cache_names(layer)
    cosines, sines = _rotation(graph, shape)
    attributes: dict[str, int] = {"local_window_size": shape.window} if shape.window else {}
    graph.node_into(
        "GroupQueryAttention",
        [*inputs, past_k, past_v, "seqlens_k", "total", cosines, sines],
        [f"{name}out", present_k, present_v],
        domain=MICROSOFT,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.head_dim**-0.5,
        do_rotary=1,
        rotary_interleaved=0,
        **attributes,
    )
    rows = graph.node("Reshape", [f"{name}out", graph.integers(-1, shape.queries)])
    return writer.linear(rows, name + "o_proj", bias=shape.out_bias)


def _normed_heads(writer: _Writer, packed: str, name: str) -> list[str]:
    """Cut the packed product apart and normalise each query and key head.

    The attention node has inputs for these norms, but its CPU version refuses them.
    """
    graph, shape = writer.graph, writer.shape
    q, k, v = graph.split(packed, [shape.queries, shape.keys, shape.keys])
    heads = graph.integers(-1, shape.head_dim)
    q = writer.norm(graph.node("Reshape", [q, heads]), name + "q_norm.weight")
    k = writer.norm(graph.node("Reshape", [k, heads]), name + "k_norm.weight")
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


def _rotation(graph: Graph, shape: Shape) -> tuple[str, str]:
    if not graph.has("cosines"):
        cosines, sines = tables(shape.rope, shape.head_dim, shape.context)
        graph.constant("cosines", cosines)
        graph.constant("sines", sines)
    return "cosines", "sines"


def _feed_forward(writer: _Writer, x: str, name: str) -> str:
    """``down(silu(gate(x)) * up(x))``, gate and up in one product."""
    graph, shape = writer.graph, writer.shape
    packed = writer.linear(x, name + "gate_proj", name + "up_proj", bias=shape.mlp_bias)
    gate, up = graph.split(packed, [shape.mlp, shape.mlp])
    # With alpha = 1, x * sigmoid(alpha * x) is SiLU itself, in one node.
    activated = graph.node("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
    return writer.linear(graph.node("Mul", [activated, up]), name + "down_proj", bias=shape.mlp_bias)


def _head(writer: _Writer, residual: str) -> None:
    """Logits for the wanted positions only: a long prompt's would not fit."""
    graph, shape = writer.graph, writer.shape
    x = writer.norm(graph.node("Gather", [residual, "last_index"]), FINAL_NORM)
    matrix = writer.weights.matrix(EMBEDDING if shape.tied else HEAD)
    logits = writer.format.linear(graph, x, matrix, zero_points="zp_last")
    graph.node("Identity", [logits], name="logits")


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the name and dimensions of every tensor that `write_decoder` takes."""
    found: dict[str, tuple[int, ...]] = {EMBEDDING: (shape.vocab, shape.hidden), FINAL_NORM: (shape.hidden,)}
    if not shape.tied:
        found[HEAD] = (shape.vocab, shape.hidden)
    for layer in range(shape.layers):
        for name, dimensions in _layer_shapes(shape):
            found[_layer(layer) + name] = dimensions
    return found


def _layer_shapes(shape: Shape) -> Sequence[tuple[str, tuple[int, ...]]]:
    linears = {
        "self_attn.q_proj": (shape.queries, shape.hidden, shape.qkv_bias),
        "self_attn.k_proj": (shape.keys, shape.hidden, shape.qkv_bias),
        "self_attn.v_proj": (shape.keys, shape.hidden, shape.qkv_bias),
        "self_attn.o_proj": (shape.hidden, shape.queries, shape.out_bias),
        "mlp.gate_proj": (shape.mlp, shape.hidden, shape.mlp_bias),
        "mlp.up_proj": (shape.mlp, shape.hidden, shape.mlp_bias),
        "mlp.down_proj": (shape.hidden, shape.mlp, shape.mlp_bias),
    }
    found: list[tuple[str, tuple[int, ...]]] = [("input_layernorm.weight", (shape.hidden,))]
    found.append(("post_attention_layernorm.weight", (shape.hidden,)))
    for name, (rows, columns, bias) in linears.items():
        found.append((f"{name}.weight", (rows, columns)))
        if bias:
            found.append((f"{name}.bias", (rows,)))
    if shape.qk_norm:
        found += [(f"self_attn.{kind}_norm.weight", (shape.head_dim,)) for kind in "qk"]
    return found
