"""Small decoders as others export them: graphs that return their whole cache, written here, and the same in numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from plugins.onnx.tests.checkpoint_writer import tokenizer

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

VOCAB, LAYERS, HEADS, SIZE = 512, 2, 2, 8
WIDTH = HEADS * SIZE
CONTEXT = 96
PREFIX = (1, 7)
EOS = 0
Change = Callable[[str, ModelProto], object]
"""What a test does to a graph, which it is given with its file's name, before it is written."""


def weights(seed: int = 0) -> dict[str, Floats]:
    """Return every matrix of both models, random and large enough that tokens differ."""
    chance = np.random.default_rng(seed)
    found = {"embedding": chance.normal(0, 1, (VOCAB, WIDTH)), "head": chance.normal(0, 1, (VOCAB, WIDTH))}
    found["positions"] = chance.normal(0, 0.5, (CONTEXT, WIDTH))
    for block in ("encoder", *(f"{kind}{layer}" for layer in range(LAYERS) for kind in ("self", "cross"))):
        found |= {f"{block}.{part}": chance.normal(0, 0.35, (WIDTH, WIDTH)) for part in "qkvo"}
    return {name: values.astype(np.float32) for name, values in found.items()}


class NumpyModel:
    """Both models, computed from the beginning for every token."""

    def __init__(self) -> None:
        self._weights = weights()

    def greedy(self, prompt: list[int], count: int, *, seq2seq: bool = False) -> list[int]:
        """Return *count* tokens, each the most likely one."""
        found: list[int] = []
        while len(found) < count:
            found.append(int(self.logits(prompt, found, seq2seq=seq2seq).argmax()))
        return found

    def logits(self, prompt: list[int], output: list[int], *, seq2seq: bool = False) -> Floats:
        """Return the logits after *prompt* and *output*."""
        if not seq2seq:
            ids = [*prompt, *output]
            return self._decode(self._weights["embedding"][ids] + self._weights["positions"][: len(ids)], None)
        source = self._weights["embedding"][prompt]
        source = source + self._attend("encoder", source, source, causal=False)
        return self._decode(self._weights["embedding"][[*PREFIX, *output]], source)

    def _decode(self, x: Floats, source: Floats | None) -> Floats:
        for layer in range(LAYERS):
            x = x + self._attend(f"self{layer}", x, x, causal=True)
            if source is not None:
                x = x + self._attend(f"cross{layer}", x, source, causal=False)
        found: Floats = np.tanh(x[-1]) @ self._weights["head"].T
        return found

    def _attend(self, block: str, x: Floats, seen: Floats, *, causal: bool) -> Floats:
        q, k, v = (
            (rows @ self._weights[f"{block}.{part}"]).reshape(-1, HEADS, SIZE).swapaxes(0, 1)
            for rows, part in ((x, "q"), (seen, "k"), (seen, "v"))
        )
        scores = q @ k.swapaxes(1, 2) / np.float32(SIZE**0.5)
        if causal:
            scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ v
        found: Floats = mixed.swapaxes(0, 1).reshape(-1, WIDTH) @ self._weights[f"{block}.o"]
        return found


@attrs.define
class Writer:
    """Writes one graph."""

    nodes: list[Any] = attrs.field(factory=list)
    constants: dict[str, npt.NDArray[Any]] = attrs.field(factory=dict)
    inputs: list[Any] = attrs.field(factory=list)
    outputs: list[Any] = attrs.field(factory=list)

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node and return its output."""
        output = name or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def integers(self, *values: int) -> str:
        """Return a constant list."""
        name = f"integers{'_'.join(map(str, values))}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def weight(self, name: str) -> str:
        """Return a matrix of `weights`."""
        self.constants[name] = weights()[name]
        return name

    def input(self, name: str, shape: list[int | str], kind: int = TensorProto.INT64) -> str:
        """Declare an input."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, value: str, name: str, shape: list[int | str]) -> None:
        """Declare an output."""
        self.node("Identity", value, name=name)
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def heads(self, x: str, block: str, part: str) -> str:
        """Return ``[batch, heads, tokens, size]``."""
        rows = self.node("MatMul", x, self.weight(f"{block}.{part}"))
        return self.node("Transpose", self.node("Reshape", rows, self.integers(0, -1, HEADS, SIZE)), perm=[0, 2, 1, 3])

    def attend(self, x: str, block: str, keys: str, values: str, mask: str = "") -> str:
        """Return *x* and what attention adds to it."""
        scores = self.node("MatMul", self.heads(x, block, "q"), self.node("Transpose", keys, perm=[0, 1, 3, 2]))
        self.constants["scale"] = np.array(SIZE**0.5, np.float32)
        scores = self.node("Div", scores, "scale")
        if mask:
            self.constants["least"] = np.array(-1e30, np.float32)
            scores = self.node("Where", mask, scores, "least")
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), values)
        rows = self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), self.integers(0, -1, WIDTH))
        return self.node("Add", x, self.node("MatMul", rows, self.weight(f"{block}.o")))

    def causal(self, x: str, keys: str) -> str:
        """Return which positions of *keys* each position of *x*, the last ones, may see."""
        self.constants |= {name: np.array(at, np.int64) for at, name in enumerate(("zero", "one", "two"))}
        tokens = self.node("Gather", self.node("Shape", x), "one")
        total = self.node("Gather", self.node("Shape", keys), "two")
        seen = self.node("Range", "zero", total, "one")
        own = self.node("Range", self.node("Sub", total, tokens), total, "one")
        return self.node("LessOrEqual", seen, self.node("Unsqueeze", own, self.integers(1)))

    def logits(self, x: str) -> None:
        """Declare the logits of every position."""
        head = self.node("Transpose", self.weight("head"), perm=[1, 0])
        self.output(self.node("MatMul", self.node("Tanh", x), head), "logits", ["b", "s", VOCAB])

    def cache(self, layer: int, x: str, names: str, past: str = "") -> tuple[str, str]:
        """Declare the keys and values of *x* after those of *past*, and return them."""
        found = []
        for kind in ("key", "value"):
            value = self.heads(x, f"self{layer}", kind[0])
            if past:
                before = self.input(past.format(layer, kind), ["b", HEADS, "p", SIZE], TensorProto.FLOAT)
                value = self.node("Concat", before, value, axis=2)
            self.output(value, names.format(layer, kind), ["b", HEADS, "t", SIZE])
            found.append(value)
        return found[0], found[1]

    def write(self, folder: Path, name: str, change: Change) -> None:
        """Write the graph and its tensors."""
        data, tensors = b"", []
        for key, values in self.constants.items():
            tensor = numpy_helper.from_array(values, key)
            if values.nbytes > 200:
                raw = tensor.raw_data
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
                where = {"location": f"{name}.data", "offset": len(data), "length": len(raw)}
                for entry, value in where.items():
                    tensor.external_data.add(key=entry, value=str(value))
                data += raw
            tensors.append(tensor)
        graph = helper.make_graph(self.nodes, "decoder", self.inputs, self.outputs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        change(name, model)
        (folder / name).write_bytes(model.SerializeToString())
        (folder / f"{name}.data").write_bytes(data)


def _unchanged(name: str, model: ModelProto) -> None:
    """Leave the graph as it is."""


def write_imported(folder: Path, *, seq2seq: bool = False, change: Change = _unchanged, **manifest: Any) -> Path:
    """Write a model folder of the layout ``decoder`` or ``seq2seq``, and return it; *manifest* are other values."""
    folder.mkdir(parents=True)
    for name, writer in (_seq2seq() if seq2seq else {"model.onnx": _decoder()}).items():
        writer.write(folder, name, change)
    (folder / "tokenizer.json").write_text(tokenizer(VOCAB), encoding="utf-8")
    write_manifest(folder, _manifest(seq2seq=seq2seq) | manifest)
    return folder


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``llmos.json`` with the hashes of the files that are there."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
        if path.name != "llmos.json"
    }
    (folder / "llmos.json").write_text(json.dumps({**values, "files": files}), encoding="utf-8")


