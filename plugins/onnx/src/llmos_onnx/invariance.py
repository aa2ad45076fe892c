"""Whether a format's products give a row the same numbers alone and among others, found out by running some.

fp32 and w8a8 products do.  `MatMulNBits` has several kernels, chosen by bits, block size, processor and number of rows;
on x86 with VNNI, blocks of up to 32 weights of 4 bits and up to 64 of 8 bits are added up alike for any number of rows,
and larger ones are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from llmos_onnx.graph import IR_VERSION, MICROSOFT, OPSETS
from llmos_onnx.manifest import BLOCK_SIZES, Blocks
from llmos_onnx.options import IN_BLOCKS
from llmos_onnx.providers import CPU, session_options

if TYPE_CHECKING:
    from types import ModuleType

    from llmos_onnx.manifest import Manifest

_ROWS: Final = 16
_INPUTS, _OUTPUTS = 512, 320


def rows_are_alone(ort: ModuleType, manifest: Manifest) -> bool:
    """Say whether rows get the same bits alone and in batches, in every block size that *manifest* may use."""
    if manifest.weights not in IN_BLOCKS:
        return True
    blocks = manifest.blocks or Blocks()
    sizes = (size for size in BLOCK_SIZES if size <= blocks.size)
    return all(product_is_alone(ort, int(manifest.weights[1:]), size, blocks) for size in sizes)


def product_is_alone(ort: ModuleType, bits: int, size: int, blocks: Blocks) -> bool:
    """Multiply sixteen rows together, one by one, and in uneven parts, and compare bits."""
    session = ort.InferenceSession(_product(bits, size, blocks), session_options(ort, 1), providers=[CPU])
    x = np.random.default_rng(0).standard_normal((_ROWS, _INPUTS), dtype=np.float32)
    together = session.run(None, {"x": x})[0]
    for edges in (range(1, _ROWS), (3, 8)):
        parts = np.concatenate([session.run(None, {"x": part})[0] for part in np.split(x, list(edges))])
        if not np.array_equal(together, parts):
            return False
    return True


def _product(bits: int, size: int, blocks: Blocks) -> bytes:
    """Return a graph of one product with made-up weights."""
    random = np.random.default_rng(1)
    count = _INPUTS // size
    stored = {
        "weights": random.integers(0, 256, (_OUTPUTS, count, size * bits // 8), dtype=np.uint8),
        "scales": random.random((_OUTPUTS, count), dtype=np.float32),
    }
    if not blocks.symmetric:
        stored["zeros"] = random.integers(0, 256, (_OUTPUTS, -(-count * bits // 8)), dtype=np.uint8)
    node = helper.make_node(
        "MatMulNBits",
        ["x", *stored],
        ["y"],
        domain=MICROSOFT,
        K=_INPUTS,
        N=_OUTPUTS,
        bits=bits,
        block_size=size,
        accuracy_level=blocks.accuracy_level,
    )
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
        for name, width in (("x", _INPUTS), ("y", _OUTPUTS))
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph([node], "product", values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())
