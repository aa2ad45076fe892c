"""The SDK's own tests, for a client that is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def same_as(module: ModuleType, besides: Mapping[str, str]) -> dict[str, Callable[..., Any]]:
    """Return the tests of *module* but those that say nothing of remote clients: *besides* has the reason of each."""
    found = {name: value for name, value in vars(module).items() if name.startswith("test_")}
    if unknown := besides.keys() - found.keys():
        raise LookupError(f"{module.__name__} has no tests {sorted(unknown)}")
    return {name: value for name, value in found.items() if name not in besides}
