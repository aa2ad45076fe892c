"""Checkpoint to model folder: ``python -m llmos_onnx.export SOURCE TARGET --format w8a8``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from llmos_kernel.errors import KernelError
from llmos_onnx.architectures import read_shape
from llmos_onnx.calibration import BUILT_IN, cache_scales, make_cache_int8, pieces, read_text
from llmos_onnx.checkpoint import CONFIG, Checkpoint, Progress
from llmos_onnx.decoder import HEAD, tensor_shapes, write_decoder
from llmos_onnx.folder import FolderWriter, write_folder
from llmos_onnx.graph import Graph
from llmos_onnx.manifest import CARD, DATA, GRAPH, KV_FORMATS, TOKENIZER, WEIGHTS, Manifest
from llmos_onnx.tokens import load_tokenizer, read_text_settings
from llmos_onnx.options import ExportOptions
from llmos_onnx.weights import weight_format

_MAX_CARD: Final = 1 << 20
_LICENCE: Final = re.compile(r"^license:\s*['\"]?([^'\"\s]{1,100})", re.MULTILINE)


def export_model(source: Path, target: Path, *, progress: Progress | None = None, **options: object) -> Manifest:
    """Write the model folder *target* from the checkpoint *source*, and return its manifest.

    *options* are the fields of `ExportOptions`.  *progress* hears of every block of weights.  Memory is bounded: a few
    blocks, and the scales of one matrix.  *target* appears whole or not at all.

    Raises `InvalidArgument` for a wrong option and `ModelUnavailable` for a checkpoint that cannot be exported, each
    naming the field, its value and what would be right.
    """
    return export_checkpoint(source, target, ExportOptions.read(options), progress)


def export_checkpoint(source: Path, target: Path, wanted: ExportOptions, progress: Progress | None = None) -> Manifest:
    """Do what `export_model` does, with options that are checked already."""
    model = wanted.name or source.absolute().name
    with Checkpoint(source, model=model, progress=progress) as checkpoint:
        config = checkpoint.json(CONFIG, required=True)
        shape = read_shape(config, context=wanted.context)
        checkpoint.expect(tensor_shapes(shape), optional=frozenset({HEAD} if shape.tied else ()))
        text = read_text_settings(checkpoint, config, shape)
        card = checkpoint.read(CARD, _MAX_CARD)
        manifest = Manifest(
            name=model,
            shape=shape,
            weights=wanted.weights,
            blocks=wanted.blocks,
            kv=wanted.kv,
            calibration=_calibrated_by(wanted),
            files={},
            tokens=text.tokens,
            generation=text.generation,
            chat_template=text.chat_template,
            licence=wanted.licence or _licence(card),
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


def _licence(card: bytes | None) -> str:
    """Return the licence that a model card's front matter names."""
    parts = (card or b"").decode("utf-8", "replace").split("---", 2)
    found = _LICENCE.search(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    return found[1] if found else "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m llmos_onnx.export", description=__doc__)
    parser.add_argument("source", type=Path, help="folder with config.json and safetensors")
    parser.add_argument("target", type=Path, help="the model folder to write; must not exist")
    parser.add_argument("--format", "--weights", dest="weights", choices=WEIGHTS, default="fp32")
    parser.add_argument("--block-size", type=int, help="q8, q4: inputs that share a scale: 16, 32, 64, 128")
    parser.add_argument("--asymmetric", action="store_true", help="q8, q4: a zero point per block")
    parser.add_argument("--search", action="store_true", help="q8, q4: search the scales of least squared error")
    parser.add_argument("--accuracy-level", type=int, help="q8, q4: 4 rounds activations to 8 bits, 1 does not")
    parser.add_argument("--kv", choices=KV_FORMATS, help="type of the key and value cache (default: float32)")
    parser.add_argument("--calibration", metavar="FILE", help="a text from which the scales of --kv int8 are found")
    parser.add_argument("--context", type=int, help="longest sequence in tokens (default: the model's own)")
    parser.add_argument("--name")
    parser.add_argument("--licence")
    options = parser.parse_args(arguments)
    try:
        manifest = export_model(**vars(options))
    except KernelError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - a command says how it went
        return 1
    size = sum(entry.size for entry in manifest.files.values())
    print(f"{manifest.name}: {manifest.architecture}, {manifest.weights}, {size / 1e6:.1f} MB")  # noqa: T201 - the same
    return 0


if __name__ == "__main__":
    sys.exit(main())
