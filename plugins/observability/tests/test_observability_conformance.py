"""The observers keep the contract."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmos.testing.conformance import MakeObserver, ObserverConformance
from llmos_observability.log import Log
from llmos_observability.metrics import Metrics
from llmos_observability.spans import Spans
from llmos_observability.traces import Traces

CASES: Mapping[str, Callable[[], object]] = {
    "log": lambda: Log({}, io.StringIO()),
    "log-of-everything": lambda: Log({"events": ["*"]}, io.StringIO()),
    "traces": lambda: Traces({}, lambda: Spans(SimpleSpanProcessor(InMemorySpanExporter()))),
    "metrics": lambda: Metrics({}),
    "metrics-few": lambda: Metrics({"tenants": 0}),
}


class TestObservers(ObserverConformance):
    """The kit's checks."""

    @pytest.fixture(params=CASES)
    def make_observer(self, request: pytest.FixtureRequest) -> MakeObserver:
        """A new observer."""
        return CASES[str(request.param)]
