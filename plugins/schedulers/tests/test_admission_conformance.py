"""Admission keeps the contract of policies, with and without quotas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llmos.testing.conformance import MakePolicy, PolicyConformance
from llmos_schedulers import admission

QUOTA = {"tokens_per_minute": 100, "requests_per_minute": 10, "tasks": 3}


class TestAdmission(PolicyConformance):
    """The kit's checks."""

    @pytest.fixture(params=[{}, {"default": QUOTA, "longest_wait": 0.1}], ids=["open", "strict"])
    def make_policy(self, request: pytest.FixtureRequest) -> MakePolicy:
        """What the hook returns."""
        options: Mapping[str, Any] = request.param
        return lambda: admission.llmos_policy(options)
