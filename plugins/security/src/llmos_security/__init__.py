"""Who may come, and what they may do: API keys on the command line, and a policy of rules."""

from llmos_security._version import __version__

__all__ = ["__version__"]
