"""Reads the weights of a model folder back into numbers, by what the operators' specification says of their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from llmos_onnx.folder import open_folder

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]


def unpacked(packed: npt.NDArray[np.uint8], bits: int, count: int) -> Doubles:
    """Return the first *count* integers of each row of *packed*: one per byte, or two, low half first."""
    rows = packed.reshape(len(packed), -1)
    if bits == 4:
        rows = np.stack([rows & 15, rows >> 4], axis=2).reshape(len(rows), -1)
    return rows[:, :count].astype(np.float64)


def tensors_of(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return every tensor of the folder's graph."""
    folder = open_folder(path)
    found = {}
    for tensor in onnx.ModelProto.FromString(folder.graph).graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        where = {entry.key: entry.value for entry in tensor.external_data}
        raw = tensor.raw_data
        if where:
            start = int(where["offset"])
            raw = bytes(folder.data[start : start + int(where["length"])])
        found[tensor.name] = np.frombuffer(raw, dtype).reshape(tuple(tensor.dims))
    return found


def restored_weights(path: Path) -> dict[str, Doubles]:
    """Return each matrix of a q4 or q8 folder as the numbers that its integers stand for, by its stored name."""
    stored = tensors_of(path)
    found = {}
    for name, integers in stored.items():
        base, _, kind = name.rpartition(".")
        if kind not in ("int4", "int8") or f"{base}.scale" not in stored:
            continue
        bits, scales = int(kind[3:]), stored[f"{base}.scale"]
        count = integers[0].size * 8 // bits
        zeros = np.full(scales.shape, 1 << (bits - 1), np.float64)
        if f"{base}.zero" in stored:
            zeros = unpacked(stored[f"{base}.zero"], bits, scales.shape[1])
        width = count // scales.shape[1]
        steps = (unpacked(integers, bits, count) - zeros.repeat(width, axis=1)) * scales.repeat(width, axis=1)
        found[base] = steps
    return found
