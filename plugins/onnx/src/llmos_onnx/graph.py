"""The decoder graph's contract with whoever runs it, and the builder that writes it.

``B`` rows of ``S`` tokens each go through the decoder in one run; ``R`` of the ``B * S`` positions get logits.

    input             type      shape                        meaning
    input_ids         int64     [B, S]                       token ids
    seqlens_k         int32     [B]                          tokens of each row after this run, minus one
    total             int32     []                           the greatest of those lengths (seqlens_k.max() + 1)
    last_index        int64     [R]                          which of the B * S flattened positions get logits
    zp_rows           uint8     [B * S]                      w8a8 only: 128 everywhere
    zp_last           uint8     [R]                          w8a8 only: 128 everywhere
    past_{l}_k, _v    see below [B, kv_heads, M, head_dim]   key and value cache of layer l; M is the room per row

    output            type      shape
    logits            float32   [R, vocab]
    present_{l}_k, _v           as past_{l}_k, _v; bind each to its past's buffer, which is then changed in place

The cache has the type that the manifest names: float32, float16, or int8 with scales within the graph.

Runs that are right:

- decode: S = 1, any B, each row with a length of its own;
- first prompts: any B, right-padded to S, ``total`` = S (a shorter row's ``seqlens_k`` is its own length minus one);
- a further chunk of one prompt: B = 1, S > 1, cache filled before it.

B, S and R are at least 1: **an empty batch kills the process**.  ``seqlens_k + 1 <= total <= M`` is the caller's duty:
a greater ``seqlens_k`` is accepted silently and reads what is not there.  Padded positions are computed and mean
nothing.
Zero points are inputs because a constant of unknown length costs two nodes for each of the four chains of a layer.

On x86 processors without VNNI, 8-bit products saturate unless the session's configuration entry
``session.x64quantprecision`` is ``1``; where VNNI is there, the entry changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np
import onnx
from onnx import TensorProto, helper

from llmos_onnx.manifest import DATA

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.folder import HashedFile
    from llmos_onnx.shape import Shape

Attribute = int | float
"""What an attribute of a node may be."""

MICROSOFT: Final = "com.microsoft"
OPSETS: Final = {"": 21, MICROSOFT: 1}
IR_VERSION: Final = 10

SCALE_INPUT: Final = 12
"""Which input of `GroupQueryAttention` has the scales of keys; the next has those of values."""
_ALIGNMENT: Final = 64
# Small tensors stay in the graph: the runtime needs shapes while it still has no external data.
LARGEST_CONSTANT: Final = 1024

TYPES: Final[dict[np.dtype[Any], int]] = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
}
"""ONNX element types that graphs of this exporter hold, by numpy type."""


@attrs.frozen
class Value:
    """An input or output of the graph."""

    name: str
    dtype: str
    """Name of the numpy type of its elements."""
    shape: tuple[int | str, ...]
    """A string is a size known only when running."""


def cache_names(layer: int) -> tuple[str, str, str, str]:
    """Return the names of *layer*'s past keys, past values, present keys and present values."""
    return f"past_{layer}_k", f"past_{layer}_v", f"present_{layer}_k", f"present_{layer}_v"


def signature(shape: Shape, *, zero_points: bool, kv: str = "float32") -> tuple[list[Value], list[Value]]:
    """Return the inputs and outputs of the contract for a decoder of *shape* whose cache has the numpy type *kv*."""
    inputs = [
        Value("input_ids", "int64", ("B", "S")),
        Value("seqlens_k", "int32", ("B",)),
        Value("total", "int32", ()),
        Value("last_index", "int64", ("R",)),
    ]
    if zero_points:
        inputs += [Value("zp_rows", "uint8", ("BS",)), Value("zp_last", "uint8", ("R",))]
    outputs = [Value("logits", "float32", ("R", shape.vocab))]
    cache = ("B", shape.kv_heads, "M", shape.head_dim)
    for layer in range(shape.layers):
        names = cache_names(layer)
        inputs += [Value(name, kv, cache) for name in names[:2]]
        outputs += [Value(name, kv, cache) for name in names[2:]]
    return inputs, outputs


