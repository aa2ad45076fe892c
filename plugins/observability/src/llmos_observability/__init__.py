"""Watching llmos: measurements for Prometheus."""

from llmos_observability._version import __version__

__all__ = ["__version__"]
