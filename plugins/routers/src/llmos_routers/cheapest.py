"""The model with the lowest price; of several, one that is loaded, and the one with the fewest unfinished tasks."""

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


class Cheapest(Choosing[Options]):
    """The lowest price."""

    def pick(self, kind: str, want: Auto, ready: Sequence[Candidate], now: float) -> Candidate:
        """Return the cheapest."""
        return min(ready, key=lambda one: (one.spec.cost, not one.loaded, one.unfinished, *self.turn(one)))


@hookimpl
def llmos_router(config: Mapping[str, Any]) -> Router:
    """Return a router by price; *config* holds `Options`.  Raises `ConfigError`."""
    return Cheapest(read_options(Options, config, "router:cheapest"))
