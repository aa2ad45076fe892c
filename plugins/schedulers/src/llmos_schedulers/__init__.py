"""Scheduling policies for llmos: one module per policy, named by an entry point of the group ``llmos.scheduler``."""

from llmos_schedulers._version import __version__

__all__ = ["__version__"]
