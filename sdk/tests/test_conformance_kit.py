"""The kit's own plugins pass the conformance classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmos.testing import (
    Capitals, CopyExporter, EchoBackend, FirstCome, FirstSuited, MemoryStore, Recorder, ScriptedPolicy, echo_spec,
)  # fmt: skip
from llmos.testing.conformance import (
    BackendConformance, Export, ExporterConformance, ObserverConformance, PolicyConformance, ProcessorConformance,
    RouterConformance, SchedulerConformance, Served, StoreConformance,
)  # fmt: skip
from llmos_kernel import Decision, Policy, Processor, Router, Scheduler, Store
from llmos_kernel.errors import Overloaded


class TestEcho(BackendConformance):
    """The echo backend."""

    @pytest.fixture
    def served(self) -> Served:
        """It has nothing to detokenize before it has tokenized."""
        return Served(EchoBackend(), echo_spec(), {"detokenize": []})


class TestFirstCome(SchedulerConformance):
    """The smallest scheduler."""

    @pytest.fixture
    def make_scheduler(self) -> Callable[[], Scheduler]:
        """Its class."""
        return FirstCome


class TestScriptedPolicy(PolicyConformance):
    """A policy that abstains, allows, denies, and says that there is too much work."""

    @pytest.fixture(params=[*Decision, Overloaded("later", retry_after=1.0)], ids=str)
    def make_policy(self, request: pytest.FixtureRequest) -> Callable[[], Policy]:
        """One for each answer."""
        return lambda: ScriptedPolicy(request.param)


class TestFirstSuited(RouterConformance):
    """The smallest router."""

    @pytest.fixture
    def make_router(self) -> Callable[[], Router]:
        """Its class."""
        return FirstSuited


class TestCapitals(ProcessorConformance):
    """A processor with a filter of its own."""

    @pytest.fixture
    def make_processor(self) -> Callable[[], Processor]:
        """Its class."""
        return Capitals


class TestMemoryStore(StoreConformance):
    """A store that lasts as long as its dictionary."""

    @pytest.fixture
    def make_store(self) -> Callable[[], Store]:
        """Open the same dictionary each time."""
        kept: dict[str, bytes] = {}
        return lambda: MemoryStore(kept)


class TestRecorder(ObserverConformance):
    """An observer."""

    @pytest.fixture
    def make_observer(self) -> Callable[[], object]:
        """Its class."""
        return Recorder


class TestCopyExporter(ExporterConformance):
    """An exporter."""

    @pytest.fixture
    def export(self, tmp_path_factory: pytest.TempPathFactory) -> Export:
        """Something to copy."""
        source = tmp_path_factory.mktemp("checkpoint")
        for name in ("a", "b", "c"):
            (source / name).write_text(name)
        return Export(CopyExporter(), source)
