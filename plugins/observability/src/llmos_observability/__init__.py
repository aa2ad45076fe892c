"""Watching llmos: measurements for Prometheus, spans for OpenTelemetry, a log in JSON."""

from llmos_observability._version import __version__

__all__ = ["__version__"]
