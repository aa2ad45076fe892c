"""Exports checkpoints with Hugging Face's optimum, in a process of its own: the exporter ``optimum``."""

from llmos_optimum._version import __version__

__all__ = ["__version__"]
