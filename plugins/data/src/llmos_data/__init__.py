"""Processors for llmos: one module per processor, named by an entry point of the group ``llmos.processor``."""

from llmos_data._version import __version__

__all__ = ["__version__"]
