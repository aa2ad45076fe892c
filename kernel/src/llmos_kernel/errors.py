"""Every error that llmos raises, one branch per who must act.

    KernelError
    ├── CallerError                 the caller can mend it
    │   ├── InvalidArgument         (ValueError) a field, its value, and what would be right
    │   │   └── ConfigError         the same for a configuration key
    │   ├── PermissionDenied        (PermissionError) a policy or a right said no
    │   ├── NotFound                (LookupError) no such model, task, plugin or processor
    │   ├── WouldBlock              (BlockingIOError) a ``_nowait`` call found nothing to do
    │   ├── DeadlineExceeded        (TimeoutError) the call's or the task's time ran out
    │   ├── Cancelled               the task was cancelled
    │   ├── PortClosed              this side closed the port
    │   ├── PortBroken              (ConnectionError) the other side is gone
    │   ├── HandleRevoked           the handle is closed, revoked, stale or moved away
    │   ├── BudgetExceeded          more than this process may have
    │   ├── ReaderStalled           nobody read the task's port for too long
    │   └── TaskFailed              the function of a ``call`` task raised
    ├── PluginError                 a plugin's author or whoever installs it
    │   ├── PluginMissing           named but not installed, or a dependency is missing
    │   ├── PluginIncompatible      made for another version of the contract
    │   └── PluginFailed            it raised, overran or answered nonsense
    ├── ResourceError               whoever operates the machine
    │   ├── OutOfMemory             (MemoryError) the device has no room
    │   ├── ModelUnavailable        the model cannot be loaded or served
    │   ├── ExecutorCrashed         a step raised; the tasks in it are lost
    │   ├── Overloaded              too much work for now; ``retry_after`` says when
    │   └── KernelStopped           the kernel is not running, or stopped meanwhile
    └── KernelBug                   please report

An error carries its facts in ``fields`` (plain values), and survives the wire: `to_wire` and `from_wire` are inverses.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Self

_BITS = 64
"""Longest integer that is carried as a number: more readers than Python have to take it."""


class KernelError(Exception):
    """The root.  *message* is one sentence for a person; *fields* are the same facts for a program."""

    def __init__(self, message: str, /, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = {name: _plain(value) for name, value in fields.items()}

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(type(self), self.message, **self.fields), ()

    def to_wire(self) -> dict[str, object]:
        """Return the error as plain values: ``{"error": class, "message": text, "fields": {...}}``."""
        return {"error": type(self).__name__, "message": self.message, "fields": dict(self.fields)}

    @staticmethod
    def from_wire(data: Mapping[str, object]) -> KernelError:
        """Rebuild what `to_wire` wrote; an unknown class becomes a plain `KernelError`."""
        fields = data.get("fields")
        kind = _by_name(KernelError, str(data.get("error", ""))) or KernelError
        return kind(str(data.get("message", "")), **(fields if isinstance(fields, Mapping) else {}))


class CallerError(KernelError):
    """The caller can mend it."""


class InvalidArgument(CallerError, ValueError):
    """A value is out of range or of the wrong kind.  Fields: ``field``, ``value``, ``expected``."""

    @classmethod
    def of(cls, field: str, value: object, expected: str) -> Self:
        """Return the error for a *value* of *field* that is not what is *expected*."""
        return cls(f"{field} must be {expected}, not {shown(value)}", field=field, value=value, expected=expected)


class ConfigError(InvalidArgument):
    """A configuration key is unknown or its value is wrong.  Fields as `InvalidArgument`, plus ``source``."""


class PermissionDenied(CallerError, PermissionError):
    """A policy or the handle's rights refuse.  Fields: ``action``, ``policy`` or ``right``."""


class NotFound(CallerError, LookupError):
    """Nothing has that name.  Fields: ``field``, ``value``, ``nearest``."""


class WouldBlock(CallerError, BlockingIOError):
    """A ``_nowait`` call could only have waited."""


class DeadlineExceeded(CallerError, TimeoutError):
    """The time of the call or of the task ran out.  Fields: ``seconds``."""


class Cancelled(CallerError):
    """The task was cancelled before it ended by itself.  Fields: ``task``."""


class PortClosed(CallerError):
    """The port was closed on this side."""


class PortBroken(CallerError, ConnectionError):
    """Nobody is left at the other end of the port."""


class HandleRevoked(CallerError):
    """The handle was closed, revoked with its parent, or transferred to another process."""


class BudgetExceeded(CallerError):
    """More than the process may hold.  Fields: ``resource``, ``asked``, ``limit``."""


class ReaderStalled(CallerError):
    """The task's port stayed full for longer than the stall timeout.  Fields: ``task``, ``seconds``."""


class TaskFailed(CallerError):
    """The function of a ``call`` task raised; its exception is the ``__cause__``.  Fields: ``task``, ``cause``."""


class PluginError(KernelError):
    """A plugin is at fault.  Fields: ``plugin``."""


class PluginMissing(PluginError):
    """The plugin that was named, or something that it needs, is not installed."""


class PluginIncompatible(PluginError):
    """The plugin was made for another version of the contract."""


class PluginFailed(PluginError):
    """The plugin raised, overran its time, or answered something impossible."""

    @classmethod
    def of(cls, plugin: str, what: str, error: BaseException) -> Self:
        """Return the error for a *plugin* that raised *error* in *what*."""
        failure = cls(f"{plugin} raised in {what}: {type(error).__name__}: {error}", plugin=plugin)
        failure.__cause__ = error
        return failure


class ResourceError(KernelError):
    """The machine or what runs on it is at fault."""


class OutOfMemory(ResourceError, MemoryError):
    """The device has no room.  Fields: ``device``, ``asked``, ``free``."""


class ModelUnavailable(ResourceError):
    """The model cannot be loaded or served.  Fields: ``model``, and ``field``, ``value``, ``expected`` where known."""


class ExecutorCrashed(ResourceError):
    """A step of the executor raised; the tasks that it was running are lost.  Fields: ``model``, ``cause``."""


class Overloaded(ResourceError):
    """There is too much work for now.  Fields: ``retry_after`` and the predicted ``wait``, in seconds where known."""


class KernelStopped(ResourceError):
    """The kernel is not running, or was stopped while the call waited."""


class KernelBug(KernelError):
    """The kernel contradicts itself.  Please report it with the fields."""


def shown(value: object) -> str:
    """Return *value* for a message: its repr, cut, whatever its repr does."""
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 - Python refuses to print integers of many digits, and a repr may do anything
        return f"a value of type {type(value).__name__} that cannot be shown"


def _plain(value: object, depth: int = 8) -> object:
    """Return *value* as something that JSON can carry; what is nested deeper than *depth*, or in itself, as text."""
    if isinstance(value, int) and value.bit_length() > _BITS:
        return shown(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, Mapping) and depth:
        return {key if isinstance(key, str) else shown(key): _plain(item, depth - 1) for key, item in value.items()}
    return shown(value)


def _by_name(kind: type[KernelError], name: str) -> type[KernelError] | None:
    if kind.__name__ == name:
        return kind
    return next((found for sub in kind.__subclasses__() if (found := _by_name(sub, name))), None)
