"""Every router keeps the contract."""

from __future__ import annotations

import pytest

from llmos.testing.conformance import MakeRouter, RouterConformance
from plugins.routers.tests.rules import MODULES, rule


@pytest.mark.parametrize("name", MODULES)
class TestRouters(RouterConformance):
    """Under the conformance tests of the kit."""

    @pytest.fixture
    def make_router(self, name: str) -> MakeRouter:
        """The router of that name, with its defaults."""
        return rule(name)