def _manifest(*, seq2seq: bool) -> dict[str, Any]:
    cache = {"layers": LAYERS, "kv_heads": HEADS, "head_dim": SIZE, "prefix": [], "width": 0}
    if seq2seq:
        cache |= {"prefix": list(PREFIX), "width": WIDTH}
    return {
        "format": 1, "name": "small", "layout": "seq2seq" if seq2seq else "decoder", "architecture": "small",
        "kinds": ["generate", "tokenize", "detokenize"], "context": CONTEXT, "vocab": VOCAB, "weights": "fp32",
        "tokens": {"bos": None, "eos": [EOS], "pad": None, "add_bos": False}, "generation": {}, "chat_template": None,
        "encoder": None, "cache": cache, "licence": "none", "source": "here", "exporter": "tests",
    }  # fmt: skip


def _decoder() -> Writer:
    w = Writer()
    x = w.node("Gather", w.weight("embedding"), w.input("input_ids", ["b", "s"]))
    w.input("attention_mask", ["b", "t"])
    x = w.node("Add", x, w.node("Gather", w.weight("positions"), w.input("position_ids", ["b", "s"])))
    for layer in range(LAYERS):
        keys, values = w.cache(layer, x, "present.{}.{}", "past_key_values.{}.{}")
        x = w.attend(x, f"self{layer}", keys, values, w.causal(x, keys))
    w.logits(x)
    return w


def _seq2seq() -> dict[str, Writer]:
    w = Writer()
    x = w.node("Gather", w.weight("embedding"), w.input("input_ids", ["b", "s"]))
    w.input("attention_mask", ["b", "s"])
    x = w.attend(x, "encoder", w.heads(x, "encoder", "k"), w.heads(x, "encoder", "v"))
    w.output(x, "last_hidden_state", ["b", "s", WIDTH])
    return {"encoder.onnx": w, "decoder.onnx": _half(first=True), "decoder_with_past.onnx": _half(first=False)}


def _half(*, first: bool) -> Writer:
    """Return the decoder's first step, which looks at the source, or its further steps, which know it already."""
    w = Writer()
    x = w.node("Gather", w.weight("embedding"), w.input("input_ids", ["b", "s"]))
    w.input("encoder_attention_mask", ["b", "e"])
    hidden = w.input("encoder_hidden_states", ["b", "e", WIDTH], TensorProto.FLOAT) if first else ""
    for layer in range(LAYERS):
        past = "" if first else "past_key_values.{}.decoder.{}"
        keys, values = w.cache(layer, x, "present.{}.decoder.{}", past)
        x = w.attend(x, f"self{layer}", keys, values, w.causal(x, keys))
        seen = []
        for kind in ("key", "value"):
            if first:
                seen.append(w.heads(hidden, f"cross{layer}", kind[0]))
                w.output(seen[-1], f"present.{layer}.encoder.{kind}", ["b", HEADS, "e", SIZE])
            else:
                name = f"past_key_values.{layer}.encoder.{kind}"
                seen.append(w.input(name, ["b", HEADS, "e", SIZE], TensorProto.FLOAT))
        x = w.attend(x, f"cross{layer}", *seen)
    w.logits(x)
    return w
