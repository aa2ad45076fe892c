"""The observer ``log``: what happens, one JSON object a line, on standard error.

    observers = ["log"]

    [options."observer:log"]
    events = ["task.*", "model.*", "plugin.*", "kernel.*", "*.failed"]

Each line has ``event``, ``level``, ``time`` (UTC), ``at`` (the kernel's clock, in seconds) and the event's fields, of
which ``task``, ``model`` and ``tenant`` tell whose it is; a task that came with a trace (`Task.trace`) has the trace's
number in ``trace_id``, as OpenTelemetry writes it.  Events never hold prompts or answers.  A text is cut after
`LONGEST` characters, written in ASCII with everything else escaped, and loses what looks like a key.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fnmatch import translate
from typing import Any, TextIO

import attrs
import structlog

from llmos import read_options, trace_context
from llmos_kernel.api import listed, names
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Event

SOURCE = "observer:log"
LONGEST = 512
"""Most characters of a text."""
MOST = 32
"""Most fields of an event, and most items of a list."""
_KEY = re.compile(r"\b(llmos-[0-9a-f]{4,32}-|sk-|hf_|Bearer\s+)[\w.~+/-]{8,}", re.IGNORECASE)
_WRONG = ("failed", "threads_left", "slow")


@attrs.frozen(kw_only=True)
class Options:
    """What ``log`` can be told."""

    events: tuple[str, ...] = attrs.field(
        default=("task.*", "model.*", "plugin.*", "kernel.*", "*.failed", "*_failed", "*.slow"), converter=listed,
        validator=names,
    )  # fmt: skip
    """Names of the events that are logged; ``*`` is any text.  Steps and handles are too many to be among them."""


class Log:
    """Writes lines.  *config* holds `Options`; *now* is the time since 1970.  Raises `ConfigError`."""

    api = 1

    def __init__(
        self, config: Mapping[str, Any], stream: TextIO | None = None, now: Callable[[], float] = time.time
    ) -> None:
        wanted = read_options(Options, config, SOURCE).events
        self._wanted, self._now = re.compile("|".join(map(translate, wanted)) or r"(?!)"), now
        render = structlog.processors.JSONRenderer(ensure_ascii=True)
        self._logger: Any = structlog.wrap_logger(structlog.PrintLogger(stream or sys.stderr), processors=[render])

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Write a line, if the event is wanted."""
        if self._wanted.match(event.name):
            level = "warning" if event.name.endswith(_WRONG) else "info"
            when = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
            told = _numbered(event.fields) if event.name.startswith("task.") else event.fields
            fields = {str(name): plain(value) for name, value in list(told.items())[:MOST]}
            getattr(self._logger, level)(event.name, **(fields | {"level": level, "time": when, "at": event.at}))


def _numbered(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *fields* with the number of the trace, by which logs are searched, in place of the whole context."""
    try:
        trace = trace_context(fields.get("trace", ""))
    except InvalidArgument:  # whoever asked wrote nonsense, which stands for no trace
        trace = ""
    rest = {name: value for name, value in fields.items() if name != "trace"}
    return rest | {"trace_id": trace[3:35]} if trace else rest


def plain(value: object) -> object:
    """Return *value* as it may stand in a log: short, of JSON's kinds, without keys."""
    if value is None or isinstance(value, bool | int | float):
        return value if value == value and abs(value or 0) < float("inf") else str(value)  # noqa: PLR0124 - NaN is not
    if isinstance(value, list | tuple):
        return [plain(item) for item in value[:MOST]]
    text = _KEY.sub(r"\1…", str(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
