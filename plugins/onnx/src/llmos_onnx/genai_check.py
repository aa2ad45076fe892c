"""A check of a decoder graph that onnxruntime-genai's builder wrote: bounded, and wired as the engine drives it.

Besides what holds for every graph of others (`llmos_onnx.imported_check`), each layer's cache goes through one
GroupQueryAttention node and nowhere else, and the attention mask tells those nodes the rows' lengths and nothing else:
its row sums are the lengths, its width the longest of them.  So rows of different lengths are right in one run, and a
cache that is bound as input and output at once grows in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # comes with onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from llmos_onnx.fields import refusal
from llmos_onnx.graph import MICROSOFT
from llmos_onnx.imported_check import ANY, INTEGERS, Port, check_imported
from llmos_onnx.manifest import Blocks

if TYPE_CHECKING:
    from llmos_kernel.errors import ModelUnavailable
    from llmos_onnx.genai import GenaiManifest

ATTENTION: Final = "GroupQueryAttention"
CACHE_TYPES: Final[Mapping[int, str]] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
"""Numpy types of cache and logits, by ONNX type."""
_FLOATS: Final = tuple(CACHE_TYPES)
# Where attention has its inputs: past keys and values, lengths, total, and the tables that it turns by.
_PAST, _LENGTHS, _TOTAL, _TABLES, _FORBIDDEN = (3, 4), 5, 6, (7, 8), (9, 10, 12, 13)
_SUMS: Final = frozenset({"ReduceSum", "Sub", "Cast", "Squeeze", "Identity"})
_SIZES: Final = frozenset({"Shape", "Gather", "Cast", "Squeeze", "Identity"})


@attrs.frozen(kw_only=True)
class GenaiGraph:
    """What the check has found."""

    inputs: frozenset[str]
    """Names of the graph's inputs."""
    kv: str
    """Numpy type of the cache."""
    logits: str
    """Numpy type of the logits."""
    last_only: bool
    """Logits come for the last position of each row only, not for all."""
    windowed: bool
    """Attention of some layers takes caches that are shorter than the sequence, and no padding in exchange."""
    products: frozenset[tuple[int, int, Blocks]]
    """Bits, block size and rounding of the matrices that are stored in blocks."""
    producer: str
    """Who wrote the graph, in its own words."""

    @property
    def weights(self) -> str:
        """How matrices are stored, in words."""
        bits = sorted({bits for bits, _, _ in self.products})
        return " and ".join(f"q{count}" for count in bits) or {"float32": "fp32", "float16": "fp16"}[self.kv]


def check_genai(content: bytes, manifest: GenaiManifest, data_size: int, *, model: str) -> GenaiGraph:
    """Refuse the graph *content*, whose tensors lie in *data_size* bytes, unless the engine can drive it.

    Raises `ModelUnavailable` (of *model*) naming what stands there and what would be right.
    """
    inputs, outputs = _contract(manifest)
    names = check_imported(
        content,
        graph=manifest.graph,
        data=manifest.data,
        data_size=data_size,
        inputs=inputs,
        outputs=outputs,
        model=model,
    )
    proto = ModelProto.FromString(content)
    check = _Wires(proto, manifest, model)
    check.attention()
    check.mask()
    ports = {value.name: value.type.tensor_type for value in (*proto.graph.input, *proto.graph.output)}
    cache = {ports[name].elem_type for pair in manifest.names.cache(manifest.layers) for name in pair}
    if len(cache) != 1:
        raise check.refusal("past and present: types", sorted(cache), "one and the same type")
    logits, positions = ports[manifest.names.logits], ports[manifest.names.logits].shape.dim[1].dim_value
    if positions not in (0, 1):
        raise check.refusal("outputs: logits: shape", positions, "a size that varies, or 1: the last position only")
    return GenaiGraph(
        inputs=names,
        kv=CACHE_TYPES[cache.pop()],
        logits=CACHE_TYPES[logits.elem_type],
        last_only=positions == 1,
        windowed=check.windowed,
        products=frozenset(_product(node) for node in proto.graph.node if node.op_type == "MatMulNBits"),
        producer=f"{proto.producer_name:.100} {proto.producer_version:.100}".strip() or "unknown",
    )


def stated_cache(content: bytes, manifest: GenaiManifest, *, model: str) -> str:
    """Return the numpy type of the cache that the graph *content* states: enough to measure, not to trust."""
    field, first = f"{manifest.graph}: cache", manifest.names.cache(manifest.layers)[0][0]
    try:
        inputs = ModelProto.FromString(content).graph.input
    except DecodeError as error:
        raise refusal(model, f"{manifest.graph}: content", str(error), "a serialised ONNX model") from error
    found = [value.type.tensor_type.elem_type for value in inputs if value.name == first]
    if len(found) != 1 or found[0] not in CACHE_TYPES:
        raise refusal(model, field, found, f"one input {first} of {' or '.join(CACHE_TYPES.values())}")
    return CACHE_TYPES[found[0]]


def _contract(manifest: GenaiManifest) -> tuple[list[Port], list[Port]]:
    names, cache = manifest.names, (None, manifest.kv_heads, None, manifest.head_dim)
    inputs = [Port(names.input_ids, INTEGERS, (None, None)), Port(names.attention_mask, INTEGERS, (None, None))]
    if names.position_ids is not None:
        inputs.append(Port(names.position_ids, INTEGERS, (None, None)))
    outputs = [Port(names.logits, _FLOATS, (None, ANY, manifest.vocab))]
    for past, present in names.cache(manifest.layers):
        inputs.append(Port(past, _FLOATS, cache))
        outputs.append(Port(present, _FLOATS, cache))
    return inputs, outputs


