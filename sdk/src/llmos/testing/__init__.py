"""The kit for tests of plugins, of the kernel and of programs that use llmos: no model, no sleeping, no network.

Where this is installed, pytest has the fixtures of `llmos.testing.fixtures`; `llmos.testing.conformance` has the tests
that authors of plugins inherit.  Importing this package imports nothing else; names are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmos.testing._clock import VirtualClock
    from llmos.testing._echo import EchoBackend, EchoExecutor, EchoFaults, echo_spec
    from llmos.testing._fakes import Capitals, CopyExporter, FirstSuited, MemoryStore, Recorder, ScriptedPolicy
    from llmos.testing._first_come import FirstCome, FirstComePlugin
    from llmos.testing._gate import Gate

_HOMES = {
    "_clock": ("VirtualClock",),
    "_echo": ("EchoBackend", "EchoExecutor", "EchoFaults", "echo_spec"),
    "_fakes": ("Capitals", "CopyExporter", "FirstSuited", "MemoryStore", "Recorder", "ScriptedPolicy"),
    "_first_come": ("FirstCome", "FirstComePlugin"),
    "_gate": ("Gate",),
}
_HOME_OF = {name: f"llmos.testing.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "Capitals",
    "CopyExporter",
    "EchoBackend",
    "EchoExecutor",
    "EchoFaults",
    "FirstCome",
    "FirstComePlugin",
    "FirstSuited",
    "Gate",
    "MemoryStore",
    "Recorder",
    "ScriptedPolicy",
    "VirtualClock",
    "echo_spec",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    from importlib import import_module  # noqa: PLC0415 - keeps the namespace clean

    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)
    found = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
