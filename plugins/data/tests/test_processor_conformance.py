"""Every processor keeps the contract, on the way in and, in pieces, on the way out."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from llmos.testing.conformance import ProcessorConformance
from llmos_data import chunk, clean, language, normalize, repair, stop_words, tables, template, truncate
from llmos_kernel import Processor

RENDERING = {"templates": {"quoted": "<{{ input | trim }}>"}, "default": "quoted"}
CASES: Mapping[str, Callable[[], Processor]] = {
    "chunk": lambda: chunk.llmos_processor({}),
    "chunk, overlapping words": lambda: chunk.llmos_processor({"size": 20, "overlap": 5}),
    "clean": lambda: clean.llmos_processor({}),
    "format": lambda: tables.llmos_processor({}),
    "json-repair": lambda: repair.llmos_processor({}),
    "language": lambda: language.llmos_processor({}),
    "normalize": lambda: normalize.llmos_processor({}),
    "normalize, NFKC": lambda: normalize.llmos_processor({"form": "NFKC", "spaces": False}),
    "stop-words": lambda: stop_words.llmos_processor({}),
    "truncate": lambda: truncate.llmos_processor({}),
    "truncate, short": lambda: truncate.llmos_processor({"size": 7}),
    "template": lambda: template.llmos_processor(RENDERING),
}


def test_no_processor_is_left_out() -> None:
    """Every entry point of a processor that the package announces is a case."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]

    assert set(project["entry-points"]["llmos.processor"]) == {name.partition(",")[0] for name in CASES}


class TestProcessors(ProcessorConformance):
    """All of them."""

    @pytest.fixture(params=CASES)
    def make_processor(self, request: pytest.FixtureRequest) -> Callable[[], Processor]:
        """One after the other."""
        return CASES[str(request.param)]
