"""Checkpoint of an encoder to model folder: BERT, RoBERTa and XLM-RoBERTa, to embed or to classify.

How vectors are made of positions is read from the files that sentence-transformers puts beside the weights
(``modules.json``, ``1_Pooling/config.json``, ``sentence_bert_config.json``); without them it is the mean, as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.bert import ACTIVATIONS, EncoderShape, head_names, tensor_shapes, write_encoder
from llmos_onnx.checkpoint import CONFIG, MAX_CARD, Checkpoint, Progress, read_licence
from llmos_onnx.fields import Fields, read_json, refusal
from llmos_onnx.folder import write_folder
from llmos_onnx.graph import Graph
from llmos_onnx.imported import KINDS, MAX_LABELS, EncoderFacts, ImportedManifest
from llmos_onnx.manifest import CARD, DATA, GRAPH, TOKENIZER, SpecialTokens
from llmos_onnx.options import AUTO, HALF, ExportOptions
from llmos_onnx.shape import MAX_CONTEXT, MAX_LAYERS, MAX_VOCAB
from llmos_onnx.tokens import load_tokenizer
from llmos_onnx.weights import FORMATS, BlockInt, Format

ENCODERS: Final = ("bert", "roberta", "xlm-roberta")
"""The encoders that the native exporter writes, by their checkpoints' ``model_type``."""
_MAX_TOKENIZER: Final = 64 << 20
_MAX_WIDTH: Final = 1 << 16
_POOLING_KEYS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_TRANSFORMER, _POOLING, _NORMALIZE = "Transformer", "Pooling", "Normalize"
# Keys that change the numbers in ways that the graph does not know, and the values with which they change nothing.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "auto_map": (None,),
    "quantization_config": (None,),
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
}


def export_encoder(
    source: Path, target: Path, wanted: ExportOptions, progress: Progress | None = None
) -> ImportedManifest:
    """Write the model folder *target* from the encoder checkpoint *source*; options are those of a decoder.

    Raises `InvalidArgument` for a wrong option and `ModelUnavailable` for a checkpoint that cannot be exported, each
    naming the field, its value and what would be right.
    """
    _check_options(wanted)
    model = wanted.name or source.absolute().name
    with Checkpoint(source, model=model, progress=progress) as checkpoint:
        config = checkpoint.json(CONFIG, required=True)
        facts = _read_facts(checkpoint, config)
        shape = _read_shape(checkpoint, config, len(facts.labels))
        checkpoint.expect(tensor_shapes(shape), optional=_unused(checkpoint, shape))
        content = checkpoint.read(TOKENIZER, _MAX_TOKENIZER)
        if content is None:
            raise refusal(model, TOKENIZER, "missing", "the tokenizer in its one-file form")
        load_tokenizer(content, shape.vocab, model=model)
        card = checkpoint.read(CARD, MAX_CARD)
        manifest = ImportedManifest(
            name=model,
            layout="encoder",
            architecture=shape.architecture,
            kinds=KINDS["classify" if facts.labels else "embed"],
            context=_context(checkpoint, shape, wanted.context),
            vocab=shape.vocab,
            weights=wanted.weights,
            files={},
            tokens=SpecialTokens(pad=_pad(config, shape)),
            encoder=facts,
            licence=wanted.licence or read_licence(card),
            source=source.absolute().name,
            exporter="llmos native",
        )
        with write_folder(target) as folder:
            with folder.file(DATA) as data:
                graph = Graph(data)
                write_encoder(graph, shape, _format(wanted), checkpoint)
            folder.add(GRAPH, graph.serialise(shape.architecture))
            folder.add(TOKENIZER, content)
            if card is not None:
                folder.add(CARD, card)
            return folder.finish(manifest)


def _check_options(wanted: ExportOptions) -> None:
    """Refuse what means nothing to an encoder."""
    if wanted.kv != "float32":
        expected = "nothing: an encoder has no key and value cache"
        message = f"option kv is {wanted.kv!r}, expected {expected}"
        raise InvalidArgument(message, field="kv", value=wanted.kv, expected=expected)
    if wanted.weights in (AUTO, HALF):
        why = {AUTO: "formats are measured on decoders", HALF: "encoders run on the CPU"}[wanted.weights]
        expected = f"fp32, w8a8, q8 or q4: {why}"
        message = f"option weights is {wanted.weights!r}, expected {expected}"
        raise InvalidArgument(message, field="weights", value=wanted.weights, expected=expected)


def _format(wanted: ExportOptions) -> Format:
    form = FORMATS[wanted.weights]
    return attrs.evolve(form, blocks=wanted.blocks) if isinstance(form, BlockInt) and wanted.blocks else form