def _product(node: NodeProto) -> tuple[int, int, Blocks]:
    values = {attribute.name: attribute.i for attribute in node.attribute}
    symmetric = len(node.input) < 4 or not node.input[3]
    blocks = Blocks(
        size=values.get("block_size", 0), symmetric=symmetric, accuracy_level=values.get("accuracy_level", 0)
    )
    return values.get("bits", 4), blocks.size, blocks


class _Wires:
    """Who reads what in one graph."""

    def __init__(self, proto: ModelProto, manifest: GenaiManifest, model: str) -> None:
        self._manifest = manifest
        self._model = model
        self._stored = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
        self._made = {output: node for node in proto.graph.node for output in node.output if output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in proto.graph.node:
            for name in set(node.input):
                self._readers.setdefault(name, []).append(node)
        self._attention = [node for node in proto.graph.node if (node.domain, node.op_type) == (MICROSOFT, ATTENTION)]

    def refusal(self, field: str, value: object, expected: str) -> ModelUnavailable:
        return refusal(self._model, f"{self._manifest.graph}: {field}", value, expected)

    @property
    def windowed(self) -> bool:
        """Whether an attention node is told that its cache may be shorter than the sequence; ours never is."""
        attributes = (attribute for node in self._attention for attribute in node.attribute)
        return any(attribute.name == "sliding_window_cache" and attribute.i for attribute in attributes)

    def attention(self) -> None:
        """Check that one attention node a layer, and nothing else, reads and writes the cache."""
        if len(self._attention) != self._manifest.layers:
            expected = f"{self._manifest.layers}, one per layer: only such graphs take rows of different lengths"
            raise self.refusal(f"{ATTENTION} nodes", len(self._attention), expected)
        cache = self._manifest.names.cache(self._manifest.layers)
        for keys, values in zip(cache[::2], cache[1::2], strict=True):
            self._layer(keys, values)
        for node in self._attention:
            self._numbers(node)
            self._tables(node)

    def _layer(self, keys: tuple[str, str], values: tuple[str, str]) -> None:
        readers = [*self._readers.get(keys[0], ()), *self._readers.get(values[0], ())]
        if len(readers) != 2 or readers[0] is not readers[1] or readers[0] not in self._attention:
            found = [node.op_type for node in readers]
            raise self.refusal(f"{keys[0]}, {values[0]}", found, f"read by one {ATTENTION} and nothing else")
        node = readers[0]
        found = [*(_at(node.input, place) for place in _PAST), *node.output[1:]]
        expected = [keys[0], values[0], keys[1], values[1]]
        if found != expected:
            raise self.refusal(f"{ATTENTION}: cache", found, str(expected))

    def _numbers(self, node: NodeProto) -> None:
        values = {attribute.name: attribute for attribute in node.attribute}
        wanted = {
            "num_heads": self._manifest.heads, "kv_num_heads": self._manifest.kv_heads,
            "qk_output": 0, "kv_cache_bit_width": 0,
        }  # fmt: skip
        for name, value in wanted.items():
            found = values[name].i if name in values else 0
            if found != value:
                raise self.refusal(f"{ATTENTION}: {name}", found, str(value))
        for name in ("k_quant_type", "v_quant_type"):
            if name in values and values[name].s not in (b"", b"NONE"):
                raise self.refusal(f"{ATTENTION}: {name}", values[name].s, "NONE: a cache of floating point")
        if any(attribute.type == AttributeProto.TENSOR for attribute in node.attribute):
            raise self.refusal(f"{ATTENTION}: attributes", "a tensor", "numbers and words")
        extra = [_at(node.input, place) for place in _FORBIDDEN]
        if any(extra):
            raise self.refusal(f"{ATTENTION}: inputs", extra, "no positions, bias or cache scales")

    def _tables(self, node: NodeProto) -> None:
        turns = next((attribute.i for attribute in node.attribute if attribute.name == "do_rotary"), 0)
        for place in _TABLES if turns else ():
            sizes = self._stored.get(name := _at(node.input, place), [])
            if len(sizes) != 2 or sizes[0] < self._manifest.context:
                expected = f"a stored table of at least {self._manifest.context} rows, one per position of the context"
                raise self.refusal(f"{ATTENTION}: {name}", sizes, expected)

    def mask(self) -> None:
        """Check that the mask is summed for the lengths, measured for the longest, and used for nothing else."""
        mask = self._manifest.names.attention_mask
        for node in self._readers.get(mask, ()):
            if node.op_type not in ("ReduceSum", "Shape"):
                raise self.refusal(mask, node.op_type, "read by ReduceSum and Shape only: its row sums are the lengths")
        for node in self._attention:
            for place, operators in ((_LENGTHS, _SUMS), (_TOTAL, _SIZES)):
                self._derived(_at(node.input, place), operators, mask)

    def _derived(self, name: str, operators: frozenset[str], mask: str) -> None:
        """Refuse *name* unless *operators* alone make it from the *mask*."""
        for _ in range(len(self._made) + 1):
            if name == mask:
                return
            node = self._made.get(name)
            if node is None or node.op_type not in operators:
                found = "an input" if node is None else node.op_type
                raise self.refusal(f"{ATTENTION}: lengths", found, f"{', '.join(sorted(operators))} of {mask}")
            name = node.input[0]
        raise self.refusal(f"{ATTENTION}: lengths", "a circle", f"values made of {mask}")


def _at(names: object, place: int) -> str:
    listed = list(names)  # type: ignore[call-overload]  # a repeated field of protobuf, which has no types
    return listed[place] if place < len(listed) else ""
