"""``llmos.json`` of the layouts other than the native decoder: whose graphs they are, and how they are to be read.

    encoder    one graph, ids in, vectors or label scores out; no cache
    decoder    one graph that takes past keys and values and returns them longer by the new tokens
    seq2seq    three graphs: the encoder, the decoder's first step, and its further steps

A manifest without ``layout`` is a native decoder's (`llmos_onnx.manifest`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from llmos_onnx.fields import Fields, nearest, read_json, refusal
from llmos_onnx.manifest import (
    CARD, DATA, FORMAT, GRAPH, MANIFEST, MAX_FILE_BYTES, TOKENIZER, FileEntry, Generation, SpecialTokens, read_entry,
    read_generation, read_tokens,
)  # fmt: skip
from llmos_onnx.shape import MAX_CONTEXT, MAX_LAYERS, MAX_VOCAB

ENCODER_GRAPH: Final = "encoder.onnx"
FIRST_GRAPH: Final = "decoder.onnx"
NEXT_GRAPH: Final = "decoder_with_past.onnx"
GRAPHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"encoder": (GRAPH,), "decoder": (GRAPH,), "seq2seq": (ENCODER_GRAPH, FIRST_GRAPH, NEXT_GRAPH)}
)
"""The graphs of each layout; the large tensors of each lie in a file of the same name with ``.data``."""
KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "embed": ("embed", "tokenize", "detokenize"),
        "classify": ("classify", "tokenize", "detokenize"),
        "generate": ("generate", "tokenize", "detokenize"),
    }
)
"""Task kinds by what the model is for."""
POOLINGS: Final = ("mean", "cls", "last", "max")
SCORES: Final = ("softmax", "sigmoid")
MAX_LABELS: Final = 10_000
_MAX_WIDTH: Final = 1 << 16
_MOST_PREFIX: Final = 16


@attrs.frozen(kw_only=True)
class EncoderFacts:
    """How an encoder's output becomes an answer."""

    width: int
    """Numbers per position of ``last_hidden_state``, or number of labels of ``logits``."""
    pooling: str = "mean"
    """How positions become one vector: ``mean`` over all of them, the first (``cls``), the ``last``, or ``max``."""
    normalize: bool = False
    """Vectors get the Euclidean length 1."""
    labels: tuple[str, ...] = ()
    """The classes, in the order of the scores; empty for a model that embeds."""
    scores: str = "softmax"
    """``softmax``: the labels exclude each other; ``sigmoid``: each is a question of its own."""


@attrs.frozen(kw_only=True)
class CacheFacts:
    """The key and value cache of a decoder whose graph is not ours."""

    layers: int
    kv_heads: int
    """Heads of keys and values."""
    head_dim: int
    prefix: tuple[int, ...] = ()
    """The tokens that an answer begins with (seq2seq)."""
    width: int = 0
    """Numbers per position of what the encoder gives the decoder (seq2seq)."""


def _frozen_files(files: Mapping[str, FileEntry]) -> Mapping[str, FileEntry]:
    return MappingProxyType(dict(files))


@attrs.frozen(kw_only=True)
class ImportedManifest:
    """Everything that is known of an imported folder without opening its graphs."""

    name: str
    layout: str
    """``encoder``, ``decoder`` or ``seq2seq``."""
    architecture: str
    """The checkpoint's ``model_type``, in its own words."""
    kinds: tuple[str, ...]
    """The task kinds that the model serves: one of the lists of `KINDS`."""
    context: int
    """Most tokens of one sequence, special tokens included."""
    vocab: int
    weights: str = "fp32"
    """How the exporter stored the weights, in words."""
    files: Mapping[str, FileEntry] = attrs.field(converter=_frozen_files)
    tokens: SpecialTokens = attrs.field(factory=SpecialTokens)
    generation: Generation = attrs.field(factory=Generation)
    chat_template: str | None = None
    encoder: EncoderFacts | None = None
    """Set where the layout is ``encoder``."""
    cache: CacheFacts | None = None
    """Set where the layout is ``decoder`` or ``seq2seq``."""
    licence: str = "unknown"
    source: str = "unknown"
    exporter: str = "unknown"
    """Who wrote the graph: the tool and its version."""
    format: int = FORMAT

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of the folder's graphs."""
        return GRAPHS[self.layout]

    def to_json(self) -> bytes:
        """Return the bytes of ``llmos.json``; `from_json` is the inverse."""
        values = attrs.asdict(attrs.evolve(self, files={}))
        values["files"] = {name: attrs.asdict(entry) for name, entry in sorted(self.files.items())}
        return (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, *, model: str) -> ImportedManifest:
        """Read ``llmos.json``; raise `ModelUnavailable` naming the first field that is wrong."""
        fields = read_json(data, model=model, where=MANIFEST)
        version = fields.values.get("format")
        if version != FORMAT or type(version) is not int:
            raise fields.refuse("format", f"{FORMAT}, the version that this release reads; export the model again")
        fields.only(name.name for name in attrs.fields(cls))
        layout = fields.choice("layout", GRAPHS)
        vocab = fields.integer("vocab", 1, MAX_VOCAB)
        return cls(
            name=fields.text("name", 200),
            layout=layout,
            architecture=fields.text("architecture", 100),
            kinds=_read_kinds(fields, layout),
            context=fields.integer("context", 2, MAX_CONTEXT),
            vocab=vocab,
            weights=fields.text("weights", 100),
            files=_read_files(fields.inner("files"), layout),
            tokens=read_tokens(fields.inner("tokens"), vocab),
            generation=read_generation(fields.inner("generation"), strict=True),
            chat_template=fields.text("chat_template", 500_000) if fields.has("chat_template") else None,
            encoder=_read_encoder(fields, layout),
            cache=_read_cache(fields, layout, vocab),
            licence=fields.text("licence", 200),
            source=fields.text("source", 500),
            exporter=fields.text("exporter", 200),
        )


