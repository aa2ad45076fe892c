"""Models that run elsewhere, behind the APIs of their makers, as models of llmos."""

from llmos_remote._version import __version__

__all__ = ["__version__"]
