"""The model that can do it and is expected to be done soonest; of equals the cheapest, then by name.

Demonstration models come last: they show that everything works, and are of no other use.  For the others, the time is

    service + line / rate + loading

*service* is what was measured of the model, seconds per token times the usual tokens of such tasks; an old measurement
counts for less, and a model without one is taken for an average one.  *rate* is how fast a busy model finishes tasks:
by Little's law (Little, "A Proof for the Queuing Formula: L = λW", Operations Research 1961), with *c* tasks in
service, each for *service* seconds, ``c / service`` of them end in a second.  How many it serves at once is not
announced; *c* is the most that were seen in one of its steps, or, before its first one, in a step of any model.
*line* is how many tasks, this one included, are beyond that.  *loading* is 0 for a model that is loaded, otherwise
what it took the last time, or is guessed from its size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_SECONDS, Auto, number
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Candidate, Event, Router
from llmos_routers.choosing import Choosing, Options
from llmos_routers.measured import Measured

api = 1
"""The version of the router contract that this module is written for."""

DEMONSTRATION = "demonstration"
"""The capability, or a word of the description, of a model that shows that everything works."""


@attrs.frozen(kw_only=True)
class AutoOptions(Options):
    """What ``auto`` can be told."""

    half_life: float = attrs.field(default=300.0, validator=number(0.001, MAX_SECONDS, whole=False))
    """Seconds after which a measurement counts half."""
    load_seconds: float = attrs.field(default=1.0, validator=number(0, MAX_SECONDS, whole=False))
    """Seconds that loading is expected to take at least, where it was not measured."""
    load_rate: float = attrs.field(default=2e8, validator=number(1, 1e15, whole=False))
    """Bytes a second that loading is expected to read, where it was not measured."""


class SoonestDone(Choosing[AutoOptions]):
    """The least predicted time."""

    def __init__(self, options: AutoOptions, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(options, clock)
        self.measured = Measured(options.half_life)
        self._begun: dict[str, float] = {}
        """When a model was chosen that was not loaded."""
        self._loads: dict[str, float] = {}
        """How long its last loading took."""

    def pick(self, kind: str, want: Auto, ready: Sequence[Candidate], now: float) -> Candidate:
        """Return the one that is expected to be done soonest."""
        usual = self.measured.usual_service((one.spec.name for one in ready), kind)
        shown = DEMONSTRATION in want.capabilities

        def order(one: Candidate) -> tuple[bool, float, float, str]:
            demonstrates = not shown and is_demonstration(one.spec)
            return demonstrates, self.seconds(one, kind, usual), one.spec.cost, one.spec.name

        chosen = min(ready, key=order)
        if not chosen.loaded:
            self._begun.setdefault(chosen.spec.name, now)
        return chosen

    def seconds(self, candidate: Candidate, kind: str, usual: float) -> float:
        """Return the predicted seconds until a task of *kind* is done; *usual* is an average model's per token."""
        name = candidate.spec.name
        pace = self.measured.pace(name, kind)
        per_token = usual if pace is None else usual + (pace.service - usual) * self.measured.weight(pace)
        service = per_token * self.measured.tokens(kind)
        at_once = self.measured.at_once(name)
        line = max(0, candidate.unfinished + 1 - at_once)
        return service + line * service / at_once + (0.0 if candidate.loaded else self._loading(candidate.spec))

    def learn(self, event: Event) -> None:
        """Measure tasks, and how long loading takes."""
        self.measured.learn(event)
        model = str(event.fields.get("model", ""))
        if event.name in ("model.loaded", "model.failed"):
            begun = self._begun.pop(model, None)
            if begun is not None and event.name == "model.loaded":
                self._loads[model] = max(0.0, event.at - begun)

    def _loading(self, spec: ModelSpec) -> float:
        guess = self.options.load_seconds + spec.nbytes / self.options.load_rate
        return self._loads.get(spec.name, guess)


def is_demonstration(spec: ModelSpec) -> bool:
    """Return whether the model only shows that everything works."""
    return DEMONSTRATION in (*spec.capabilities, *spec.description.lower().split())


@hookimpl
def llmos_router(config: Mapping[str, Any]) -> Router:
    """Return a router by predicted time; *config* holds `AutoOptions`.  Raises `ConfigError`."""
    return SoonestDone(read_options(AutoOptions, config, "router:auto"))
