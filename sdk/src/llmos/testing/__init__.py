"""The kit for tests of plugins, of the kernel and of programs that use llmos: no model, no sleeping, no network.

``pytest_plugins = ["llmos.testing.fixtures"]`` brings the fixtures; nothing is switched on by installing this package.
"""

from llmos.testing._clock import VirtualClock
from llmos.testing._echo import EchoBackend, EchoExecutor, EchoFaults, echo_spec
from llmos.testing._first_come import FirstCome, FirstComePlugin
from llmos.testing._gate import Gate

__all__ = [
    "EchoBackend",
    "EchoExecutor",
    "EchoFaults",
    "FirstCome",
    "FirstComePlugin",
    "Gate",
    "VirtualClock",
    "echo_spec",
]
