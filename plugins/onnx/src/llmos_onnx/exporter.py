"""The ``native`` exporter plugin: checkpoints of the Llama and BERT families to model folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llmos_kernel.services import Exporter, Progress
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_onnx.auto import explain
from llmos_onnx.export import export_folder
from llmos_onnx.options import ExportOptions

api: Final = 1
"""The version of the exporter contract that this plugin speaks."""


class NativeExporter(Exporter):
    """Writes model folders with `export_folder`; options are the fields of `llmos_onnx.options.ExportOptions`."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write *target* from *source*; *progress* hears of bytes of weights.

        Returns the manifest as plain values, and ``notes``: lines for a person, where there is something to say.
        Raises what `export_folder` raises.
        """
        manifest = export_folder(source, target, ExportOptions.read(options), progress)
        return {**json.loads(manifest.to_json()), "notes": explain(manifest)}


@hookimpl
def llmos_exporter(config: Mapping[str, Any]) -> Exporter:
    """``llmos.exporter``: the native exporter, which has no settings."""
    if config:
        name = next(iter(config))
        message = f"exporter native: {name} is {config[name]!r}, expected no settings"
        raise InvalidArgument(message, field=name, value=config[name], expected="no settings")
    return NativeExporter()