def _read_shape(checkpoint: Checkpoint, config: Fields, labels: int) -> EncoderShape:
    for key, neutral in _NEUTRAL.items():
        if config.values.get(key) not in neutral:
            raise config.refuse(key, " or ".join(repr(value) for value in neutral))
    architecture = config.choice("model_type", ENCODERS)
    prefix = {"bert": "bert."}.get(architecture, "roberta.")
    shape = EncoderShape(
        architecture=architecture,
        vocab=config.integer("vocab_size", 1, MAX_VOCAB),
        hidden=config.integer("hidden_size", 1, _MAX_WIDTH),
        layers=config.integer("num_hidden_layers", 1, MAX_LAYERS),
        heads=config.integer("num_attention_heads", 1, 4096),
        mlp=config.integer("intermediate_size", 1, _MAX_WIDTH),
        positions=config.integer("max_position_embeddings", 2, MAX_CONTEXT),
        first_position=0 if architecture == "bert" else config.integer("pad_token_id", 0, 1 << 16, default=1) + 1,
        types=config.integer("type_vocab_size", 1, 1 << 16, default=2),
        norm_eps=config.number("layer_norm_eps", 0.0, 1.0, default=1e-12),
        activation=config.choice("hidden_act", ACTIVATIONS, default="gelu"),
        labels=labels,
        prefix=prefix if any(name.startswith(prefix) for name in checkpoint.names) else "",
    )
    if shape.hidden % shape.heads:
        raise config.refuse("num_attention_heads", f"a divisor of hidden_size ({shape.hidden})")
    if shape.positions <= shape.first_position + 1:
        raise config.refuse("max_position_embeddings", f"more than {shape.first_position + 1}")
    return shape


def _unused(checkpoint: Checkpoint, shape: EncoderShape) -> frozenset[str]:
    """Return the tensors of heads that are not written: the pooler of a model that embeds, and language heads."""
    pooler = f"{shape.prefix}pooler.dense"
    heads = ("cls.", "lm_head.", *(() if pooler in head_names(shape) and shape.labels else (pooler,)))
    return frozenset(name for name in checkpoint.names if name.startswith(heads))


def _pad(config: Fields, shape: EncoderShape) -> int:
    return config.integer("pad_token_id", 0, shape.vocab - 1, default=0)


def _context(checkpoint: Checkpoint, shape: EncoderShape, wanted: int | None) -> int:
    """Return the most tokens of an input: what was asked for, what the model's makers say, or the position table."""
    longest = shape.positions - shape.first_position
    if wanted is not None and not 2 <= wanted <= longest:
        expected = f"an integer within 2 … {longest}"
        message = f"context is {wanted}, expected {expected}"
        raise InvalidArgument(message, field="context", value=wanted, expected=expected)
    settings = checkpoint.json("sentence_bert_config.json")
    return wanted or min(longest, settings.integer("max_seq_length", 2, 1 << 40, default=longest))


def _read_facts(checkpoint: Checkpoint, config: Fields) -> EncoderFacts:
    """Return what becomes of the encoder's output: classes where the checkpoint is a classifier, else vectors."""
    names = config.values.get("architectures")
    if isinstance(names, list) and any(str(name).endswith("ForSequenceClassification") for name in names):
        labels = read_labels(config)
        several = config.values.get("problem_type") == "multi_label_classification"
        return EncoderFacts(width=len(labels), labels=labels, scores="sigmoid" if several else "softmax")
    return read_pooling(checkpoint, width=config.integer("hidden_size", 1, _MAX_WIDTH))


def read_labels(config: Fields) -> tuple[str, ...]:
    """Return the classes of ``id2label`` in the order of their numbers; two of them where the file names none."""
    if not config.has("id2label"):
        return ("LABEL_0", "LABEL_1")
    named = config.inner("id2label")
    numbers = [str(number) for number in range(len(named.values))]
    if not 1 <= len(numbers) <= MAX_LABELS or set(numbers) != set(named.values):
        raise config.refuse("id2label", f"names for the numbers from 0 on, at most {MAX_LABELS}")
    labels = tuple(named.text(number, 200) for number in numbers)
    if len(set(labels)) != len(labels):
        raise config.refuse("id2label", "a different name for each number")
    return labels


def read_pooling(checkpoint: Checkpoint, *, width: int) -> EncoderFacts:
    """Return how vectors are made, as sentence-transformers' files beside the weights say."""
    modules = _modules(checkpoint)
    if not modules:
        return EncoderFacts(width=width)
    if modules[:2] != [_TRANSFORMER, _POOLING] or modules[2:] not in ([], [_NORMALIZE]):
        expected = f"{_TRANSFORMER}, {_POOLING}, and perhaps {_NORMALIZE}"
        raise refusal(checkpoint.model, "modules.json: type", modules, expected)
    pooling = checkpoint.json("1_Pooling/config.json", required=True)
    chosen = [key for key, value in pooling.values.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in _POOLING_KEYS:
        expected = f"exactly one of {', '.join(_POOLING_KEYS)}"
        raise refusal(checkpoint.model, "1_Pooling/config.json", chosen, expected)
    return EncoderFacts(width=width, pooling=_POOLING_KEYS[chosen[0]], normalize=_NORMALIZE in modules)


def _modules(checkpoint: Checkpoint) -> list[str]:
    """Return the last words of the types that ``modules.json`` lists; none where there is no such file."""
    content = checkpoint.read("modules.json", 1 << 16)
    if content is None:
        return []
    # The file is a list, and errors speak of objects: it is read as the only field of one.
    listed = read_json(b'{"modules":' + content + b"}", model=checkpoint.model, where="modules.json").values["modules"]
    items = listed if isinstance(listed, list) else []
    found = [str(item.get("type")).rpartition(".")[2] for item in items if isinstance(item, dict)]
    if not isinstance(listed, list) or len(found) != len(listed):
        raise refusal(checkpoint.model, "modules.json", listed, "a list of modules with their types")
    return found
