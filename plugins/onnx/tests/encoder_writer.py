"""Writes small encoder checkpoints with random weights, as Hugging Face and sentence-transformers lay them out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from plugins.onnx.tests.checkpoint_writer import write_safetensors

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

WORDS = (
    "the a cat dog sat ran on under mat tree big small red green and or not very sun moon rain . , ! ? [ ] sep cls un "
    "##s ##ed ##ing"
).split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@attrs.frozen(kw_only=True)
class EncoderRecipe:
    """What to write."""

    arch: str = "bert"
    """``bert``, ``roberta`` or ``xlm-roberta``."""
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    mlp: int = 64
    positions: int = 40
    types: int = 2
    activation: str = "gelu"
    labels: tuple[str, ...] = ()
    """Classes; a checkpoint with some has a classifier's head."""
    pooling: str = ""
    """The mode that sentence-transformers' files name; without one there are no such files."""
    normalize: bool = False
    config: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def vocab(self) -> int:
        """Size of the vocabulary, a few more than the tokenizer uses."""
        return len(SPECIAL) + len(WORDS) + 3


def write_encoder_checkpoint(target: Path, recipe: EncoderRecipe, *, seed: int = 0) -> Path:
    """Write the folder *target*, which must not exist, and return it."""
    target.mkdir(parents=True)
    _write_json(target / "config.json", config(recipe))
    (target / "tokenizer.json").write_text(tokenizer(), encoding="utf-8")
    values = tensors(recipe, seed)
    shapes = {name: value.shape for name, value in values.items()}
    write_safetensors(target / "model.safetensors", shapes, iter(values.items()), "F32")
    if recipe.pooling:
        kinds = ["Transformer", "Pooling", *(["Normalize"] if recipe.normalize else [])]
        modules = [{"idx": at, "type": f"sentence_transformers.models.{kind}"} for at, kind in enumerate(kinds)]
        _write_json(target / "modules.json", modules)
        (target / "1_Pooling").mkdir()
        modes = ("cls_token", "mean_tokens", "max_tokens", "lasttoken", "mean_sqrt_len_tokens")
        chosen = {f"pooling_mode_{mode}": mode == recipe.pooling for mode in modes}
        _write_json(target / "1_Pooling" / "config.json", {"word_embedding_dimension": recipe.hidden, **chosen})
    return target


def config(recipe: EncoderRecipe) -> dict[str, Any]:
    """Return what ``config.json`` says."""
    kind = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}[recipe.arch]
    values: dict[str, Any] = {
        "architectures": [f"{kind}ForSequenceClassification" if recipe.labels else f"{kind}Model"],
        "model_type": recipe.arch,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.mlp,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "max_position_embeddings": recipe.positions,
        "type_vocab_size": recipe.types,
        "vocab_size": recipe.vocab,
        "hidden_act": recipe.activation,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    if recipe.labels:
        values["id2label"] = {str(number): label for number, label in enumerate(recipe.labels)}
        values["label2id"] = {label: number for number, label in enumerate(recipe.labels)}
    return values | dict(recipe.config)


def tensors(recipe: EncoderRecipe, seed: int = 0) -> dict[str, Floats]:
    """Return each tensor by the name that checkpoints give it."""
    rng = np.random.default_rng(seed)
    hidden, prefix = recipe.hidden, ""
    if recipe.labels:
        prefix = "bert." if recipe.arch == "bert" else "roberta."
    found: dict[str, Floats] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        found[f"{name}.weight"] = rng.standard_normal((rows, columns), np.float32) / np.float32(math.sqrt(columns))
        found[f"{name}.bias"] = rng.standard_normal(rows, np.float32) * np.float32(0.1)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = 1 + rng.standard_normal(hidden, np.float32) * np.float32(0.1)
        found[f"{name}.bias"] = rng.standard_normal(hidden, np.float32) * np.float32(0.1)

    sizes = {"word": recipe.vocab, "position": recipe.positions, "token_type": recipe.types}
    for name, rows in sizes.items():
        found[f"{prefix}embeddings.{name}_embeddings.weight"] = rng.standard_normal((rows, hidden), np.float32)
    norm(f"{prefix}embeddings.LayerNorm")
    for layer in range(recipe.layers):
        name = f"{prefix}encoder.layer.{layer}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{name}attention.{part}", hidden, hidden)
        norm(name + "attention.output.LayerNorm")
        linear(name + "intermediate.dense", recipe.mlp, hidden)
        linear(name + "output.dense", hidden, recipe.mlp)
        norm(name + "output.LayerNorm")
    _heads(recipe, prefix, linear)
    return found


def _heads(recipe: EncoderRecipe, prefix: str, linear: Any) -> None:
    if recipe.arch == "bert":
        linear(f"{prefix}pooler.dense", recipe.hidden, recipe.hidden)
    if recipe.labels and recipe.arch == "bert":
        linear("classifier", len(recipe.labels), recipe.hidden)
    elif recipe.labels:
        linear("classifier.dense", recipe.hidden, recipe.hidden)
        linear("classifier.out_proj", len(recipe.labels), recipe.hidden)


def tokenizer() -> str:
    """Return ``tokenizer.json``: WordPiece over `WORDS`, with BERT's frame of special tokens."""
    vocab = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.add_special_tokens(list(SPECIAL))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    frame = [("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=frame
    )
    made.enable_truncation(16)  # published tokenizers say such things, and a server must not follow them silently
    made.enable_padding(length=16)
    return str(made.to_str())


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
