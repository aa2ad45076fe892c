"""What the backends for far ends share: options and keys are read, and the maker's client is imported, in `load`."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llmos_kernel.contracts import Backend, Footprint, ModelSpec
from llmos_kernel.errors import PluginMissing
from llmos_remote.dialect import Dialect
from llmos_remote.failures import FarEnd
from llmos_remote.options import Options, Place, read_key, read_options, read_place, unavailable

if TYPE_CHECKING:
    from llmos_remote.executor import RemoteExecutor


class RemoteBackend(Backend):
    """Models behind one maker's API, or behind one that is like it."""

    name: str
    """The backend's, and the extra's that brings the client."""
    module: str
    """The maker's client."""
    distribution: str
    """Who brings it."""
    default_url: str
    """Where the maker's own models are."""
    variables: tuple[str, ...]
    """Where the maker's key may be in the environment."""
    ambient: tuple[str, ...] = ()
    """Headers that the maker's client adds from the environment, which only the maker is to see."""
    kinds: frozenset[str]
    """Task kinds that such a far end can serve."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)

    @abc.abstractmethod
    def dialect(self, options: Options, far: FarEnd, *, official: bool) -> Dialect:
        """Return how the far end is asked; imports the maker's client."""

    def measure(self, spec: ModelSpec) -> Footprint:
        """Say that it takes nothing here; raise `ModelUnavailable` naming the option that is wrong."""
        self._read(spec)
        return Footprint("none", 0)

    def load(self, spec: ModelSpec) -> RemoteExecutor:
        """Import the maker's client and look the key up; nothing is asked yet.

        Raises `ModelUnavailable`, and `PluginMissing` with the command that installs the client.
        """
        options, place = self._read(spec)
        official = place == read_place(self.default_url, spec.name, insecure=False)
        key = read_key(options, spec.name, self.variables, default=official)
        if not _found(self.module):
            raise self._missing()
        from llmos_remote.executor import RemoteExecutor  # noqa: PLC0415 - asyncio costs 100 ms to import
        from llmos_remote.wire import Wire  # noqa: PLC0415 - HTTP takes as long to import as everything else together

        where = options.api_key or self.variables[0]
        far = FarEnd(spec.name, options.model, place, f"check {where}, where it was found", key)
        dialect = self.dialect(options, far, official=official)
        hidden = () if official else self.ambient
        return RemoteExecutor(dialect, far, options, lambda pace: Wire(far, options, pace, hidden))

    def doctor(self) -> Mapping[str, Any]:
        """Say whether the maker's client is installed; far ends are not asked."""
        if not _found(self.module):
            why = self._missing().message
            return {"problem": None, "providers": {self.name: {"runs": False, "why": why}}}
        try:
            found = version(self.distribution)
        except PackageNotFoundError:
            found = "unknown"
        return {"problem": None, "version": found, "providers": {self.name: {"runs": True, "why": None}}}

    def _missing(self) -> PluginMissing:
        step = f"pip install 'llmos-remote[{self.name}]'"
        message = f"backend:{self.name} needs {self.distribution}, which is not installed: {step}"
        return PluginMissing(message, plugin=f"backend:{self.name}", needs=self.distribution)

    def _read(self, spec: ModelSpec) -> tuple[Options, Place]:
        options = read_options(self._config, spec)
        if spec.path:
            raise unavailable(spec.name, "a model at a far end has no path", "path", value=spec.path, expected="none")
        if other := sorted(set(spec.kinds) - self.kinds):
            why = f"{self.name} models serve no {other[0]!r} tasks"
            raise unavailable(spec.name, why, "kinds", value=other, expected=sorted(self.kinds))
        return options, read_place(options.base_url or self.default_url, spec.name, insecure=options.insecure)


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a parent that is not there, or a module that a test took away
        return False
