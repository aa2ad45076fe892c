"""Every router keeps the contract."""

from __future__ import annotations

import pytest

from llmos.testing.conformance import MakeRouter, RouterConformance
from plugins.routers.tests.rules import MODULES, rule


class TestRouters(RouterConformance):
    """Under the conformance tests of the kit."""

    @pytest.fixture(params=MODULES)
    def make_router(self, request: pytest.FixtureRequest) -> MakeRouter:
        """One after the other, with their defaults."""
        return rule(request.param)
