"""One after the other: the model that was chosen longest ago, whatever it costs and however busy it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmos import read_options
from llmos_kernel.api import Auto
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Candidate, Router
from llmos_routers.choosing import Choosing, Options

api = 1
"""The version of the router contract that this module is written for."""


class RoundRobin(Choosing[Options]):
    """Turns."""

    def pick(self, kind: str, want: Auto, ready: Sequence[Candidate], now: float) -> Candidate:
        """Return the one that was chosen longest ago."""
        return min(ready, key=self.turn)


@hookimpl
def llmos_router(config: Mapping[str, Any]) -> Router:
    """Return a router by turns; *config* holds `Options`.  Raises `ConfigError`."""
    return RoundRobin(read_options(Options, config, "router:round-robin"))
