"""Runs language models for llmos with ONNX Runtime, and exports checkpoints to model folders.

The plugins are announced by entry points: the backend in `llmos_onnx.backend`, the exporter in `llmos_onnx.exporter`.
Importing this package imports neither the runtime nor numpy.
"""

from llmos_onnx._version import __version__

__all__ = ["__version__"]
