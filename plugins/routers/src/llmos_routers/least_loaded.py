"""The model with the fewest unfinished tasks.

All are looked at (with two at random the longest line is nearly as short: Mitzenmacher, "The Power of Two Choices in
Randomized Load Balancing", IEEE TPDS 2001; here looking costs nothing).  A model that is not loaded is chosen only
where none is.  Among equals it is the turn of the one that was chosen longest ago.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmos import read_options
from llmos_kernel.api import Auto
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Candidate, Router
from llmos_routers.choosing import Choosing, Options, awake

api = 1
"""The version of the router contract that this module is written for."""


class LeastLoaded(Choosing[Options]):
    """The shortest line."""

    def pick(self, kind: str, want: Auto, ready: Sequence[Candidate], now: float) -> Candidate:
        """Return the one with the fewest unfinished tasks."""
        return min(awake(ready), key=lambda one: (one.unfinished, *self.turn(one)))


@hookimpl
def llmos_router(config: Mapping[str, Any]) -> Router:
    """Return a router by load; *config* holds `Options`.  Raises `ConfigError`."""
    return LeastLoaded(read_options(Options, config, "router:least-loaded"))
