"""Errors as people read them: what is wrong in one line, what to do in the next, and an exit code."""

from __future__ import annotations

import math

import click

from llmos.cli._common import Common, print_json, say
from llmos_kernel.errors import (
    CallerError,
    ConfigError,
    ExecutorCrashed,
    InvalidArgument,
    KernelBug,
    KernelError,
    ModelUnavailable,
    NotFound,
    OutOfMemory,
    Overloaded,
    PermissionDenied,
    PluginError,
    PluginFailed,
    PluginMissing,
    PortBroken,
    ResourceError,
)  # fmt: skip

REQUEST, USAGE, PLUGIN, RESOURCE, BUG = 1, 2, 3, 4, 5


def report(error: Exception, common: Common) -> int:
    """Print *error* and return the exit code."""
    if common.traceback:
        import traceback  # noqa: PLC0415 - only who asked for it

        traceback.print_exception(error)
    known = error if isinstance(error, KernelError) else _surprise(error)
    if common.json:
        print_json(known.to_wire())
    say(_line(known), "error: ", err=True)
    step = next_step(known)
    if step:
        say(step, "next:  ", err=True)
    return exit_code(known)


def blamed(plugin: str, what: str, error: BaseException) -> BaseException:
    """Return the error to raise for what *plugin* raised in *what*: `PluginFailed` naming it.

    Errors that are typed, the system's (a file that is not there) and click's (wrong usage) say it better themselves.
    """
    telling = (KernelError, OSError, click.ClickException, click.Abort, click.exceptions.Exit)
    return error if isinstance(error, telling) else PluginFailed.of(plugin, what, error)


def exit_code(error: KernelError) -> int:
    """Return the exit code that says who must act."""
    if isinstance(error, ConfigError):
        return USAGE
    kinds = ((CallerError, REQUEST), (PluginError, PLUGIN), (ResourceError, RESOURCE))
    return next((code for kind, code in kinds if isinstance(error, kind)), BUG)


def next_step(error: KernelError) -> str:
    """Return what to do about *error*; empty where its message says it."""
    steps: tuple[tuple[type[KernelError], str], ...] = (
        (ConfigError, _mended(error)),
        (NotFound, "llmos models list" if error.fields.get("field") == "model" else ""),
        (InvalidArgument, ""),
        (OutOfMemory, "close other models, choose a smaller one, or raise devices in llmos.toml"),
        (ModelUnavailable, "llmos doctor"),
        (ExecutorCrashed, "llmos doctor --load"),
        (PortBroken, "start it there with llmos serve, or name another address" if "address" in error.fields else ""),
        (PermissionDenied, "llmos doctor, which asks each policy" if "policy" in error.fields else ""),
        (Overloaded, _again(error.fields.get("retry_after", 0))),
        (PluginMissing, "llmos plugins list"),
        (PluginError, "llmos doctor"),
        (KernelBug, "report this, with what you did"),
    )
    near = error.fields.get("nearest")
    if "did you mean" in error.message:
        return ""
    if isinstance(error, NotFound) and isinstance(near, list) and near and "nearest: " not in error.message:
        return f"did you mean {' or '.join(map(str, near))}?"
    return next((step for kind, step in steps if isinstance(error, kind)), "")


def _mended(error: KernelError) -> str:
    told = error.fields.get("next")
    if isinstance(told, str):  # whoever reads a file that is no setting knows what makes one
        return told
    if "others" in error.fields:  # a task file's
        return "mend it there; llmos run --schema prints what editors need to complete and check such a file"
    return "mend the setting there; llmos doctor shows all of them"


def _again(seconds: object) -> str:
    """Return when to try again; None is never, and what is no time is some time."""
    if isinstance(seconds, int | float) and seconds > 0:
        return f"try again in {math.ceil(seconds)} s"
    return "" if seconds is None else "try again later"


def _surprise(error: Exception) -> KernelError:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return CallerError(f"{where}{error.strerror or error}", cause=type(error).__name__)
    return KernelBug(f"{type(error).__name__}: {error}", cause=type(error).__name__)


def _line(error: KernelError) -> str:
    return " ".join(error.message.split())
