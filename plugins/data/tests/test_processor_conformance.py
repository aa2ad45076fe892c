"""Every processor keeps the contract, on the way in and, in pieces, on the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from llmos.testing.conformance import ProcessorConformance
from llmos_data import normalize, template
from llmos_kernel import Processor

RENDERING = {"templates": {"quoted": "<{{ input | trim }}>"}, "default": "quoted"}
CASES: Mapping[str, Callable[[], Processor]] = {
    "normalize": lambda: normalize.llmos_processor({}),
    "normalize, NFKC": lambda: normalize.llmos_processor({"form": "NFKC", "spaces": False}),
    "template": lambda: template.llmos_processor(RENDERING),
}


class TestProcessors(ProcessorConformance):
    """All of them."""

    @pytest.fixture(params=CASES)
    def make_processor(self, request: pytest.FixtureRequest) -> Callable[[], Processor]:
        """One after the other."""
        return CASES[str(request.param)]
