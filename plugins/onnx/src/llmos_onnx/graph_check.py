"""A structural check of ``model.onnx``, before any runtime sees it.

A graph may say only what the exporter says: the operators of `OPERATORS` with plain attributes, no functions, no
subgraphs, no sparse tensors, tensors within the declared data file that do not overlap, and the inputs and outputs of
the contract for the manifest's shape.  That leaves no way to name another file, to load an engine or to run code, and
no constant that grows while the runtime folds it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # comes with onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from llmos_onnx.fields import nearest, refusal
from llmos_onnx.graph import LARGEST_CONSTANT, MICROSOFT, OPSETS, SCALE_INPUT, TYPES, Value, signature
from llmos_onnx.manifest import DATA, GRAPH, Manifest
from llmos_onnx.weights import FORMATS

if TYPE_CHECKING:
    from llmos_kernel.errors import ModelUnavailable

OPERATORS: Final = frozenset(
    {
        *(
            ("", name)
            for name in (
                "Abs", "Add", "Cast", "Concat", "Gather", "Gemm", "Identity", "Mul", "QuantizeLinear", "ReduceMax",
                "Reshape", "Shape", "SimplifiedLayerNormalization", "Split", "Squeeze", "Tanh", "Unsqueeze",
            )
        ),
        *(
            (MICROSOFT, name)
            for name in (
                "FastGelu", "GatherBlockQuantized", "GroupQueryAttention", "MatMulNBits", "QGemm", "QuickGelu",
                "SkipSimplifiedLayerNormalization",
            )
        ),
    }
)  # fmt: skip
"""Every operator that the native exporter writes."""

_TEXTS: Final = {
    ("GroupQueryAttention", "k_quant_type"): b"PER_CHANNEL",
    ("GroupQueryAttention", "v_quant_type"): b"PER_CHANNEL",
}
"""The only attributes that are words, and what they say."""
_NODES_PER_LAYER: Final = 100
_ITEM_SIZES: Final[dict[int, int]] = {number: np.dtype(dtype).itemsize for dtype, number in TYPES.items()}
_TYPED_FIELDS: Final = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def check_graph(content: bytes, manifest: Manifest, *, model: str) -> None:
    """Refuse the serialised graph *content* unless it is one that the exporter could have written for *manifest*.

    Raises `ModelUnavailable` (of *model*) naming what stands there and what would be right.
    """
    check = _Check(model)
    try:
        proto = ModelProto.FromString(content)
    except DecodeError as error:
        raise check.refusal("content", str(error), "a serialised ONNX model") from error
    opsets = {opset.domain: opset.version for opset in proto.opset_import}
    check.equal("opset_import", opsets, OPSETS)
    check.equal("functions", len(proto.functions), 0)
    check.equal("training_info", len(proto.training_info), 0)
    graph = proto.graph
    check.equal("sparse_initializer", len(graph.sparse_initializer), 0)
    most = _NODES_PER_LAYER * (manifest.shape.layers + 1)
    if len(graph.node) > most:
        raise check.refusal("nodes", len(graph.node), f"at most {most} for {manifest.shape.layers} layers")
    constants = check.tensors(graph, manifest.files[DATA].size)
    check.nodes(graph, constants)
    inputs, outputs = signature(manifest.shape, zero_points=FORMATS[manifest.weights].zero_points, kv=manifest.kv)
    check.cache_scales(graph, manifest)
    check.values("inputs", graph.input, inputs)
    check.values("outputs", graph.output, outputs)


class _Check:
    """The parts of the check, all of which speak of one model."""

    def __init__(self, model: str) -> None:
        self._model = model

    def refusal(self, field: str, value: object, expected: str) -> ModelUnavailable:
        return refusal(self._model, f"{GRAPH}: {field}", value, expected)

    def equal(self, field: str, value: object, expected: object) -> None:
        if value != expected:
            raise self.refusal(field, value, repr(expected))

    def tensors(self, graph: GraphProto, data_size: int) -> set[str]:
        """Check every stored tensor and return their names."""
        names: set[str] = set()
        spans: list[tuple[int, int, str]] = []
        for tensor in graph.initializer:
            if not tensor.name or tensor.name in names:
                raise self.refusal("initializer", tensor.name, "a name of its own for each tensor")
            names.add(tensor.name)
            size = self._tensor_size(tensor)
            if tensor.data_location == TensorProto.EXTERNAL:
                start = self._external_start(tensor, size)
                spans.append((start, start + size, tensor.name))
            elif len(tensor.raw_data) != size or size > LARGEST_CONSTANT:
                expected = f"{size} bytes, at most {LARGEST_CONSTANT} within the graph"
                raise self.refusal(f"initializer {tensor.name}: raw_data", len(tensor.raw_data), expected)
        end = 0
        for start, stop, name in sorted(spans):
            if start < end or stop > data_size:
                expected = f"bytes of {DATA} within {end} … {data_size} that no other tensor has"
                raise self.refusal(f"initializer {name}: offset", f"{start} … {stop}", expected)
            end = stop
        return names

    def _tensor_size(self, tensor: TensorProto) -> int:
        """Return the size in bytes that type and dimensions ask for."""
        field = f"initializer {tensor.name}"
        if tensor.data_type not in _ITEM_SIZES:
            raise self.refusal(f"{field}: data_type", tensor.data_type, f"one of {sorted(_ITEM_SIZES)}")
        if tensor.HasField("segment") or any(getattr(tensor, name) for name in _TYPED_FIELDS):
            raise self.refusal(field, "typed or segmented values", "raw values")
        dimensions: list[int] = list(tensor.dims)
        if any(size < 1 for size in dimensions):
            raise self.refusal(f"{field}: dims", dimensions, "positive sizes")
        return math.prod(dimensions) * _ITEM_SIZES[tensor.data_type]

    def _external_start(self, tensor: TensorProto, size: int) -> int:
        """Return where in the data file *tensor* begins."""
        field = f"initializer {tensor.name}: external_data"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if len(entries) != len(tensor.external_data) or entries.keys() != {"location", "offset", "length"}:
            keys = [entry.key for entry in tensor.external_data]
            raise self.refusal(field, keys, "location, offset and length, once each")
        self.equal(f"{field} location", entries["location"], DATA)
        self.equal(f"{field} length", entries["length"], str(size))
        offset = entries["offset"]
        if not (offset.isascii() and offset.isdecimal() and len(offset) < 16) or tensor.raw_data:
            raise self.refusal(f"{field} offset", offset, "a decimal number, and no values within the graph")
        return int(offset)

    def nodes(self, graph: GraphProto, constants: set[str]) -> None:
        """Check every node: what it is, its attributes, and that it does not make constants grow."""
        shapes = {output for node in graph.node if node.op_type == "Shape" for output in node.output}
        for node in graph.node:
            if (node.domain, node.op_type) not in OPERATORS:
                known = nearest(node.op_type, (name for _, name in OPERATORS))
                raise self.refusal("operator", f"{node.domain}:{node.op_type}", f"one of {known}")
            for attribute in node.attribute:
                plain = attribute.type in (AttributeProto.INT, AttributeProto.FLOAT)
                known = _TEXTS.get((node.op_type, attribute.name)) == attribute.s != b""
                if not (plain or known) or attribute.ref_attr_name:
                    kind = AttributeProto.AttributeType.Name(attribute.type)
                    raise self.refusal(f"{node.op_type}: attribute {attribute.name}", kind, "INT or FLOAT")
            self._growth(node, constants, shapes)

    def cache_scales(self, graph: GraphProto, manifest: Manifest) -> None:
        """Check that attention has the scales of an int8 cache as constants of the right size, or none."""
        shape = manifest.shape
        sizes = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
        wanted = (TensorProto.FLOAT, (1, shape.kv_heads, 1, shape.head_dim))
        for node in graph.node:
            if node.op_type != "GroupQueryAttention":
                continue
            names = [name for name in node.input[SCALE_INPUT:] if name]
            found = [sizes.get(name) for name in names]
            expected = [wanted, wanted] if manifest.kv == "int8" else []
            if found != expected:
                raise self.refusal("GroupQueryAttention: scales", names, f"{len(expected)} constants: {wanted}")

    def _growth(self, node: NodeProto, constants: set[str], shapes: set[str]) -> None:
        """Refuse the uses of concatenation and look-up by which a small graph makes a huge constant."""
        if node.op_type == "Concat" and not set(node.input) <= constants | shapes:
            raise self.refusal("Concat: inputs", list(node.input), "constants and the shape of an input")
        if node.op_type.startswith("Gather") and node.input[1:2] and node.input[1] in constants:
            raise self.refusal(f"{node.op_type}: indices", node.input[1], "values known only when running")

    def values(self, field: str, found: Iterable[ValueInfoProto], expected: Iterable[Value]) -> None:
        """Compare declared inputs or outputs with those of the contract."""
        declared = {}
        for value in found:
            tensor = value.type.tensor_type
            dimensions = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
            declared[value.name] = (tensor.elem_type, dimensions)
        for value in expected:
            wanted = (TYPES[np.dtype(value.dtype)], value.shape)
            if declared.pop(value.name, None) != wanted:
                raise self.refusal(field, f"no such {value.name}", f"{value.name}: {value.dtype} {list(value.shape)}")
        if declared:
            raise self.refusal(field, next(iter(declared)), "only those of the graph's contract")
