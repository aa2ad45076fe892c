"""Scales of the int8 key and value cache, found by reading a text with the cache in single precision.

The attention node rounds what it stores to ``value / scale`` within -128 … 127, with one scale per head and dimension
(`GroupQueryAttention`'s ``PER_CHANNEL``), fixed when the model is exported: so a row's cache depends on nothing but the
row.  Values take the greatest magnitude seen.  Keys are stored as they are after their rotation, which turns pairs of
dimensions by angles that grow with the position; both dimensions of a pair take the greatest length of the pair, which
no rotation exceeds, so that positions beyond the text are not cut off.

A text shows only some of what a model will store, and what is cut off costs more than coarser steps: on a model of
another field than the text's, room for 1.5 times the greatest value seen gave logits whose divergence from those of
single precision is a fifth of what 1.0 gave; 3.0 was four times as bad as 1.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import helper

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.calibration_text import TEXT
from llmos_onnx.graph import SCALE_INPUT, cache_names, signature
from llmos_onnx.manifest import DATA
from llmos_onnx.providers import CPU, runtime, session_options
from llmos_onnx.weights import FORMATS

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime
    from tokenizers import Tokenizer
    from typing_extensions import Buffer

    from llmos_onnx.graph import Graph
    from llmos_onnx.manifest import Manifest, SpecialTokens
    from llmos_onnx.shape import Rope

    Floats = npt.NDArray[np.float32]

BUILT_IN: Final = "built-in text"
"""What a manifest says of a calibration without a text of the user's."""
_MOST_BYTES: Final = 1 << 20
_TOKENS: Final = 256
"""Tokens of one piece of the text: attention's time grows with the square of it."""
_FEWEST: Final = 64
_ROOM: Final = 1.5
"""What scales have room for, relative to the greatest value seen."""
_THREADS: Final = 1  # sums in one order: the same checkpoint makes the same folder
_ZERO_POINT: Final = 128
_INT8: Final = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}


def read_text(path: str | None) -> str:
    """Return the text at *path*, or the built-in one; raise `InvalidArgument` where it is no UTF-8 text."""
    if path is None:
        return TEXT
    try:
        with Path(path).open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "strict" if file.read(1) == b"" else "ignore")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, "a text file in UTF-8") from error


def pieces(text: str, tokenizer: Tokenizer, tokens: SpecialTokens, context: int) -> list[list[int]]:
    """Return the ids of *text* in pieces of a few hundred, each as a prompt begins, the last also as answers end.

    Raises `InvalidArgument` for a text of fewer than 64 tokens.
    """
    ids = [*tokenizer.encode(text, add_special_tokens=False).ids, *tokens.eos]
    if len(ids) < _FEWEST:
        raise _unusable(f"{len(ids)} tokens", f"a text of at least {_FEWEST} tokens")
    begin = [tokens.bos] if tokens.add_bos and tokens.bos is not None else []
    length = max(min(_TOKENS, context) - len(begin), 1)
    return [begin + ids[first : first + length] for first in range(0, len(ids), length)]


def cache_scales(
    graph: bytes, data: Buffer, manifest: Manifest, prompts: Iterable[Sequence[int]]
) -> list[tuple[Floats, Floats]]:
    """Run *prompts* and return each layer's scales of keys and values, ``[1, kv_heads, 1, head_dim]`` each.

    *graph* has a cache of single precision and its weights in *data*.  Raises `ModelUnavailable` without a runtime.
    """
    session = _session(graph, data, manifest.name)
    shape = manifest.shape
    names = [name for layer in range(shape.layers) for name in cache_names(layer)[2:]]
    greatest = np.zeros((len(names), shape.kv_heads, shape.head_dim), np.float32)
    for prompt in prompts:
        present = session.run(names, _inputs(manifest, prompt))
        for layer in range(shape.layers):
            present[2 * layer] = _turned(present[2 * layer], shape.layer_rope(layer))
        greatest = np.maximum(greatest, [np.abs(found).max(axis=(0, 2)) for found in present])
    greatest[greatest == 0] = 1
    scales = (greatest * np.float32(_ROOM / 127)).reshape(len(names), 1, shape.kv_heads, 1, shape.head_dim)
    return list(zip(scales[0::2], scales[1::2], strict=True))


def make_cache_int8(graph: Graph, manifest: Manifest, scales: Sequence[tuple[Floats, Floats]]) -> None:
    """Change *graph*, whose cache has single precision, to a cache of 8 bits with the given *scales* per layer."""
    layers = {cache_names(layer)[0]: layer for layer in range(manifest.shape.layers)}
    for node in graph.nodes("GroupQueryAttention"):
        layer = layers[node.input[3]]
        node.input.extend([""] * (SCALE_INPUT - len(node.input)))
        for kind, array in zip("kv", scales[layer], strict=True):
            node.input.append(graph.constant(f"{kind}_scale_{layer}", array))
        node.attribute.extend(helper.make_attribute(name, value) for name, value in _INT8.items())
    zero_points = FORMATS[manifest.weights].zero_points
    graph.declare(*signature(manifest.shape, zero_points=zero_points, kv="int8"))


def _session(graph: bytes, data: Buffer, model: str) -> onnxruntime.InferenceSession:
    ort = runtime(model)
    options = session_options(ort, _THREADS)
    view = memoryview(data)
    options.add_external_initializers_from_files_in_memory([DATA], [view], [len(view)])
    session: onnxruntime.InferenceSession = ort.InferenceSession(graph, options, providers=[CPU])
    return session


def _inputs(manifest: Manifest, prompt: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of a first prompt, alone."""
    count, shape = len(prompt), manifest.shape
    found: dict[str, npt.NDArray[Any]] = {
        "input_ids": np.array([prompt], np.int64),
        "seqlens_k": np.array([count - 1], np.int32),
        "total": np.array(count, np.int32),
        "last_index": np.array([count - 1], np.int64),
    }
    if FORMATS[manifest.weights].zero_points:
        found |= {"zp_rows": np.full(count, _ZERO_POINT, np.uint8), "zp_last": np.full(1, _ZERO_POINT, np.uint8)}
    empty = np.zeros((1, shape.kv_heads, count, shape.head_dim), np.float32)
    return found | {name: empty for layer in range(shape.layers) for name in cache_names(layer)[:2]}


def _turned(keys: Floats, rope: Rope | None) -> Floats:
    """Return *keys* with the length of its pair in place of each dimension that rotation turns."""
    if rope is None:
        return keys
    width = rope.width or keys.shape[-1]
    first, second = np.split(keys[..., :width], 2, axis=-1)
    return np.concatenate([np.tile(np.hypot(first, second), 2), keys[..., width:]], axis=-1)


def _unusable(value: str, expected: str) -> InvalidArgument:
    message = f"option calibration is {value!r}, expected {expected}"
    return InvalidArgument(message, field="calibration", value=value, expected=expected)