def _absent(fields: Fields, name: str) -> None:
    if fields.has(name):
        raise fields.refuse(name, f"null: the layout {fields.values['layout']} has none")


def _read_kinds(fields: Fields, layout: str) -> tuple[str, ...]:
    possible: tuple[tuple[str, ...], ...] = (
        (KINDS["embed"], KINDS["classify"]) if layout == "encoder" else (KINDS["generate"],)
    )
    with_chat = tuple(("chat", *kinds) for kinds in possible if "generate" in kinds)
    value = fields.values.get("kinds")
    for kinds in (*possible, *with_chat):
        if value == list(kinds):
            return kinds
    raise fields.refuse("kinds", " or ".join(str(list(kinds)) for kinds in possible))


def _read_encoder(manifest: Fields, layout: str) -> EncoderFacts | None:
    if layout != "encoder":
        _absent(manifest, "encoder")
        return None
    fields = manifest.inner("encoder")
    fields.only(name.name for name in attrs.fields(EncoderFacts))
    width = fields.integer("width", 1, _MAX_WIDTH)
    labels = fields.values.get("labels")
    if not isinstance(labels, list) or len(labels) > MAX_LABELS:
        raise fields.refuse("labels", f"a list of at most {MAX_LABELS} names")
    names = tuple(name for name in labels if isinstance(name, str) and 0 < len(name) <= 200)
    if len(names) != len(labels) or len(set(names)) != len(names) or len(names) not in (0, width):
        raise fields.refuse("labels", f"no names, or {width} different ones of at most 200 characters")
    return EncoderFacts(
        width=width,
        pooling=fields.choice("pooling", POOLINGS),
        normalize=fields.flag("normalize"),
        labels=names,
        scores=fields.choice("scores", SCORES),
    )


def _read_cache(manifest: Fields, layout: str, vocab: int) -> CacheFacts | None:
    if layout == "encoder":
        _absent(manifest, "cache")
        return None
    fields = manifest.inner("cache")
    fields.only(name.name for name in attrs.fields(CacheFacts))
    return CacheFacts(
        layers=fields.integer("layers", 1, MAX_LAYERS),
        kv_heads=fields.integer("kv_heads", 1, 4096),
        head_dim=fields.integer("head_dim", 1, 4096),
        prefix=_read_prefix(fields, layout, vocab),
        width=fields.integer("width", 1, _MAX_WIDTH) if layout == "seq2seq" else fields.integer("width", 0, 0),
    )


def _read_prefix(fields: Fields, layout: str, vocab: int) -> tuple[int, ...]:
    prefix = fields.integers("prefix", 0, vocab - 1, most=_MOST_PREFIX)
    if bool(prefix) != (layout == "seq2seq"):
        expected = "the token that an answer begins with, and perhaps more" if layout == "seq2seq" else "no tokens"
        raise fields.refuse("prefix", expected)
    return prefix


def _read_files(fields: Fields, layout: str) -> dict[str, FileEntry]:
    most = limits(layout)
    for name in fields.values:
        if name not in most:
            expected = f"plain names of a model folder: {nearest(name, most)}"
            raise refusal(fields.model, fields.where, name, expected)
    for name in most:
        if name != CARD and name not in fields.values:
            raise fields.refuse(name, "its size and sha256: a folder without it is not complete")
    return {name: read_entry(fields.inner(name), most[name]) for name in fields.values}


def limits(layout: str) -> dict[str, int]:
    """Return the names of the files that a folder of *layout* may have, and the most bytes of each."""
    found = {TOKENIZER: MAX_FILE_BYTES[TOKENIZER], CARD: MAX_FILE_BYTES[CARD]}
    for graph in GRAPHS[layout]:
        found[graph], found[data_name(graph)] = MAX_FILE_BYTES[GRAPH], MAX_FILE_BYTES[DATA]
    return found


def data_name(graph: str) -> str:
    """Return the name of the file with *graph*'s large tensors."""
    return f"{graph}.data"
