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
from plugins.onnx.tests.imported_writer import write_imported
from llmos_onnx.export import export_folder
from llmos_onnx.options import ExportOptions


def _writes(folder: Path) -> Served:
    """Return a model that writes, with few slots."""
    options = {"slots": 4, "threads": 1}
    spec = ModelSpec(name="small", backend="onnx", path=str(folder), kinds=("generate", "tokenize"), options=options)
    return Served(OnnxBackend({}), spec, {"generate": "the fox"}, {"max_tokens": 6, "temperature": 0.0})


class TestDecoder(BackendConformance):
    """A model that writes."""

    @pytest.fixture
    def served(self, model_folder: Callable[..., Path]) -> Served:
        """A small one with random weights."""
        return _writes(model_folder("nano", "fp32"))


class TestGenai(BackendConformance):
    """A folder of onnxruntime-genai's builder."""

    @pytest.fixture
    def served(self) -> Served:
        """The smallest, with four-bit weights."""
        return _writes(Path(__file__).parent / "data" / "genai" / "int4")


class TestImported(BackendConformance):
    """A folder as optimum exports it: graphs that return their whole cache."""

    @pytest.fixture(params=[False, True], ids=["decoder", "seq2seq"])
    def served(self, request: pytest.FixtureRequest, tmp_path: Path) -> Served:
        """Each layout."""
        return _writes(write_imported(tmp_path / "model", seq2seq=bool(request.param)))


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
