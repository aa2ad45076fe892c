"""``llmos.json``: what a model folder holds, and how it was made.

The manifest is the only file of a folder that is read without a hash; it holds the hashes of the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import attrs

from llmos_onnx.fields import Fields, nearest, read_json, refusal
from llmos_onnx.shape import MAX_VOCAB, Shape

FORMAT: Final = 1
"""Version of the folder's layout and of the graph's contract; a reader knows exactly one."""
MANIFEST: Final = "llmos.json"
GRAPH: Final = "model.onnx"
DATA: Final = "model.onnx.data"
TOKENIZER: Final = "tokenizer.json"
CARD: Final = "README.md"
REQUIRED: Final = (GRAPH, DATA, TOKENIZER)

WEIGHTS: Final = ("fp32", "fp16", "w8a8", "q8", "q4")
"""The weight formats that the native exporter writes."""
KV_FORMATS: Final = ("float32", "float16", "int8")
"""Numpy types that keys and values may be kept in; float16 goes with fp16 weights, and they with nothing else."""
BLOCK_SIZES: Final = (16, 32, 64, 128)
"""How many inputs may share a scale in the formats that round block by block."""
ACCURACY_LEVELS: Final = (1, 4)
"""Values of `Blocks.accuracy_level`."""

GOALS: Final = ("balanced", "latency", "throughput")
"""What a format may be chosen for."""

MAX_FILE_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {GRAPH: 64 << 20, DATA: 64 << 30, TOKENIZER: 64 << 20, CARD: 1 << 20}
)
"""The files that a folder may have, and the most bytes of each."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@attrs.frozen(kw_only=True)
class FileEntry:
    """One file of the folder: its size in bytes and its SHA-256 in lower-case hexadecimal."""

    size: int
    sha256: str


def _frozen_files(files: Mapping[str, FileEntry]) -> Mapping[str, FileEntry]:
    return MappingProxyType(dict(files))


@attrs.frozen(kw_only=True)
class SpecialTokens:
    """The token ids that have a meaning of their own."""

    bos: int | None = None
    """Begins a text."""
    eos: tuple[int, ...] = ()
    """Each of these ends a generation."""
    pad: int | None = None
    add_bos: bool = False
    """A plain prompt is encoded with `bos` in front (chat templates write it themselves)."""


@attrs.frozen(kw_only=True)
class Generation:
    """The sampling that the model's makers recommend; None where they say nothing."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


@attrs.frozen(kw_only=True)
class Blocks:
    """How the weights of q8 and q4 were rounded."""

    size: int = 64
    """Inputs that share a scale, one of `BLOCK_SIZES`; less where a matrix's width is no multiple of it."""
    symmetric: bool = True
    """Zero is the middle of the integers; otherwise each block has a zero point of its own."""
    search: bool = False
    """Scales were searched for the least squared error, not taken from each block's extremes."""
    accuracy_level: int = 4
    """4: products round activations to 8 bits per block, which processors multiply fast; 1: they do not."""


@attrs.frozen(kw_only=True)
class Speeds:
    """What one format did on the machine that exported the model, in tokens per second."""

    prefill: float
    """Prompt of one sequence."""
    decode_1: float
    """Output of one sequence alone."""
    decode_16: float
    """Output of 16 sequences together."""

    @classmethod
    def read(cls, fields: Fields) -> Speeds:
        """Check the object *fields*; raise `ModelUnavailable` naming the field that is wrong."""
        fields.only(name.name for name in attrs.fields(cls))
        return cls(**{name.name: fields.number(name.name, 1e-9, 1e12) for name in attrs.fields(cls)})


class Decodes(Protocol):
    """What the engine asks of a manifest, whatever the folder's layout."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def vocab(self) -> int:
        """How many token ids there are, and logits per position."""

    @property
    def tokens(self) -> SpecialTokens:
        """The token ids that have a meaning of their own."""

    @property
    def generation(self) -> Generation:
        """The sampling that the model's makers recommend."""

    @property
    def chat_template(self) -> str | None:
        """Jinja source; None for a model without a chat form."""


def _frozen_speeds(speeds: Mapping[str, Speeds]) -> Mapping[str, Speeds]:
    return MappingProxyType(dict(speeds))


@attrs.frozen(kw_only=True)
class Choice:
    """How the format of the weights was chosen, where the exporter was left to choose."""

    goal: str
    """One of `GOALS`."""
    speeds: Mapping[str, Speeds] = attrs.field(converter=_frozen_speeds)
    """By format: what was measured."""
    spread: float = 0.0
    """By what share rounds of one format differed, where the machine was too busy for the clock to decide."""


