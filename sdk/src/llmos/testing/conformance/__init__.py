"""Tests that a plugin's author inherits: subclass, give one fixture, and the contract is tested.

They need pytest and hypothesis (``pip install llmos-sdk[testing]``)::

    class TestMine(SchedulerConformance):
        @pytest.fixture
        def make_scheduler(self) -> Callable[[], Scheduler]:
            return MyScheduler

Each check's docstring quotes the sentence of the contract that it proves.  A check that a plugin cannot pass is
overridden with ``@pytest.mark.xfail(reason="...")``; without a reason, `Conformance.test_overrides_say_why` fails.
"""

from llmos.testing.conformance._backend import INPUTS, BackendConformance, Served
from llmos.testing.conformance._base import Conformance
from llmos.testing.conformance._policy import MakePolicy, PolicyConformance
from llmos.testing.conformance._exporter import Export, ExporterConformance
from llmos.testing.conformance._observer import MakeObserver, ObserverConformance
from llmos.testing.conformance._processor import MakeProcessor, ProcessorConformance
from llmos.testing.conformance._router import MakeRouter, RouterConformance
from llmos.testing.conformance._scheduler import SETTINGS, MakeScheduler, SchedulerConformance, Workload
from llmos.testing.conformance._store import MakeStore, StoreConformance

__all__ = [
    "INPUTS",
    "SETTINGS",
    "BackendConformance",
    "Conformance",
    "Export",
    "ExporterConformance",
    "MakeObserver",
    "MakePolicy",
    "MakeProcessor",
    "MakeRouter",
    "MakeScheduler",
    "MakeStore",
    "ObserverConformance",
    "PolicyConformance",
    "ProcessorConformance",
    "RouterConformance",
    "SchedulerConformance",
    "Served",
    "StoreConformance",
    "Workload",
]
