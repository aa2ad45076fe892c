"""A simulator for llmos: the real kernel and the real schedulers on a virtual clock, over a modelled executor."""

from llmos_simulator._version import __version__
from llmos_simulator.engine import Run, simulate
from llmos_simulator.records import Arrival, Outcome
from llmos_simulator.replaying import Difference, Replay, replay

__all__ = ["Arrival", "Difference", "Outcome", "Replay", "Run", "__version__", "replay", "simulate"]
