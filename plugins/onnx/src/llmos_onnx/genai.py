"""``genai_config.json``: the manifest of a model folder that onnxruntime-genai's model builder wrote.

    genai_config.json      shapes, names of inputs and outputs, special tokens, search options
    model.onnx, .data      the decoder graph and its weights, under the name that ``decoder.filename`` gives
    tokenizer.json         the model's own tokenizer, beside its settings and chat template

The folder is used as it is.  It has no hashes: what was read is checked, and what changes on disk afterwards does not
matter.  ``session_options`` are orders to another program about another machine and are passed over; so are the search
options of methods that are not offered here (beams, repeated n-grams).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import attrs

from llmos_onnx.fields import MAX_JSON_BYTES, Fields, read_json, refusal
from llmos_onnx.folder import read_file
from llmos_onnx.manifest import DATA, GRAPH, MANIFEST, MAX_FILE_BYTES, Generation, SpecialTokens, read_generation
from llmos_onnx.shape import MAX_HEAD, MAX_LAYERS, MAX_VOCAB
from llmos_onnx.tokens import read_ids

GENAI_CONFIG: Final = "genai_config.json"
_MAX_CONTEXT: Final = 1 << 24
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.onnx")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,100}")
_PER_LAYER: Final = re.compile(r"[A-Za-z0-9_./-]{0,100}%d[A-Za-z0-9_./-]{0,100}")

_MODEL: Final = (
    "type", "vocab_size", "context_length", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "bot_token_id", "eot_token_id", "bor_token_id", "eor_token_id", "decoder",
)  # fmt: skip
_DECODER: Final = (
    "session_options", "run_options", "filename", "head_size", "hidden_size", "inputs", "outputs",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "sliding_window",
)  # fmt: skip
_INPUTS: Final = ("input_ids", "attention_mask", "position_ids", "past_key_names", "past_value_names")
_OUTPUTS: Final = ("logits", "present_key_names", "present_value_names")


@attrs.frozen(kw_only=True)
class Names:
    """What the graph calls its inputs and outputs; ``%d`` stands for the layer."""

    input_ids: str
    attention_mask: str
    position_ids: str | None
    """None where the graph takes none."""
    logits: str
    past: tuple[str, str]
    """Keys and values of a layer before the run."""
    present: tuple[str, str]
    """Keys and values of a layer after it."""

    def cache(self, layers: int) -> list[tuple[str, str]]:
        """Return the names of past and present: layer 0 keys, layer 0 values, layer 1 keys, ..."""
        pairs = tuple(zip(self.past, self.present, strict=True))
        return [
            (past.replace("%d", str(layer)), present.replace("%d", str(layer)))
            for layer in range(layers)
            for past, present in pairs
        ]


@attrs.frozen(kw_only=True)
class GenaiManifest:
    """What is known of a folder from its ``genai_config.json``."""

    name: str
    architecture: str
    vocab: int
    context: int
    """Longest sequence in tokens, prompt and answer together."""
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    graph: str
    """Name of the graph's file."""
    names: Names
    tokens: SpecialTokens
    generation: Generation
    chat_template: str | None = None
    """Known when the whole folder is read."""

    @property
    def data(self) -> str:
        """Name of the file with the graph's large tensors."""
        return f"{self.graph}.data"

    @classmethod
    def from_json(cls, content: bytes, *, model: str) -> GenaiManifest:
        """Read ``genai_config.json``; raise `ModelUnavailable` naming the first field that is wrong."""
        fields = read_json(content, model=model, where=GENAI_CONFIG)
        fields.only(("model", "search"))
        inner, search = fields.inner("model"), fields.inner("search")
        inner.only(_MODEL)
        decoder = inner.inner("decoder")
        decoder.only(_DECODER)
        vocab = inner.integer("vocab_size", 1, MAX_VOCAB)
        manifest = cls(
            name=model,
            architecture=inner.text("type", 100),
            vocab=vocab,
            context=inner.integer("context_length", 2, _MAX_CONTEXT),
            layers=decoder.integer("num_hidden_layers", 1, MAX_LAYERS),
            heads=decoder.integer("num_attention_heads", 1, 4096),
            kv_heads=decoder.integer("num_key_value_heads", 1, 4096),
            head_dim=decoder.integer("head_size", 1, MAX_HEAD),
            graph=_matching(decoder, "filename", _FILE_NAME, "the plain name of an .onnx file in the folder"),
            names=_read_names(decoder.inner("inputs"), decoder.inner("outputs")),
            tokens=_read_tokens(inner, vocab),
            generation=_read_search(search),
        )
        if manifest.heads % manifest.kv_heads:
            raise decoder.refuse("num_key_value_heads", f"a divisor of the {manifest.heads} attention heads")
        _check_window(decoder)
        return manifest


