"""The models of llmos over HTTP, in the form of OpenAI's API."""

from llmos_server._version import __version__

__all__ = ["__version__"]
