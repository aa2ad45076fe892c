"""The observer ``traces``: a span per task, with its phases as children, for OpenTelemetry.

    observers = ["traces"]

Needs the extra ``otel``.  Where spans go, how many are kept and what the service is called say OpenTelemetry's own
variables: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME``, ``OTEL_SDK_DISABLED``.
Names of attributes are those of its conventions for generative AI; no span holds a prompt or an answer.  The span of a
task with a trace (`Task.trace`) is a child of the span that its ``traceparent`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from llmos import read_options
from llmos_kernel.errors import PluginMissing
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Event

if TYPE_CHECKING:
    from llmos_observability.spans import Spans

SOURCE = "observer:traces"


@attrs.frozen
class Options:
    """``traces`` has none: everything is OpenTelemetry's to be told."""


class Traces:
    """Has spans made of tasks.  One object per kernel.

    *make* makes what they are made by, with the first event; unless told, they go in batches to an OTLP collector.
    """

    api = 1

    def __init__(self, config: Mapping[str, Any], make: Callable[[], Spans] | None = None) -> None:
        read_options(Options, config, SOURCE)
        self._make = make or _spans
        self._spans: Spans | None = None

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Tell of a task that ended; raise `PluginMissing` without the extra ``otel``."""
        if self._spans is None:
            self._spans = self._make()
        self._spans.hear(event)


def _spans() -> Spans:
    try:
        from llmos_observability.spans import Spans  # noqa: PLC0415 - only who traces needs OpenTelemetry
    except ImportError as error:
        message = f"{SOURCE} needs {error.name}, which is not installed: pip install 'llmos-observability[otel]'"
        raise PluginMissing(message, plugin=SOURCE, needs="llmos-observability[otel]") from error
    return Spans()
