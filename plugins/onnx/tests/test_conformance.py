"""The backend and the exporter keep their contracts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmos.testing.conformance import BackendConformance, Export, ExporterConformance, Served
from llmos_kernel import ModelSpec
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.exporter import NativeExporter
from plugins.onnx.tests.encoder_writer import EncoderRecipe, write_encoder_checkpoint
from llmos_onnx.export import export_folder
from llmos_onnx.options import ExportOptions


class TestDecoder(BackendConformance):
    """A model that writes."""

    @pytest.fixture
    def served(self, model_folder: Callable[..., Path]) -> Served:
        """A small one with random weights."""
        spec = ModelSpec(
            name="small", backend="onnx", path=str(model_folder("nano", "fp32")), kinds=("generate", "tokenize"),
            options={"slots": 4, "threads": 1},
        )  # fmt: skip
        return Served(OnnxBackend({}), spec, {"generate": "the fox"}, {"max_tokens": 6, "temperature": 0.0})


class TestEncoder(BackendConformance):
    """A model that turns texts into vectors."""

    @pytest.fixture
    def served(self, tmp_path: Path) -> Served:
        """A small one with random weights."""
        source = write_encoder_checkpoint(tmp_path / "checkpoint", EncoderRecipe(pooling="mean_tokens"))
        export_folder(source, tmp_path / "model", ExportOptions())
        return Served(
            OnnxBackend({}), ModelSpec(name="small", backend="onnx", path=str(tmp_path / "model"), kinds=("embed",))
        )


class TestNative(ExporterConformance):
    """The exporter."""

    @pytest.fixture
    def export(self, checkpoint: Callable[[str], Path]) -> Export:
        """A small checkpoint with random weights."""
        return Export(NativeExporter(), checkpoint("nano"), {"weights": "q8"})
