"""Routers for llmos: one module per rule, named by an entry point of the group ``llmos.router``."""

from llmos_routers._version import __version__

__all__ = ["__version__"]
