"""Encoders of the BERT family as a graph: one function per block, composed by `write_encoder`.

    input            type     shape                  meaning
    input_ids        int64    [batch, sequence]      token ids, right-padded
    attention_mask   int64    [batch, sequence]      1 for a token, 0 for padding
    token_type_ids   int64    [batch, sequence]      which of two texts; models with one type have no such input
    zp_rows          uint8    [tokens]               w8a8 only: 128 for each of the batch * sequence positions

    output             type      shape
    last_hidden_state  float32   [batch, sequence, hidden]    a model that embeds
    logits             float32   [batch, labels]              a model that classifies

Those are the names that other exporters use too, so one executor runs both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from llmos_onnx.graph import MICROSOFT, Graph, Value

if TYPE_CHECKING:
    from llmos_onnx.decoder import Weights
    from llmos_onnx.weights import Format

ACTIVATIONS: Final = {
    "gelu": ("Gelu", ""),
    "gelu_new": ("FastGelu", MICROSOFT),
    "gelu_pytorch_tanh": ("FastGelu", MICROSOFT),
    "relu": ("Relu", ""),
}
"""Operator and domain by the name that ``config.json`` gives the activation."""


@attrs.frozen(kw_only=True)
class EncoderShape:
    """The sizes and switches of an encoder of the BERT family."""

    architecture: str
    """``bert``, ``roberta`` or ``xlm-roberta``."""
    vocab: int
    hidden: int
    layers: int
    heads: int
    mlp: int
    positions: int
    """Rows of the position table."""
    first_position: int
    """Position of the first token: RoBERTa leaves the rows up to its padding token's number unused."""
    types: int
    """Kinds of tokens."""
    norm_eps: float
    activation: str
    """One of `ACTIVATIONS`."""
    labels: int = 0
    """Classes of the head; 0 for a model without one."""
    prefix: str = ""
    """What the checkpoint puts before the names of the encoder's tensors."""

    @property
    def pooled(self) -> bool:
        """The classifier's hidden layer is the encoder's own pooler (BERT), not part of the head (RoBERTa)."""
        return self.architecture == "bert"


@attrs.frozen
class _Writer:
    """What every block needs; names are those of the checkpoint."""

    graph: Graph
    shape: EncoderShape
    format: Format
    weights: Weights

    def linear(self, x: str, *names: str, zero_points: str = "zp_rows") -> str:
        matrix = self.weights.matrix(*(f"{name}.weight" for name in names))
        bias = self.graph.constant(f"{names[0]}.bias", self.weights.vector(*(f"{name}.bias" for name in names)))
        return self.format.linear(self.graph, x, matrix, bias=bias, zero_points=zero_points)

    def table(self, ids: str, name: str) -> str:
        return self.format.table(self.graph, ids, self.weights.matrix(f"{name}.weight"))

    def norm(self, x: str, name: str) -> str:
        return self.graph.node("LayerNormalization", [x, *self._affine(name)], epsilon=self.shape.norm_eps)

    def add_and_norm(self, x: str, residual: str, name: str) -> str:
        inputs = [x, residual, *self._affine(name)]
        return self.graph.node("SkipLayerNormalization", inputs, domain=MICROSOFT, epsilon=self.shape.norm_eps)

    def _affine(self, name: str) -> tuple[str, str]:
        parts = (f"{name}.weight", f"{name}.bias")
        scale, shift = (self.graph.constant(part, self.weights.vector(part)) for part in parts)
        return scale, shift


def signature(shape: EncoderShape, *, zero_points: bool) -> tuple[list[Value], list[Value]]:
    """Return the inputs and outputs of the graph."""
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if shape.types > 1 else [])]
    inputs = [Value(name, "int64", ("batch", "sequence")) for name in names]
    if zero_points:
        inputs.append(Value("zp_rows", "uint8", ("tokens",)))
    if shape.labels:
        return inputs, [Value("logits", "float32", ("batch", shape.labels))]
    return inputs, [Value("last_hidden_state", "float32", ("batch", "sequence", shape.hidden))]


def write_encoder(graph: Graph, shape: EncoderShape, form: Format, weights: Weights) -> None:
    """Write an encoder of *shape* with its *weights* stored as *form*."""
    graph.declare(*signature(shape, zero_points=form.zero_points))
    writer = _Writer(graph, shape, form, weights)
    graph.node("Shape", ["input_ids"], name="shape_ids")
    graph.node("Concat", ["shape_ids", graph.integers(shape.hidden)], axis=0, name="shape_hidden")
    graph.node("Cast", ["attention_mask"], to=6, name="mask")
    x = _embeddings(writer)
    for layer in range(shape.layers):
        name = f"{shape.prefix}encoder.layer.{layer}."
        x = writer.add_and_norm(_attention(writer, x, name), x, name + "attention.output.LayerNorm")
        x = writer.add_and_norm(_feed_forward(writer, x, name), x, name + "output.LayerNorm")
    hidden = graph.node("Reshape", [x, "shape_hidden"])
    if shape.labels:
        _head(writer, hidden)
    else:
        graph.node("Identity", [hidden], name="last_hidden_state")


