"""How models are served, beyond what the kernel decides: which stand in for which, how many there are, for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from llmos_kernel.api import MAX_SECONDS, check_number, check_type, listed, mapping, number
from llmos_kernel.errors import InvalidArgument

_seconds = number(0.001, MAX_SECONDS, whole=False)


@attrs.frozen(kw_only=True)
class Replicas:
    """How many of one model there are.  The rule is in `llmos._elastic`."""

    least: int = attrs.field(default=1, validator=number(0, 64))
    """So many stay loaded, once the model was used, whatever ``keep_alive`` says."""
    most: int = attrs.field(default=4, validator=number(1, 64))
    tasks: float = attrs.field(default=4.0, validator=number(0.01, 1e6, whole=False))
    """Unfinished tasks per replica above which there is to be one more."""
    grow_after: float = attrs.field(default=5.0, validator=_seconds)
    """Seconds that there must be too many tasks before a replica is added."""
    shrink_after: float = attrs.field(default=60.0, validator=_seconds)
    """Seconds that there must be few tasks before a replica is taken away."""

    def __attrs_post_init__(self) -> None:
        if self.least > self.most:
            raise InvalidArgument.of("least", self.least, f"at most {self.most}, which is the most")


def _chains(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    mapping(instance, attribute, value)
    for name, chain in value.items():
        check_type(f"fallbacks.{name}", chain, tuple, "a list of models' names")
        if twice := [one for one in chain if chain.count(one) > 1 or one == name]:
            raise InvalidArgument.of(f"fallbacks.{name}", twice[0], "other models, each once")


def _rules(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    mapping(instance, attribute, value)
    for name, rule in value.items():
        check_type(f"replicas.{name}", rule, Replicas, "a table of Replicas' fields")


def _alive(field: str, value: object) -> None:
    if value is not None and value != math.inf:
        check_number(field, value, 0, MAX_SECONDS, whole=False)


def _keep_alive(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _alive("keep_alive", value)


def _keep_alives(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    mapping(instance, attribute, value)
    for name, seconds in value.items():
        _alive(f"keep_alives.{name}", seconds)


def _listed_chains(value: Any) -> Any:  # noqa: ANN401 - the validator says what it may be
    return {name: listed(chain) for name, chain in value.items()} if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True)
class Serving:
    """What clients and the supervisor may be told."""

    fallbacks: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, converter=_listed_chains, validator=_chains)
    """Per model, the names of those that are tried after it; ``auto`` is any other."""
    replicas: Mapping[str, Replicas] = attrs.field(factory=dict, validator=_rules)
    """How many there are of a model, by its name."""
    keep_alive: float | None = attrs.field(default=None, validator=_keep_alive)
    """Seconds after its last task at which a model is unloaded; None, or infinity, is never."""
    keep_alives: Mapping[str, float | None] = attrs.field(factory=dict, validator=_keep_alives)
    """The same for single models, by name; it wins."""

    @property
    def supervised(self) -> bool:
        """Whether a supervisor would have something to do."""
        return bool(self.replicas or self.keep_alives) or self.keeps("") < math.inf

    def keeps(self, model: str) -> float:
        """Return the seconds after which an idle *model* is unloaded; infinity is never."""
        seconds = self.keep_alives.get(model, self.keep_alive)
        return math.inf if seconds is None else seconds
