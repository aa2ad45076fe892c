"""The ``native`` exporter plugin: checkpoints of the Llama family to model folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from llmos_kernel.services import Exporter, Progress
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_onnx.export import export_checkpoint
from llmos_onnx.options import ExportOptions

api: Final = 1
"""The version of the exporter contract that this plugin speaks."""


class NativeExporter(Exporter):
    """Writes model folders with `export_checkpoint`; options are the fields of `llmos_onnx.options.ExportOptions`."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write *target* from *source*; *progress* hears of bytes of weights.

        Returns the manifest as plain values.  Raises what `export_model` raises, and `InvalidArgument` for an option
        that is unknown or of the wrong type.
        """
        manifest = export_checkpoint(source, target, ExportOptions.read(options), progress)
        facts = attrs.asdict(attrs.evolve(manifest, files={}))
        return facts | {"files": {name: attrs.asdict(entry) for name, entry in manifest.files.items()}}


@hookimpl
def llmos_exporter(config: Mapping[str, Any]) -> Exporter:
    """``llmos.exporter``: the native exporter, which has no settings."""
    if config:
        name = next(iter(config))
        message = f"exporter native: {name} is {config[name]!r}, expected no settings"
        raise InvalidArgument(message, field=name, value=config[name], expected="no settings")
    return NativeExporter()
