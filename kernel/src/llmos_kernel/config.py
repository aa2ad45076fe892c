"""The kernel's configuration: attrs classes, checked when made.  Files and environment are the SDK's affair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llmos_kernel.api import MAX_SECONDS, Budget, check_number, check_type, listed, mapping, names, number, text
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ConfigError

_seconds = number(0.001, MAX_SECONDS, whole=False)


def _names() -> Any:  # noqa: ANN401 - attrs types fields as Any
    return attrs.field(default=(), converter=listed, validator=names)


def _devices(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, int]) -> None:
    mapping(instance, attribute, value)
    for device, nbytes in value.items():
        check_number(f"devices.{device}", nbytes, 0, 2**50)


def _unique(instance: object, attribute: attrs.Attribute[Any], value: tuple[ModelSpec, ...]) -> None:
    check_type("models", value, tuple, "a list of model specifications")
    for spec in value:
        check_type("models", spec, ModelSpec, "a list of model specifications")
    seen = [spec.name for spec in value]
    if twice := [name for name in seen if seen.count(name) > 1]:
        raise ConfigError(f"models names {twice[0]!r} twice", field="models", value=twice[0], expected="each name once")


@attrs.frozen(kw_only=True)
class KernelConfig:
    """Everything that a kernel may be told.  The defaults embed it bare: no plugin is looked for."""

    plugins: tuple[str, ...] = _names()
    """Which installed plugins may be used: ``kind:name``, a name, a distribution, or ``*``.  Empty: none."""
    blocked: tuple[str, ...] = _names()
    """Which may not, in the same spelling; this wins."""
    scheduler: str = attrs.field(default="fifo", validator=text)
    """Name of the scheduler plugin of every executor that `schedulers` does not name."""
    schedulers: Mapping[str, str] = attrs.field(factory=dict, validator=mapping)
    """Scheduler per model name."""
    router: str | None = attrs.field(default=None, validator=attrs.validators.optional(text))
    """Name of the router plugin; without one, tasks must name their model."""
    policies: tuple[str, ...] = _names()
    """Policy plugins, all of which are asked."""
    observers: tuple[str, ...] = _names()
    """Observer plugins, all of which are told."""
    options: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, validator=mapping)
    """Configuration per plugin, by ``kind:name``."""
    models: tuple[ModelSpec, ...] = attrs.field(default=(), converter=listed, validator=_unique)
    """Models besides those that plugins bring."""
    aliases: Mapping[str, str] = attrs.field(factory=dict, validator=mapping)
    """Other names of models; they win over the aliases that plugins bring."""
    devices: Mapping[str, int] = attrs.field(factory=lambda: {"cpu": 2**34}, validator=_devices)
    """Bytes of model weights that each device may hold."""
    budget: Budget = attrs.field(factory=Budget)
    """The most that any one process is given, whatever its credentials say."""
    timeout: float = attrs.field(default=300.0, validator=_seconds)
    """Seconds after which a system call without a timeout gives up."""
    stall_timeout: float = attrs.field(default=60.0, validator=_seconds)
    """Seconds that a task's port may stay full before the task fails with `ReaderStalled`."""
    plugin_timeout: float = attrs.field(default=30.0, validator=_seconds)
    """Seconds that a processor or ``prepare`` may take before its task fails with `PluginFailed`."""
    workers: int = attrs.field(default=4, validator=number(1, 256))
    """Threads for processors, ``prepare`` and control messages."""
    call_rows: int = attrs.field(default=8, validator=number(1, 4096))
    """``call`` tasks that may run at once."""

    def scheduler_of(self, model: str) -> str:
        """Return the name of the scheduler plugin for *model*."""
        return self.schedulers.get(model, self.scheduler)