@attrs.frozen(kw_only=True)
class Manifest:
    """Everything that is known of a model folder without opening its graph."""

    name: str
    shape: Shape
    weights: str
    """How matrices are stored and multiplied: one of `WEIGHTS`."""
    blocks: Blocks | None = None
    """How weights were rounded block by block; None for other formats, and where it was not recorded."""
    choice: Choice | None = None
    """Why it is this format, where it was not asked for by name."""
    kv: str = "float32"
    """Element type of the key and value cache: one of `KV_FORMATS`."""
    calibration: str | None = None
    """The text by which scales were found, in words; None where none was needed."""
    files: Mapping[str, FileEntry] = attrs.field(converter=_frozen_files)
    """The folder's files by plain name; those of `REQUIRED` are always among them."""
    tokens: SpecialTokens
    generation: Generation = Generation()
    chat_template: str | None = None
    """Jinja source; None for a model without a chat form."""
    licence: str = "unknown"
    source: str = "unknown"
    """Where the weights came from, in words."""
    format: int = FORMAT

    @property
    def architecture(self) -> str:
        """The decoder's family: ``llama``, ``mistral``, ``qwen2`` or ``qwen3``."""
        return self.shape.architecture

    @property
    def vocab(self) -> int:
        """How many token ids there are, and logits per position."""
        return self.shape.vocab

    def to_json(self) -> bytes:
        """Return the bytes of ``llmos.json``; `from_json` is the inverse."""
        values = attrs.asdict(attrs.evolve(self, files={}, choice=None))
        if self.choice is not None:
            speeds = {name: attrs.asdict(found) for name, found in self.choice.speeds.items()}
            values["choice"] = {"goal": self.choice.goal, "speeds": speeds, "spread": self.choice.spread}
        values["files"] = {name: attrs.asdict(entry) for name, entry in sorted(self.files.items())}
        return (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, *, model: str) -> Manifest:
        """Read ``llmos.json``; raise `ModelUnavailable` naming the first field that is wrong.

        *model* is the name under which errors speak of the folder.
        """
        fields = read_json(data, model=model, where=MANIFEST)
        version = fields.values.get("format")
        if version != FORMAT or type(version) is not int:
            raise fields.refuse("format", f"{FORMAT}, the version that this release reads; export the model again")
        fields.only(name.name for name in attrs.fields(cls))
        shape = Shape.read(fields.inner("shape"))
        if (fields.values.get("weights") == "fp16") != (fields.values.get("kv") == "float16"):
            raise fields.refuse("kv", "float16 where the weights are fp16, and only there")
        return cls(
            name=fields.text("name", 200),
            shape=shape,
            weights=fields.choice("weights", WEIGHTS),
            blocks=_read_blocks(fields.inner("blocks")) if fields.has("blocks") else None,
            choice=_read_choice(fields.inner("choice")) if fields.has("choice") else None,
            kv=fields.choice("kv", KV_FORMATS),
            calibration=fields.text("calibration", 200) if fields.has("calibration") else None,
            files=_read_files(fields.inner("files")),
            tokens=read_tokens(fields.inner("tokens"), shape.vocab),
            generation=read_generation(fields.inner("generation"), strict=True),
            chat_template=fields.text("chat_template", 500_000) if fields.has("chat_template") else None,
            licence=fields.text("licence", 200),
            source=fields.text("source", 500),
        )


def _read_files(fields: Fields) -> dict[str, FileEntry]:
    for name in fields.values:
        if name not in MAX_FILE_BYTES:
            expected = f"plain names of a model folder: {nearest(name, MAX_FILE_BYTES)}"
            raise refusal(fields.model, fields.where, name, expected)
    for name in REQUIRED:
        if name not in fields.values:
            raise fields.refuse(name, "its size and sha256: a folder without it is not complete")
    return {name: read_entry(fields.inner(name), MAX_FILE_BYTES[name]) for name in fields.values}


def read_entry(fields: Fields, most: int) -> FileEntry:
    """Read what the manifest says of a file of at most *most* bytes."""
    fields.only(("size", "sha256"))
    digest = fields.text("sha256", 64)
    if not _SHA256.fullmatch(digest):
        raise fields.refuse("sha256", "64 lower-case hexadecimal digits")
    return FileEntry(size=fields.integer("size", 0, most), sha256=digest)


def _read_blocks(fields: Fields) -> Blocks:
    fields.only(name.name for name in attrs.fields(Blocks))
    size = fields.integer("size", 1, BLOCK_SIZES[-1])
    level = fields.integer("accuracy_level", 0, ACCURACY_LEVELS[-1])
    if size not in BLOCK_SIZES:
        raise fields.refuse("size", f"one of {', '.join(map(str, BLOCK_SIZES))}")
    if level not in ACCURACY_LEVELS:
        raise fields.refuse("accuracy_level", f"one of {', '.join(map(str, ACCURACY_LEVELS))}")
    symmetric, search = fields.flag("symmetric"), fields.flag("search")
    return Blocks(size=size, symmetric=symmetric, search=search, accuracy_level=level)


def _read_choice(fields: Fields) -> Choice:
    fields.only(name.name for name in attrs.fields(Choice))
    goal, inner = fields.choice("goal", GOALS), fields.inner("speeds")
    inner.only(WEIGHTS)
    speeds = {name: Speeds.read(inner.inner(name)) for name in inner.values}
    return Choice(goal=goal, speeds=speeds, spread=fields.number("spread", 0, 1e9, default=0.0))


def read_tokens(fields: Fields, vocab: int) -> SpecialTokens:
    """Read the special tokens, ids below *vocab*."""
    fields.only(name.name for name in attrs.fields(SpecialTokens))
    last = min(vocab, MAX_VOCAB) - 1
    return SpecialTokens(
        bos=fields.integer("bos", 0, last) if fields.has("bos") else None,
        eos=fields.integers("eos", 0, last, most=64),
        pad=fields.integer("pad", 0, last) if fields.has("pad") else None,
        add_bos=fields.flag("add_bos"),
    )


def read_generation(fields: Fields, *, strict: bool) -> Generation:
    """Read sampling defaults; *strict* refuses other keys (ours), without it they are passed over (a checkpoint's)."""
    if strict:
        fields.only(name.name for name in attrs.fields(Generation))
    return Generation(
        temperature=fields.number("temperature", 0.0, 100.0) if fields.has("temperature") else None,
        top_k=fields.integer("top_k", 0, MAX_VOCAB) if fields.has("top_k") else None,
        top_p=fields.number("top_p", 0.0, 1.0) if fields.has("top_p") else None,
        min_p=fields.number("min_p", 0.0, 1.0) if fields.has("min_p") else None,
        repetition_penalty=fields.number("repetition_penalty", 0.01, 100.0)
        if fields.has("repetition_penalty")
        else None,
    )
