"""From a checkpoint to a model folder in one format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmos_onnx.architectures import read_shape
from llmos_onnx.calibration import BUILT_IN, cache_scales, make_cache_int8, pieces, read_text
from llmos_onnx.checkpoint import CONFIG, MAX_CARD, Checkpoint, Progress, read_licence
from llmos_onnx.decoder import HEAD, tensor_shapes, write_decoder
from llmos_onnx.folder import FolderWriter, write_folder
from llmos_onnx.graph import Graph
from llmos_onnx.manifest import CARD, DATA, GRAPH, TOKENIZER, Manifest
from llmos_onnx.tokens import load_tokenizer, read_text_settings
from llmos_onnx.weights import weight_format

if TYPE_CHECKING:
    from llmos_onnx.options import ExportOptions


def write_model_folder(source: Path, target: Path, wanted: ExportOptions, progress: Progress | None = None) -> Manifest:
    """Write the model folder *target* from the checkpoint *source* in one format, and return its manifest.

    *wanted* is checked already, and names a format.  *progress* hears of every block of weights.  Memory is bounded: a
    few blocks, and the scales of one matrix; with an int8 cache, the weights that are loaded to calibrate it besides.
    *target* appears whole or not at all.  Raises what `llmos_onnx.export.export_model` raises.
    """
    model = wanted.name or source.absolute().name
    with Checkpoint(source, model=model, progress=progress) as checkpoint:
        config = checkpoint.json(CONFIG, required=True)
        shape = read_shape(config, context=wanted.context)
        checkpoint.expect(tensor_shapes(shape), optional=frozenset({HEAD} if shape.tied else ()))
        text = read_text_settings(checkpoint, config, shape)
        card = checkpoint.read(CARD, MAX_CARD)
        manifest = Manifest(
            name=model,
            shape=shape,
            weights=wanted.weights,
            blocks=wanted.blocks,
            kv=wanted.cache,
            calibration=_calibrated_by(wanted),
            files={},
            tokens=text.tokens,
            generation=text.generation,
            chat_template=text.chat_template,
            licence=wanted.licence or read_licence(card),
            source=source.absolute().name,
        )
        prompts = _prompts(wanted, manifest, text.tokenizer)
        with write_folder(target) as folder:
            _write_model(folder, manifest, checkpoint, prompts)
            folder.add(TOKENIZER, text.tokenizer)
            if card is not None:
                folder.add(CARD, card)
            return folder.finish(manifest)


def _calibrated_by(wanted: ExportOptions) -> str | None:
    """Return what the manifest says of the text that scales come from."""
    if wanted.kv != "int8":
        return None
    return BUILT_IN if wanted.calibration is None else Path(wanted.calibration).name[:200]


def _prompts(wanted: ExportOptions, manifest: Manifest, tokenizer: bytes) -> list[list[int]]:
    """Return what the export reads for its scales; nothing where it needs none."""
    if manifest.kv != "int8":
        return []
    parsed = load_tokenizer(tokenizer, manifest.shape.vocab, model=manifest.name)
    return pieces(read_text(wanted.calibration), parsed, manifest.tokens, manifest.shape.context)


def _write_model(folder: FolderWriter, manifest: Manifest, checkpoint: Checkpoint, prompts: list[list[int]]) -> None:
    with folder.file(DATA) as data:
        graph = Graph(data)
        write_decoder(graph, manifest.shape, weight_format(manifest), checkpoint)
        if manifest.kv == "int8":
            with data.mapped() as weights:
                scales = cache_scales(graph.serialise(manifest.architecture), weights, manifest, prompts)
            make_cache_int8(graph, manifest, scales)
    folder.add(GRAPH, graph.serialise(manifest.architecture))
