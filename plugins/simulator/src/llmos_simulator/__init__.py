"""A simulator for llmos: the real kernel and the real schedulers on a virtual clock, over a modelled executor."""

from llmos_simulator._version import __version__
from llmos_simulator.engine import Run, simulate
from llmos_simulator.records import Arrival, Outcome

__all__ = ["Arrival", "Outcome", "Run", "__version__", "simulate"]