def _matching(fields: Fields, name: str, pattern: re.Pattern[str], expected: str) -> str:
    value = fields.text(name, 220)
    if not pattern.fullmatch(value):
        raise fields.refuse(name, expected)
    return value


def _read_names(inputs: Fields, outputs: Fields) -> Names:
    inputs.only(_INPUTS)
    outputs.only(_OUTPUTS)

    def plain(fields: Fields, name: str) -> str:
        return _matching(fields, name, _PLAIN_NAME, "a name of letters, digits and ._/-")

    def layered(fields: Fields, kind: str) -> tuple[str, str]:
        expected = "a name with one %d for the layer"
        key, value = (_matching(fields, f"{kind}_{part}_names", _PER_LAYER, expected) for part in ("key", "value"))
        return key, value

    names = Names(
        input_ids=plain(inputs, "input_ids"),
        attention_mask=plain(inputs, "attention_mask"),
        position_ids=plain(inputs, "position_ids") if inputs.has("position_ids") else None,
        logits=plain(outputs, "logits"),
        past=layered(inputs, "past"),
        present=layered(outputs, "present"),
    )
    if names.past[0] == names.past[1]:
        raise inputs.refuse("past_value_names", "another name than past_key_names")
    return names


def _read_tokens(fields: Fields, vocab: int) -> SpecialTokens:
    return SpecialTokens(
        bos=next(iter(read_ids(fields, "bos_token_id", vocab)), None),
        eos=tuple(dict.fromkeys(read_ids(fields, "eos_token_id", vocab))),
        pad=next(iter(read_ids(fields, "pad_token_id", vocab)), None),
    )


def _read_search(fields: Fields) -> Generation:
    """Return the sampling that the folder asks for: the most likely token, unless ``do_sample`` is true."""
    if not fields.flag("do_sample", default=False):
        return Generation()
    return read_generation(fields, strict=False)


def _check_window(decoder: Fields) -> None:
    """Refuse a cache that another program is to shift: here it keeps every position."""
    if not decoder.has("sliding_window"):
        return
    window = decoder.inner("sliding_window")
    for name in ("slide_key_value_cache", "slide_inputs"):
        if window.flag(name, default=True):
            raise window.refuse(name, "false: the engine keeps the cache of every position")


def is_genai(path: Path) -> bool:
    """Say whether the folder at *path* has no manifest of ours, and onnxruntime-genai's."""
    return os.path.lexists(path / GENAI_CONFIG) and not os.path.lexists(path / MANIFEST)


def read_genai(path: Path) -> GenaiManifest:
    """Read only ``genai_config.json`` of the folder at *path*: enough to list a model, not to trust it."""
    model = path.absolute().name
    return GenaiManifest.from_json(bytes(read_file(path, GENAI_CONFIG, None, model)), model=model)


@attrs.frozen
class GenaiFiles:
    """The files of a folder, each read once and never through a link."""

    path: Path
    model: str

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the file *name* of at most *limit* bytes, or None where it does not exist."""
        if not os.path.lexists(self.path / name):
            return None
        return bytes(read_file(self.path, name, None, self.model, most=limit))

    def json(self, name: str, *, limit: int = MAX_JSON_BYTES) -> Fields:
        """Read the JSON file *name* of at most *limit* bytes; where it does not exist, an empty object."""
        return read_json(self.read(name, limit) or b"{}", model=self.model, where=name, limit=limit)

    def graph(self, name: str) -> bytes:
        """Return the graph *name*."""
        content = self.read(name, MAX_FILE_BYTES[GRAPH])
        if content is None:
            raise refusal(self.model, name, "missing", f"the graph that {GENAI_CONFIG} names")
        return content

    def data(self, name: str) -> memoryview:
        """Return the large tensors in the file *name*; empty where there is none."""
        if not os.path.lexists(self.path / name):
            return memoryview(b"")
        return memoryview(read_file(self.path, name, None, self.model, most=MAX_FILE_BYTES[DATA])).toreadonly()
