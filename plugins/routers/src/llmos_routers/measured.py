"""How fast models are, from the events of the tasks that they served.

What is kept is normalised latency, seconds per token of output (Kwon et al., "Efficient Memory Management for Large
Language Model Serving with PagedAttention", SOSP 2023, section 6.1), so that tasks of different lengths can be told of
in one mean; a task without tokens, ``embed`` for instance, counts as one.  Means are exponentially weighted.

Old measurements say less: `Pace.age` is how many half-lives ago the last one was, on the clock of the events.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from llmos_kernel.services import Event

RECENT = 0.2
"""What the newest task weighs in a mean."""


@attrs.define
class Pace:
    """The mean over the tasks of one model and kind, in seconds per token."""

    response: float
    """From acceptance to the end."""
    service: float
    """From the first step to the end."""
    at: float
    """When the last one ended."""

    def add(self, response: float, service: float, at: float) -> None:
        """Take in a task."""
        self.response += RECENT * (response - self.response)
        self.service += RECENT * (service - self.service)
        self.at = at


@attrs.define
class Measured:
    """What was measured of all models, by name and kind of task."""

    half_life: float
    """Seconds after which a measurement counts half."""
    now: float = attrs.field(default=0.0, init=False)
    """The time of the last event."""
    rows: dict[str, int] = attrs.field(factory=dict, init=False)
    """The most tasks that a step of a model served."""
    _paces: dict[tuple[str, str], Pace] = attrs.field(factory=dict, init=False)
    _tokens: dict[str, float] = attrs.field(factory=dict, init=False)

    def learn(self, event: Event) -> str | None:
        """Take in an event; return the model's name where it is the end of a task."""
        self.now = max(self.now, event.at)
        fields = event.fields
        model = str(fields.get("model", ""))
        if event.name == "step":
            self.rows[model] = max(self.rows.get(model, 1), int(fields.get("rows", 1)))
        late = fields.get("error") == "DeadlineExceeded"  # it took at least so long
        if event.name == "task.done" or late:
            self._add(model, str(fields.get("kind", "")), event)
        return model if event.name in ("task.done", "task.failed", "task.cancelled") else None

    def _add(self, model: str, kind: str, event: Event) -> None:
        queued, prefill, decode = (float(event.fields.get(part, 0.0)) for part in ("queued", "prefill", "decode"))
        tokens = max(1, int(event.fields.get("generated", 0)))
        response, service = (queued + prefill + decode) / tokens, (prefill + decode) / tokens
        pace = self._paces.get((model, kind))
        if pace is None:
            self._paces[model, kind] = Pace(response, service, event.at)
        else:
            pace.add(response, service, event.at)
        usual = self._tokens.get(kind, float(tokens))
        self._tokens[kind] = usual + RECENT * (tokens - usual)

    def pace(self, model: str, kind: str) -> Pace | None:
        """Return what was measured of *model*."""
        return self._paces.get((model, kind))

    def weight(self, pace: Pace) -> float:
        """Return how much *pace* still counts: 1 for the newest, half after each half-life."""
        return float(0.5 ** ((self.now - pace.at) / self.half_life))

    def at_once(self, model: str) -> int:
        """Return how many tasks *model* was seen to serve at once; before its first step, as many as any other."""
        return self.rows.get(model) or max(self.rows.values(), default=1)

    def tokens(self, kind: str) -> float:
        """Return how many tokens a task of *kind* has, as a rule, over all models."""
        return self._tokens.get(kind, 1.0)

    def usual_service(self, models: Iterable[str], kind: str) -> float:
        """Return the mean over *models* of the seconds of service per token; 1 where nothing is known."""
        known = [pace.service for model in models if (pace := self.pace(model, kind)) is not None]
        return sum(known) / len(known) if known else 1.0
