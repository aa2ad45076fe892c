"""The rules keep the contract of policies, whether they allow everything, something or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llmos.testing.conformance import MakePolicy, PolicyConformance
from llmos_security.rules import llmos_policy

CASES: Mapping[str, Mapping[str, Any]] = {
    "local": {}, "nobody": {"local": False},
    "some": {"local": False, "allow": [{"tenants": ["acme"], "actions": ["schedule", "control.*"]}]},
}  # fmt: skip


class TestRules(PolicyConformance):
    """The kit's checks."""

    @pytest.fixture(params=CASES)
    def make_policy(self, request: pytest.FixtureRequest) -> MakePolicy:
        """What the hook returns."""
        options = CASES[str(request.param)]
        return lambda: llmos_policy(options)