class Graph:
    """Writes nodes and tensors; values are named by the strings that the methods return.

    Tensors go to *data* as they come and are not kept, so memory does not grow with the model.
    """

    def __init__(self, data: HashedFile) -> None:
        self._data = data
        self._nodes: list[onnx.NodeProto] = []
        self._values: set[str] = set()
        self._tensors: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def node(self, op: str, inputs: Sequence[str], *, domain: str = "", name: str = "", **attributes: Attribute) -> str:
        """Add a node with one output, and return the output's name (*name*, or one made up)."""
        output = name or self._fresh(op)
        self.node_into(op, inputs, [output], domain=domain, **attributes)
        return output

    def node_into(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Attribute
    ) -> None:
        """Add a node with the given *outputs*; an empty name is an output that nobody wants."""
        self._values.update(outputs)
        label = f"{outputs[-1]}:{op}"
        self._nodes.append(helper.make_node(op, inputs, outputs, name=label, domain=domain, **attributes))

    def nodes(self, op: str) -> list[onnx.NodeProto]:
        """Return the nodes of the operator *op*, to be changed in place."""
        return [node for node in self._nodes if node.op_type == op]

    def split(self, value: str, widths: Sequence[int]) -> list[str]:
        """Cut the last dimension of *value* into parts of the given *widths*."""
        outputs = [self._fresh("Split") + f"_{index}" for index in range(len(widths))]
        self.node_into("Split", [value, self.integers(*widths)], outputs, axis=-1)
        return outputs

    def integers(self, *values: int) -> str:
        """Return a vector of int64 constants."""
        return self.constant("int_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, name: str, value: float, dtype: npt.DTypeLike = np.float32) -> str:
        """Return a constant without dimensions."""
        return self.constant(name, np.array(value, dtype))

    def cast(self, x: str, dtype: npt.DTypeLike) -> str:
        """Return *x* with elements of another type."""
        return self.node("Cast", [x], to=TYPES[np.dtype(dtype)])

    def made(self, name: str) -> bool:
        """Say whether a node makes a value of that *name*."""
        return name in self._values

    def has(self, name: str) -> bool:
        """Say whether a tensor of that *name* is stored."""
        return name in self._tensors

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Store *array* once under *name*, within the graph where it is small, and return the name."""
        if name in self._tensors:
            return name
        if array.nbytes > LARGEST_CONSTANT:
            return self.stored(name, array.dtype, array.shape, [array])
        tensor = TensorProto(name=name, data_type=TYPES[array.dtype], dims=array.shape, raw_data=array.tobytes())
        self._tensors[name] = tensor
        return name

    def stored(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int], blocks: Iterable[npt.NDArray[Any]]) -> str:
        """Append a tensor to the data file, block by block along its first dimension, and return *name*."""
        self._data.write(b"\0" * (-self._data.size % _ALIGNMENT))
        start = self._data.size
        for block in blocks:
            self._data.write(np.ascontiguousarray(block, dtype).data)
        tensor = TensorProto(name=name, data_type=TYPES[np.dtype(dtype)], dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": DATA, "offset": str(start), "length": str(self._data.size - start)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        self._tensors[name] = tensor
        return name

    def declare(self, inputs: Iterable[Value], outputs: Iterable[Value]) -> None:
        """Say which values come in and go out; the last word counts."""
        self._inputs = list(map(_value_info, inputs))
        self._outputs = list(map(_value_info, outputs))

    def serialise(self, name: str) -> bytes:
        """Return the graph as the bytes of ``model.onnx``."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=list(self._tensors.values())
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="llmos")
        return bytes(model.SerializeToString(deterministic=True))

    def _fresh(self, op: str) -> str:
        return f"{op}_{len(self._nodes)}"


def _value_info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, TYPES[np.dtype(value.dtype)], value.shape)