def _embeddings(writer: _Writer) -> str:
    """Words, positions and types, summed and normalised: ``[batch * sequence, hidden]``."""
    graph, shape = writer.graph, writer.shape
    name, flat = f"{shape.prefix}embeddings.", graph.integers(-1)
    x = writer.table(graph.node("Reshape", ["input_ids", flat]), name + "word_embeddings")
    if shape.types > 1:
        types = graph.node("Reshape", ["token_type_ids", flat])
        kinds = graph.node("Gather", [_stored(writer, name + "token_type_embeddings"), types])
    else:
        kinds = _stored(writer, name + "token_type_embeddings")
    x = graph.node("Reshape", [graph.node("Add", [x, kinds]), "shape_hidden"])
    first = graph.integers(shape.first_position)
    sequence = graph.node("Gather", ["shape_ids", graph.integers(1)])
    span = [first, graph.node("Add", [sequence, first]), graph.integers(0)]
    positions = graph.node("Slice", [_stored(writer, name + "position_embeddings"), *span])
    x = graph.node("Reshape", [graph.node("Add", [x, positions]), graph.integers(-1, shape.hidden)])
    return writer.norm(x, name + "LayerNorm")


def _stored(writer: _Writer, name: str) -> str:
    """Store a small table as it is: there is nothing to gain in quantising it."""
    matrix = writer.weights.matrix(f"{name}.weight")
    return writer.graph.stored(matrix.name, "float32", (matrix.rows, matrix.columns), matrix.blocks())


def _attention(writer: _Writer, x: str, name: str) -> str:
    """Queries, keys and values in one product; padding is seen by nobody."""
    graph, shape = writer.graph, writer.shape
    packed = writer.linear(x, *(f"{name}attention.self.{kind}" for kind in ("query", "key", "value")))
    parts = [graph.node("Reshape", [part, "shape_hidden"]) for part in graph.split(packed, [shape.hidden] * 3)]
    seen = graph.node("MultiHeadAttention", [*parts, "", "mask"], domain=MICROSOFT, num_heads=shape.heads)
    rows = graph.node("Reshape", [seen, graph.integers(-1, shape.hidden)])
    return writer.linear(rows, name + "attention.output.dense")


def _feed_forward(writer: _Writer, x: str, name: str) -> str:
    op, domain = ACTIVATIONS[writer.shape.activation]
    activated = writer.graph.node(op, [writer.linear(x, name + "intermediate.dense")], domain=domain)
    return writer.linear(activated, name + "output.dense")


def _head(writer: _Writer, hidden: str) -> None:
    """Scores of the first position; exact, because it is small."""
    graph, shape = writer.graph, writer.shape
    first = graph.node("Gather", [hidden, graph.scalar("first", 0, "int64")], axis=1)
    dense, out = head_names(shape)
    pooled = graph.node("Tanh", [_exact(writer, first, dense)])
    graph.node("Identity", [_exact(writer, pooled, out)], name="logits")


def _exact(writer: _Writer, x: str, name: str) -> str:
    bias = writer.graph.constant(f"{name}.bias", writer.weights.vector(f"{name}.bias"))
    return writer.graph.node("Gemm", [x, _stored(writer, name), bias], transB=1)


def head_names(shape: EncoderShape) -> tuple[str, str]:
    """Return the names of the head's two layers."""
    return (
        (f"{shape.prefix}pooler.dense", "classifier") if shape.pooled else ("classifier.dense", "classifier.out_proj")
    )


def tensor_shapes(shape: EncoderShape) -> dict[str, tuple[int, ...]]:
    """Return the name and dimensions of every tensor that `write_encoder` takes."""
    base, norms = f"{shape.prefix}embeddings.", [f"{shape.prefix}embeddings.LayerNorm"]
    found: dict[str, tuple[int, ...]] = {
        f"{base}word_embeddings.weight": (shape.vocab, shape.hidden),
        f"{base}position_embeddings.weight": (shape.positions, shape.hidden),
        f"{base}token_type_embeddings.weight": (shape.types, shape.hidden),
    }
    linears: dict[str, tuple[int, int]] = {}
    for layer in range(shape.layers):
        name = f"{shape.prefix}encoder.layer.{layer}."
        norms += [name + "attention.output.LayerNorm", name + "output.LayerNorm"]
        for kind in ("self.query", "self.key", "self.value", "output.dense"):
            linears[f"{name}attention.{kind}"] = (shape.hidden, shape.hidden)
        linears[name + "intermediate.dense"] = (shape.mlp, shape.hidden)
        linears[name + "output.dense"] = (shape.hidden, shape.mlp)
    if shape.labels:
        dense, out = head_names(shape)
        linears |= {dense: (shape.hidden, shape.hidden), out: (shape.labels, shape.hidden)}
    for name, (rows, columns) in linears.items():
        found |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in norms:
        found |= {f"{name}.weight": (shape.hidden,), f"{name}.bias": (shape.hidden,)}
    return found
