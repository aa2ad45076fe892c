"""The model that answers soonest, by the response times that were measured: seconds per token, queue included.

Who was not measured is tried: it counts as infinitely fast until its first task ends (optimism in the face of
uncertainty: Kaelbling, Littman and Moore, "Reinforcement Learning: A Survey", JAIR 1996, section 2.2), but gets one
task only until then.  For the same reason an old measurement counts for less and less, half of its seconds with each
half-life, so that a model that was slow once is tried again; that try, too, is one task.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_SECONDS, Auto, number
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Candidate, Event, Router
from llmos_routers.choosing import Choosing, Options
from llmos_routers.measured import Measured

api = 1
"""The version of the router contract that this module is written for."""

FRESH = 0.5
"""Below this weight, a measurement is old: who is chosen by it is tried."""


@attrs.frozen(kw_only=True)
class FastestOptions(Options):
    """What ``fastest`` can be told."""

    half_life: float = attrs.field(default=300.0, validator=number(0.001, MAX_SECONDS, whole=False))
    """Seconds after which a measurement counts half."""


class Fastest(Choosing[FastestOptions]):
    """The shortest response time."""

    def __init__(self, options: FastestOptions, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(options, clock)
        self.measured = Measured(options.half_life)
        self._tries: dict[tuple[str, str], float] = {}
        """Since when a model is tried, by name and kind."""

    def pick(self, kind: str, want: Auto, ready: Sequence[Candidate], now: float) -> Candidate:
        """Return the fastest, or one whose turn it is to be tried."""
        chosen = min(ready, key=lambda one: (self._seconds(one, kind), not one.loaded, one.unfinished, *self.turn(one)))
        key = (chosen.spec.name, kind)
        pace = self.measured.pace(*key)
        if pace is None or self.measured.weight(pace) < FRESH:
            self._tries.setdefault(key, self.measured.now)
        return chosen

    def learn(self, event: Event) -> None:
        """Measure; whoever was tried has been."""
        ended = self.measured.learn(event)
        for key, since in list(self._tries.items()):
            # One of which nothing is heard, because an event was lost or nobody scheduled it, ends as well.
            if key == (ended, event.fields.get("kind")) or event.at - since > self.options.half_life:
                del self._tries[key]

    def _seconds(self, candidate: Candidate, kind: str) -> float:
        key = (candidate.spec.name, kind)
        pace = self.measured.pace(*key)
        if key in self._tries:
            return math.inf if pace is None else pace.response
        return 0.0 if pace is None else pace.response * self.measured.weight(pace)


@hookimpl
def llmos_router(config: Mapping[str, Any]) -> Router:
    """Return a router by response time; *config* holds `FastestOptions`.  Raises `ConfigError`."""
    return Fastest(read_options(FastestOptions, config, "router:fastest"))
