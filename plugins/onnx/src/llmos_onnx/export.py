"""Checkpoint to model folder: ``python -m llmos_onnx.export SOURCE TARGET --format w8a8``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmos_kernel.errors import KernelError
from llmos_onnx.auto import explain, export_fastest
from llmos_onnx.checkpoint import CONFIG
from llmos_onnx.encoder_export import ENCODERS, export_encoder
from llmos_onnx.fields import MAX_JSON_BYTES, read_json
from llmos_onnx.manifest import GOALS, KV_FORMATS, WEIGHTS, Manifest
from llmos_onnx.options import AUTO, ExportOptions
from llmos_onnx.writing import write_model_folder

if TYPE_CHECKING:
    from llmos_onnx.checkpoint import Progress
    from llmos_onnx.imported import ImportedManifest


def export_model(source: Path, target: Path, *, progress: Progress | None = None, **options: object) -> Manifest:
    """Write the model folder *target* from the checkpoint *source*, and return its manifest.

    *options* are the fields of `ExportOptions`.  *progress* hears of every block of weights.  *target* appears whole or
    not at all.  Memory is bounded: `write_model_folder` says by what, and `export_fastest` how formats are chosen.

    Raises `InvalidArgument` for a wrong option and `ModelUnavailable` for a checkpoint that cannot be exported, each
    naming the field, its value and what would be right.
    """
    return _export_decoder(source, target, ExportOptions.read(options), progress)


def export_folder(
    source: Path, target: Path, wanted: ExportOptions, progress: Progress | None = None
) -> Manifest | ImportedManifest:
    """Write a decoder as `export_model` does, or an encoder with `export_encoder`, whichever *source* is."""
    # A file that cannot be read is named by who needs it.
    with contextlib.suppress(OSError), (source / CONFIG).open("rb") as file:
        config = read_json(file.read(MAX_JSON_BYTES + 1), model=source.absolute().name, where=CONFIG)
        if config.values.get("model_type") in ENCODERS:
            return export_encoder(source, target, wanted, progress)
    return _export_decoder(source, target, wanted, progress)


def _export_decoder(source: Path, target: Path, wanted: ExportOptions, progress: Progress | None) -> Manifest:
    export = export_fastest if wanted.weights == AUTO else write_model_folder
    return export(source, target, wanted, progress)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m llmos_onnx.export", description=__doc__)
    parser.add_argument("source", type=Path, help="folder with config.json and safetensors")
    parser.add_argument("target", type=Path, help="the model folder to write; must not exist")
    parser.add_argument("--format", "--weights", dest="weights", choices=(*WEIGHTS, AUTO), default="fp32")
    parser.add_argument("--for", dest="goal", choices=GOALS, help="what --format auto looks for (default: balanced)")
    parser.add_argument("--block-size", type=int, help="q8, q4: inputs that share a scale: 16, 32, 64, 128")
    parser.add_argument("--asymmetric", action="store_true", help="q8, q4: a zero point per block")
    parser.add_argument("--search", action="store_true", help="q8, q4: search the scales of least squared error")
    parser.add_argument("--accuracy-level", type=int, help="q8, q4: 4 rounds activations to 8 bits, 1 does not")
    parser.add_argument("--kv", choices=KV_FORMATS, help="type of the key and value cache (default: float32)")
    parser.add_argument("--calibration", metavar="FILE", help="a text from which the scales of --kv int8 are found")
    parser.add_argument("--context", type=int, help="longest sequence in tokens (default: the model's own)")
    parser.add_argument("--name")
    parser.add_argument("--licence")
    options = vars(parser.parse_args(arguments))
    source, target = options.pop("source"), options.pop("target")
    try:
        manifest = export_folder(source, target, ExportOptions.read(options))
    except KernelError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - a command says how it went
        return 1
    for line in explain(manifest):
        print(line)  # noqa: T201 - the same
    size = sum(entry.size for entry in manifest.files.values())
    print(f"{manifest.name}: {manifest.architecture}, {manifest.weights}, {size / 1e6:.1f} MB")  # noqa: T201 - the same
    return 0


if __name__ == "__main__":
    sys.exit(main())
