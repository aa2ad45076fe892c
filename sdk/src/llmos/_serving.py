"""How models are served, beyond what the kernel decides: which stand in for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llmos_kernel.api import check_type, listed, mapping
from llmos_kernel.errors import InvalidArgument


def _chains(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    mapping(instance, attribute, value)
    for name, chain in value.items():
        check_type(f"fallbacks.{name}", chain, tuple, "a list of models' names")
        if twice := [one for one in chain if chain.count(one) > 1 or one == name]:
            raise InvalidArgument.of(f"fallbacks.{name}", twice[0], "other models, each once")


def _listed_chains(value: Any) -> Any:  # noqa: ANN401 - the validator says what it may be
    return {name: listed(chain) for name, chain in value.items()} if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True)
class Serving:
    """What clients and the supervisor may be told."""

    fallbacks: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, converter=_listed_chains, validator=_chains)
    """Per model, the names of those that are tried after it; ``auto`` is any other."""
