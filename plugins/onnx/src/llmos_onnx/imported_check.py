"""A structural check of a graph that another exporter wrote, before any runtime sees it.

Such a graph cannot be compared with what we would have written, so it is bounded instead:

- operators of `OPERATORS` only: no control flow, no functions, no subgraphs, no custom domain, nothing that reads files
  or loads engines;
- tensors lie within the graph or in the one declared data file, do not overlap there, and are as long as they say;
- what a runtime would compute while loading stays small: the greatest size of every value that depends on constants
  alone is worked out beforehand, and an operator that makes tensors from sizes is refused where it is out of bounds;
- inputs and outputs are those of the layout's contract, with its types and dimensions.

What depends on the inputs is bounded when it runs: sessions of imported graphs share an allocator with a limit
(`llmos_onnx.imported_session`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # comes with onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from llmos_onnx.fields import nearest, refusal
from llmos_onnx.graph import MICROSOFT

if TYPE_CHECKING:
    from llmos_kernel.errors import ModelUnavailable

_STANDARD: Final = (
    "Abs Add And Attention BitShift Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv Cos CumSum "
    "DequantizeLinear Div DynamicQuantizeLinear Einsum Equal Erf Exp Expand Flatten Floor Gather GatherElements "
    "GatherND Gelu Gemm Greater GreaterOrEqual Identity IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log "
    "LogSoftmax MatMul MatMulInteger Max Mean Min Mod Mul Neg NonZero Not Or Pad Pow QLinearMatMul QuantizeLinear "
    "RMSNormalization Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare "
    "Relu Reshape RotaryEmbedding Round ScatterElements ScatterND Selu Shape Sigmoid Sign "
    "SimplifiedLayerNormalization Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK "
    "Transpose Trilu Unsqueeze Where Xor"
)
_MICROSOFT: Final = (
    "Attention BiasGelu BiasSplitGelu EmbedLayerNormalization FastGelu FusedGemm FusedMatMul GatherBlockQuantized Gelu "
    "GroupQueryAttention MatMulIntegerToFloat MatMulNBits MultiHeadAttention QGemm QuickGelu RotaryEmbedding "
    "SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization"
)
OPERATORS: Final = frozenset(
    {*(("", name) for name in _STANDARD.split()), *((MICROSOFT, name) for name in _MICROSOFT.split())}
)
"""Every operator that an imported graph may use."""
_DOMAINS: Final[Mapping[str, tuple[int, int]]] = {"": (11, 24), MICROSOFT: (1, 1)}
"""Versions of the operator sets that may be named; others may stand in the list if no operator is theirs."""
# Exporters name sets that they do not use.
_IDLE_DOMAINS: Final = frozenset(
    "ai.onnx ai.onnx.ml ai.onnx.training ai.onnx.preview.training com.microsoft.experimental com.microsoft.nchwc "
    "com.ms.internal.nhwc org.pytorch.aten pkg.onnxscript.torch_lib pkg.onnxscript.torch_lib.common".split()
)

_MOST_NODES: Final = 100_000
_MOST_NAME: Final = 2000
_MOST_TEXT: Final = 100
_MOST_ELEMENTS: Final = 1 << 26
"""Most elements of a value that depends on constants alone and is not stored."""
_PLAIN: Final = frozenset(
    {
        AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRING,
        AttributeProto.STRINGS, AttributeProto.TENSOR,
    }
)  # fmt: skip
_SIZES: Final[dict[int, float]] = {
    TensorProto.FLOAT: 4, TensorProto.UINT8: 1, TensorProto.INT8: 1, TensorProto.INT32: 4, TensorProto.INT64: 8,
    TensorProto.BOOL: 1, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.DOUBLE: 8, TensorProto.UINT16: 2,
    TensorProto.INT16: 2, TensorProto.UINT32: 4, TensorProto.UINT64: 8, TensorProto.INT4: 0.5, TensorProto.UINT4: 0.5,
}  # fmt: skip
"""Bytes per element by type; strings are not among them."""
_SMALL: Final = 64
"""Constants of at most so many elements cannot make a broadcast grow beyond the bound in a reasonable graph."""
# Operators whose output is at most as large as their first input.
_NOT_LARGER: Final = frozenset(
    "Abs BitShift Cast CastLike Ceil Clip Cos CumSum Erf Exp Flatten Floor Gelu Identity IsInf IsNaN LeakyRelu Log "
    "LogSoftmax Neg Not Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu "
    "Reshape Round Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Tan Tanh TopK Transpose "
    "Trilu Unsqueeze QuantizeLinear DequantizeLinear ScatterElements ScatterND".split()
)
_LAYING_OUT: Final = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_FROM_SIZES: Final[Mapping[str, int]] = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
"""Operators that make tensors from sizes, and which of their inputs holds the sizes."""


ANY: Final = -1
"""In the shape of a `Port`: the graph may state a size or leave it open."""


@attrs.frozen
class Port:
    """An input or output of a graph: its type and, per dimension, a size, or None where the run says it."""

    name: str
    types: tuple[int, ...]
    shape: tuple[int | None, ...]
    optional: bool = False
    """The graph may do without it."""


INTEGERS: Final = (TensorProto.INT64,)
FLOAT: Final = (TensorProto.FLOAT,)
UINT8: Final = (TensorProto.UINT8,)


def check_imported(
    content: bytes,
    *,
    graph: str,
    data: str,
    data_size: int,
    inputs: Iterable[Port],
    outputs: Iterable[Port],
    model: str,
) -> frozenset[str]:
    """Refuse the serialised graph *content* unless it is bounded and keeps to the contract of *inputs* and *outputs*.

    *graph* is its file's name; *data* is the name of the file with its large tensors, of *data_size* bytes.  Returns
    the names of the inputs.  Raises `ModelUnavailable` (of *model*) naming what stands there and what would be right.
    """
    check = _Check(model, graph)
    try:
        proto = ModelProto.FromString(content)
    except DecodeError as error:
        raise check.refusal("content", str(error), "a serialised ONNX model") from error
    check.model(proto)
    constants = check.tensors(proto.graph, data, data_size)
    check.nodes(proto.graph, constants)
    given = {value.name for value in proto.graph.input} - constants.keys()
    check.ports("inputs", [value for value in proto.graph.input if value.name in given], inputs)
    check.ports("outputs", proto.graph.output, outputs)
    return frozenset(given)


class _Check:
    """The parts of the check, all of which speak of one graph."""

    def __init__(self, model: str, graph: str) -> None:
        self._model = model
        self._graph = graph
        self._stored: Mapping[str, int] = {}
        self._turned_elements = 0

    def refusal(self, field: str, value: object, expected: str) -> ModelUnavailable:
        return refusal(self._model, f"{self._graph}: {field}", value, expected)

    def model(self, proto: ModelProto) -> None:
        """Check what stands around the graph."""
        for opset in proto.opset_import:
            low, high = _DOMAINS.get(opset.domain, (0, 1 << 40))
            if opset.domain not in _DOMAINS and opset.domain not in _IDLE_DOMAINS:
                raise self.refusal("opset_import", opset.domain, f"one of {nearest(opset.domain, _DOMAINS)}")
            if not low <= opset.version <= high:
                raise self.refusal(f"opset_import {opset.domain!r}", opset.version, f"a version within {low} … {high}")
        for field, found in (
            ("functions", proto.functions),
            ("training_info", proto.training_info),
            ("sparse_initializer", proto.graph.sparse_initializer),
        ):
            if len(found):
                raise self.refusal(field, len(found), "none")
        if len(proto.graph.node) > _MOST_NODES:
            raise self.refusal("nodes", len(proto.graph.node), f"at most {_MOST_NODES}")

    def tensors(self, graph: GraphProto, data: str, data_size: int) -> dict[str, int]:
        """Check every stored tensor and return how many elements each has."""
        found: dict[str, int] = {}
        spans: list[tuple[int, int, str]] = []
        for tensor in graph.initializer:
            if not tensor.name or tensor.name in found:
                raise self.refusal("initializer", tensor.name, "a name of its own for each tensor")
            field = f"initializer {tensor.name:.100}"
            found[tensor.name], size = self._tensor(field, tensor)
            if tensor.data_location == TensorProto.EXTERNAL:
                start = self._external(field, tensor, data, size)
                spans.append((start, start + size, tensor.name))
        end = 0
        for start, stop, name in sorted(spans):
            if start < end or stop > data_size:
                expected = f"bytes of {data} within {end} … {data_size} that no other tensor has"
                raise self.refusal(f"initializer {name:.100}: offset", f"{start} … {stop}", expected)
            end = stop
        return found

    def _tensor(self, field: str, tensor: TensorProto) -> tuple[int, int]:
        """Return elements and bytes of *tensor*, whose values must be as many as its dimensions say."""
        if tensor.data_type not in _SIZES:
            raise self.refusal(f"{field}: data_type", tensor.data_type, f"one of {sorted(_SIZES)}")
        if tensor.HasField("segment"):
            raise self.refusal(field, "segmented values", "whole values")
        dimensions = list(tensor.dims)
        elements = math.prod(dimensions)
        if any(size < 0 for size in dimensions) or len(dimensions) > 8 or elements > 1 << 40:
            raise self.refusal(
                f"{field}: dims", dimensions, "at most eight sizes, none negative, less than 2^40 together"
            )
        size = math.ceil(elements * _SIZES[tensor.data_type])
        if tensor.data_location != TensorProto.EXTERNAL:
            self._inline(field, tensor, elements, size)
        return elements, size

    def _inline(self, field: str, tensor: TensorProto, elements: int, size: int) -> None:
        typed = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        counts = [len(getattr(tensor, name)) for name in typed]
        packed = tensor.data_type in (TensorProto.INT4, TensorProto.UINT4)
        right = len(tensor.raw_data) == size and not any(counts)
        if not tensor.raw_data and sum(map(bool, counts)) == 1 and not packed:
            right = max(counts) == elements
        if not right and (elements or tensor.raw_data or any(counts)):
            raise self.refusal(f"{field}: values", [len(tensor.raw_data), *counts], f"{elements} values, {size} bytes")

    def _external(self, field: str, tensor: TensorProto, data: str, size: int) -> int:
        """Return where in the data file *tensor* begins."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        keys = [entry.key for entry in tensor.external_data]
        if len(entries) != len(keys) or not {"location"} <= entries.keys() <= {"location", "offset", "length"}:
            raise self.refusal(f"{field}: external_data", keys, "location, offset and length, once each")
        if entries["location"] != data:
            raise self.refusal(f"{field}: external_data location", entries["location"], repr(data))
        for key in ("offset", "length"):
            value = entries.get(key, "0")
            if not (value.isascii() and value.isdecimal() and len(value) < 16) or tensor.raw_data:
                raise self.refusal(
                    f"{field}: external_data {key}", value, "a decimal number, and no values in the graph"
                )
        if "length" in entries and int(entries["length"]) != size:
            raise self.refusal(f"{field}: external_data length", entries["length"], str(size))
        return int(entries.get("offset", "0"))

    def nodes(self, graph: GraphProto, stored: Mapping[str, int]) -> None:
        """Check every node: what it is, its attributes, and how large it may grow while the runtime loads it."""
        small = {tensor.name: tensor for tensor in graph.initializer if stored[tensor.name] <= _SMALL}
        fixed, self._stored = dict(stored), stored
        made = {value.name for value in graph.input} | stored.keys()
        for node in graph.node:
            if (node.domain, node.op_type) not in OPERATORS:
                known = nearest(node.op_type, (name for _, name in OPERATORS))
                raise self.refusal("operator", f"{node.domain}:{node.op_type}"[:_MOST_TEXT], f"one of {known}")
            self._attributes(node, small, fixed)
            again = next((name for name in node.output if name and name in made), None)
            if again is not None or not node.output:
                raise self.refusal(f"{node.op_type}: outputs", again, "names that nothing else has")
            made.update(filter(None, node.output))
            self._growth(node, fixed, small)

    def _attributes(self, node: NodeProto, small: dict[str, TensorProto], fixed: dict[str, int]) -> None:
        for attribute in node.attribute:
            field = f"{node.op_type}: attribute {attribute.name:.100}"
            if attribute.type not in _PLAIN or attribute.ref_attr_name:
                kind = AttributeProto.AttributeType.Name(attribute.type)
                raise self.refusal(field, kind, "numbers, a word, or a tensor")
            words = [attribute.s, *attribute.strings]
            if max(map(len, words)) > _MOST_TEXT or len(words) > _MOST_TEXT:
                raise self.refusal(field, f"{max(map(len, words))} characters", f"at most {_MOST_TEXT}")
            if max(len(attribute.ints), len(attribute.floats)) > _MOST_NAME:
                raise self.refusal(field, "a list", f"at most {_MOST_NAME} numbers")
            if attribute.type == AttributeProto.TENSOR:
                if attribute.t.data_location == TensorProto.EXTERNAL:
                    raise self.refusal(field, "values in another file", "values within the graph")
                elements, _ = self._tensor(field, attribute.t)
                if node.op_type == "Constant" and len(node.output) == 1:
                    fixed[node.output[0]] = elements
                    if elements <= _SMALL:
                        small[node.output[0]] = attribute.t
            elif node.op_type == "Constant" and node.output:
                fixed[node.output[0]] = max(1, len(attribute.ints), len(attribute.floats))

    def _growth(self, node: NodeProto, fixed: dict[str, int], small: Mapping[str, TensorProto]) -> None:
        """Work out how large the outputs of a node may become that depends on constants alone."""
        if node.op_type == "Constant":
            return
        names = [name for name in node.input if name]
        sizes = _FROM_SIZES.get(node.op_type)
        if sizes is not None and len(node.input) > sizes and node.input[sizes] in small:
            self._stated(node, small[node.input[sizes]], fixed)
        if not set(names) <= fixed.keys():
            return
        bound = self._bound(node, names, fixed, small)
        if bound > _MOST_ELEMENTS and not self._turned(node, bound):
            expected = f"constants that stay below {_MOST_ELEMENTS} elements while they are computed"
            raise self.refusal(f"{node.op_type}: size", bound, expected)
        fixed.update(dict.fromkeys(filter(None, node.output), bound))

    def _turned(self, node: NodeProto, size: int) -> bool:
        """Say whether *node* only lays out anew a stored tensor of *size*: a head that is the embeddings, turned.

        All of them together may take as much as is stored.
        """
        if node.op_type not in _LAYING_OUT or node.input[0] not in self._stored:
            return False
        self._turned_elements += size
        return self._turned_elements <= sum(self._stored.values())

    def _stated(self, node: NodeProto, sizes: TensorProto, fixed: Mapping[str, int]) -> None:
        """Refuse sizes that stand in the graph and are out of bounds, whatever they are applied to."""
        if sizes.data_location == TensorProto.EXTERNAL:
            return
        product = math.prod(max(1, abs(int(size))) for size in numpy_helper.to_array(sizes).ravel())
        if product > _MOST_ELEMENTS:
            raise self.refusal(f"{node.op_type}: size", product, f"at most {_MOST_ELEMENTS} elements")

    def _bound(
        self, node: NodeProto, names: Collection[str], fixed: Mapping[str, int], small: Mapping[str, TensorProto]
    ) -> int:
        """Return the most elements of each output."""
        counts = [max(1, fixed[name]) for name in names]
        if node.op_type in _NOT_LARGER:
            return counts[0] if counts else 1
        if node.op_type == "Concat":
            return sum(counts)
        if node.op_type in ("Expand", "Tile", "ConstantOfShape"):
            sizes = node.input[_FROM_SIZES[node.op_type]]
            if sizes not in small or small[sizes].data_location == TensorProto.EXTERNAL:
                raise self.refusal(f"{node.op_type}: sizes", sizes[:_MOST_TEXT], "sizes that stand in the graph")
            stated = math.prod(max(1, abs(int(size))) for size in numpy_helper.to_array(small[sizes]).ravel())
            return stated * (counts[0] if node.op_type != "ConstantOfShape" else 1)
        if node.op_type == "Range":
            return self._range(node, small)
        # Every other operator broadcasts, looks up or multiplies: no output is larger than all inputs together.
        return math.prod(counts)

    def _range(self, node: NodeProto, small: Mapping[str, TensorProto]) -> int:
        if not all(name in small and small[name].data_location != TensorProto.EXTERNAL for name in node.input):
            raise self.refusal("Range: bounds", list(node.input), "numbers that stand in the graph")
        start, stop, step = (float(np.ravel(numpy_helper.to_array(small[name]))[0]) for name in node.input)
        return 1 << 62 if not step else max(0, math.ceil(min((stop - start) / step, 1 << 62)))

    def ports(self, field: str, found: Iterable[ValueInfoProto], expected: Iterable[Port]) -> None:
        """Compare declared inputs or outputs with those of the contract."""
        declared = {value.name: value for value in found}
        for port in expected:
            value = declared.pop(port.name, None)
            if value is None:
                if port.optional:
                    continue
                raise self.refusal(field, f"no {port.name}", f"{port.name} {list(port.shape)}")
            self._port(field, value, port)
        if declared:
            raise self.refusal(field, next(iter(declared))[:_MOST_TEXT], "only those of the layout's contract")

    def _port(self, field: str, value: ValueInfoProto, port: Port) -> None:
        tensor = value.type.tensor_type
        names = [TensorProto.DataType.Name(kind) for kind in port.types]
        if value.type.WhichOneof("value") != "tensor_type" or tensor.elem_type not in port.types:
            raise self.refusal(f"{field}: {port.name}: type", tensor.elem_type, f"one of {names}")
        sizes = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
        # A size that the contract states may be left open by the graph; it is compared when it runs.
        fits = len(sizes) == len(port.shape) and all(
            size in (None, wanted) or wanted == ANY for size, wanted in zip(sizes, port.shape, strict=True)
        )
        if not fits:
            raise self.refusal(
                f"{field}: {port.name}: shape", sizes, f"{list(port.shape)} (null is a size that varies)"
            )
