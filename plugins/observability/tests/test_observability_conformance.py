"""The observers keep the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from llmos.testing.conformance import MakeObserver, ObserverConformance
from llmos_observability.metrics import Metrics

CASES: Mapping[str, Callable[[], object]] = {
    "metrics": lambda: Metrics({}),
    "metrics-few": lambda: Metrics({"tenants": 0}),
}


class TestObservers(ObserverConformance):
    """The kit's checks."""

    @pytest.fixture(params=CASES)
    def make_observer(self, request: pytest.FixtureRequest) -> MakeObserver:
        """A new observer."""
        return CASES[str(request.param)]
