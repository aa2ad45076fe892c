"""The scheduler ``recorded``: another policy, and a file of everything that it was told and that it answered.

A scheduler depends on its calls alone, so a recording of a real run says all that there is to know of it: `replay`
makes the same calls to the same policy, or to another version of it, and compares the plans.  Chosen by name::

    scheduler = "recorded"
    [options."scheduler:recorded"]
    policy = "fair"
    file = "fair.jsonl"
    options = {weights = {paying = 4.0}}

The file is lines of JSON: first what was recorded, then the calls, each a list of its name and its arguments, as they
happen; of ``plan``, the answer stands last.  It is made with the first call, and must not exist: each model that loads
needs one of its own.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import mapping, text
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import Limits, Plan, Scheduler, TaskView
from llmos_kernel.errors import ConfigError
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.plugins import Plugins

api = 1
"""The version of the scheduler contract that this module is written for."""
FORMAT = 1
SOURCE = "scheduler:recorded"


@attrs.frozen(kw_only=True)
class RecordOptions:
    """What is recorded, and where."""

    policy: str = attrs.field(default="fifo", validator=text)
    """The name of the policy that decides."""
    file: str = attrs.field(default="", validator=text)
    """A path where nothing is yet."""
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=mapping)
    """The policy's own options."""


def scheduler_named(name: str, options: Mapping[str, Any]) -> Scheduler:
    """Return a new scheduler of the installed policy *name*; raises `PluginMissing` and what else is wrong with it."""
    key = f"scheduler:{name}"
    return Plugins(KernelConfig(plugins=(key,), options={key: options})).scheduler(name)


class Recorded(Scheduler):
    """Passes every call on, and writes it down."""

    def __init__(self, scheduler: Scheduler, options: RecordOptions) -> None:
        self._scheduler, self._options = scheduler, options
        self._file: int | None = None

    def arrived(self, task: TaskView) -> None:
        """Write the view down."""
        self._scheduler.arrived(task)
        self._write("arrived", attrs.asdict(task))

    def changed(self, task: TaskView) -> None:
        """Write the view down."""
        self._scheduler.changed(task)
        self._write("changed", attrs.asdict(task))

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Write the numbers down."""
        self._scheduler.charged(id, prefilled, generated)
        self._write("charged", id, prefilled, generated)

    def finished(self, id: int) -> None:
        """Write the id down."""
        self._scheduler.finished(id)
        self._write("finished", id)

    def plan(self, now: float, limits: Limits) -> Plan:
        """Write down what was asked and what was answered."""
        plan = self._scheduler.plan(now, limits)
        self._write("plan", now, attrs.asdict(limits), plan_facts(plan))
        return plan

    def _write(self, *call: object) -> None:
        if self._file is None:
            self._file = self._open()
            chosen = {"policy": self._options.policy, "options": dict(self._options.options)}
            self._write_line({"format": FORMAT, **chosen})
        self._write_line(call)

    def _open(self) -> int:
        path = self._options.file
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except OSError as error:
            expected = "a path where nothing is yet, one for each model"
            message = f"{SOURCE}: file must be {expected}, not {path!r}: {error.strerror}"
            raise ConfigError(message, field="file", value=path, expected=expected, source=SOURCE) from error
        weakref.finalize(self, os.close, file)
        return file

    def _write_line(self, values: object) -> None:
        line = f"{json.dumps(values)}\n".encode()
        if self._file is not None:
            os.write(self._file, line)


def plan_facts(plan: object) -> Any:  # noqa: ANN401 - plain values
    """Return a plan as plain values; what is none, as text."""
    if not isinstance(plan, Plan):
        return f"{plan!r:.200}"
    return {name: value for name, value in attrs.asdict(plan, recurse=False).items() if value not in ((), None)}


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a recorded policy; *config* holds `RecordOptions`.  Raises `ConfigError` and `PluginMissing`."""
    options = read_options(RecordOptions, config, SOURCE)
    return Recorded(scheduler_named(options.policy, options.options), options)
