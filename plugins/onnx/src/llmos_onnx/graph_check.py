"""A structural check of ``model.onnx``, before any runtime sees it."""

from llmos_onnx.manifest import Manifest


def check_graph(graph: bytes, manifest: Manifest, *, model: str) -> None:
    """Refuse."""
