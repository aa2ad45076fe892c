"""llmos: an operating system for language models.

    import llmos
    client = llmos.Client()
    print(client.load_model("tiny").generate_text("The quick brown fox jumps over the lazy dog."))

Importing this package imports nothing else; each name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmos._version import __version__

if TYPE_CHECKING:
    from llmos._aclient import AsyncClient, AsyncModel
    from llmos._calls import call, call_async
    from llmos._client import Client, Model
    from llmos._conversation import AsyncConversation, Conversation
    from llmos._keys import Key, KeyRing
    from llmos._llmos import LLMOS, load_model
    from llmos._lock import locked
    from llmos._models import ModelInfo
    from llmos._pipelines import Pipeline, Step
    from llmos._plugin_options import read_options
    from llmos._requests import Messages, Options
    from llmos._secrets import Secret, reveal
    from llmos._settings import Settings, load_settings, user_home
    from llmos._step_profile import StepProfile
    from llmos._stream import AsyncStream, Stream
    from llmos._streams import AsyncStreams, Streams
    from llmos._serving import Replicas, Serving
    from llmos._supervisor import Supervisor
    from llmos._targets import Auto
    from llmos._task_file import Execution, Parameters, Requirements, TaskFile
    from llmos._task_runs import Answer
    from llmos._text import Piece, Text
    from llmos._trace import Trace, trace_context
    from llmos_kernel import errors

_HOMES = {
    "_aclient": ("AsyncClient", "AsyncModel"),
    "_calls": ("call", "call_async"),
    "_client": ("Client", "Model"),
    "_conversation": ("AsyncConversation", "Conversation"),
    "_keys": ("Key", "KeyRing"),
    "_llmos": ("LLMOS", "load_model"),
    "_lock": ("locked",),
    "_models": ("ModelInfo",),
    "_pipelines": ("Pipeline", "Step"),
    "_plugin_options": ("read_options",),
    "_requests": ("Messages", "Options"),
    "_secrets": ("Secret", "reveal"),
    "_settings": ("Settings", "load_settings", "user_home"),
    "_step_profile": ("StepProfile",),
    "_stream": ("AsyncStream", "Stream"),
    "_streams": ("AsyncStreams", "Streams"),
    "_serving": ("Replicas", "Serving"),
    "_supervisor": ("Supervisor",),
    "_task_file": ("Execution", "Parameters", "Requirements", "TaskFile"),
    "_task_runs": ("Answer",),
    "_text": ("Piece", "Text"),
    "_trace": ("Trace", "trace_context"),
    "_targets": ("Auto",),
}
_HOME_OF = {name: f"llmos.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "LLMOS",
    "Answer",
    "AsyncClient",
    "AsyncConversation",
    "AsyncModel",
    "AsyncStream",
    "AsyncStreams",
    "Auto",
    "Client",
    "Conversation",
    "Execution",
    "Key",
    "KeyRing",
    "Messages",
    "Model",
    "ModelInfo",
    "Options",
    "Parameters",
    "Piece",
    "Pipeline",
    "Replicas",
    "Requirements",
    "Secret",
    "Serving",
    "Settings",
    "Step",
    "StepProfile",
    "Stream",
    "Streams",
    "Supervisor",
    "TaskFile",
    "Text",
    "Trace",
    "__version__",
    "call",
    "call_async",
    "errors",
    "load_model",
    "load_settings",
    "locked",
    "read_options",
    "reveal",
    "trace_context",
    "user_home",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    from importlib import import_module  # noqa: PLC0415 - keeps the namespace clean

    if name == "errors":
        found: Any = import_module("llmos_kernel.errors")
    elif name in _HOME_OF:
        found = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
