"""How good and how fast a model is on records of your own: ``llmos eval``, and the same from Python."""

from llmos_evaluation._version import __version__
from llmos_evaluation.comparing import Difference, compare
from llmos_evaluation.items import Item
from llmos_evaluation.metrics import METRICS, Figure, Metric, scored
from llmos_evaluation.running import evaluate
from llmos_evaluation.store import Result, find_result, read_result, results
from llmos_evaluation.suites import Asked, Case, Suite, read_suite

__all__ = [
    "METRICS",
    "Asked",
    "Case",
    "Difference",
    "Figure",
    "Item",
    "Metric",
    "Result",
    "Suite",
    "__version__",
    "compare",
    "evaluate",
    "find_result",
    "read_result",
    "read_suite",
    "results",
    "scored",
]
