"""The scheduler ``recorded`` keeps the contract like the policy that it records."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from llmos.testing.conformance import MakeScheduler, SchedulerConformance
from llmos_kernel import Scheduler
from llmos_simulator.recorded import llmos_scheduler


class TestRecorded(SchedulerConformance):
    """The kit's checks."""

    @pytest.fixture
    def make_scheduler(self, tmp_path: Path) -> MakeScheduler:
        """What the hook returns, with a file of its own each time."""
        numbers = itertools.count()

        def make() -> Scheduler:
            return llmos_scheduler({"policy": "fifo", "file": str(tmp_path / f"{next(numbers)}.jsonl")})

        return make
