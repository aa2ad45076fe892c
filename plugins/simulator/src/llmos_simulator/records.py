"""What goes into a simulation and what comes out of it, task by task.  Plain records, checked when they are made."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import validators

from llmos_kernel.api import MAX_COUNT, MAX_SECONDS, number, of_type, string, text
from llmos_kernel.errors import InvalidArgument

_tokens = number(1, MAX_COUNT)
_time = number(0, MAX_SECONDS, whole=False)
_seconds = validators.optional(_time)


@attrs.frozen
class Arrival:
    """A task that somebody will schedule, and what the modelled executor will make of it."""

    at: float = attrs.field(validator=_time)
    """When it comes, in seconds of the virtual clock."""
    tenant: str = attrs.field(default="tenant", validator=text)
    kind: str = attrs.field(default="generate", validator=text, kw_only=True)
    priority: int = attrs.field(default=0, validator=number(-1000, 1000), kw_only=True)
    prompt: int = attrs.field(default=1, validator=_tokens, kw_only=True)
    """Tokens of its prompt."""
    output: int = attrs.field(default=1, validator=_tokens, kw_only=True)
    """Tokens that it will produce, which no scheduler knows."""
    max_tokens: int | None = attrs.field(default=None, validator=validators.optional(_tokens), kw_only=True)
    """Tokens that it asks for at most, which schedulers know; None: exactly its output."""
    deadline: float | None = attrs.field(default=None, validator=_seconds, kw_only=True)
    """Seconds after its arrival at which it fails."""
    service: float | None = attrs.field(default=None, validator=_seconds, kw_only=True)
    """Seconds that it takes on an executor that runs each task from start to end; None on one that steps."""
    model: str = attrs.field(default="", validator=string, kw_only=True)
    """The model that it names; empty: the only one, or the one that the router chooses."""

    def __attrs_post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < self.output:
            raise InvalidArgument.of("max_tokens", self.max_tokens, f"at least its output of {self.output} tokens")


@attrs.frozen
class Outcome:
    """What became of an arrival.  Times are on the virtual clock, and None where that never came."""

    arrival: Arrival = attrs.field(validator=of_type(Arrival, "an Arrival"))
    id: int | None = attrs.field(default=None, kw_only=True)
    """The task's id; None if it was refused at once."""
    admitted: float | None = attrs.field(default=None, kw_only=True)
    """When its first step began."""
    first: float | None = attrs.field(default=None, kw_only=True)
    """When its first token was there."""
    ended: float = attrs.field(kw_only=True)
    """When it ended, well or not, or was refused."""
    prompt: int = attrs.field(default=0, kw_only=True)
    """Prompt tokens that were computed for it."""
    generated: int = attrs.field(default=0, kw_only=True)
    """Tokens that it produced."""
    error: str = attrs.field(default="", kw_only=True)
    """Why it failed: the name of the error's class; empty where it ended well."""
    model: str = attrs.field(default="", kw_only=True)
    """The model that served it; empty if it was refused at once."""

    @ended.validator
    def _ordered(self, attribute: attrs.Attribute[Any], ended: float) -> None:
        before, name = self.arrival.at, "the arrival"
        for later, value in (("admitted", self.admitted), ("first", self.first), ("ended", ended)):
            if value is not None:
                if not before <= value <= MAX_SECONDS:
                    raise InvalidArgument.of(later, value, f"a finite time from {before:g} ({name}) on")
                before, name = value, later
