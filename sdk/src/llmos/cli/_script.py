"""A Python program with the kernel of the settings attached: its arguments, its exit status, its own tracebacks."""

from __future__ import annotations

import itertools
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

import llmos
import llmos_kernel
from llmos.cli._common import Common
from llmos_kernel.errors import KernelError

FAILED = 1
"""The exit status of a program that raised, as Python has it."""
_NOT_THEIRS = tuple(str(Path(module.__file__).parent) for module in (click, llmos, llmos_kernel) if module.__file__)
_RUNNERS = ("<frozen runpy>", runpy.__file__)


def run_script(common: Common, file: Path, arguments: Sequence[str]) -> int:
    """Run the program *file* as ``python FILE ARGUMENTS`` would, and return its exit status.

    Meanwhile `llmos.Client` and `llmos.load_model` without an address share the kernel of the command line's settings.
    """
    with common.client(), _as_python_has_it(file, arguments):
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as end:
            return _status(end)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a program may raise
            _print(error, whole=common.traceback)
            return FAILED
    return 0


@contextmanager
def _as_python_has_it(file: Path, arguments: Sequence[str]) -> Iterator[None]:
    argv, path = sys.argv, sys.path[:]
    sys.argv = [str(file), *arguments]
    sys.path.insert(0, str(file.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


def _status(end: SystemExit) -> int:
    """Return the exit status; what is no number is printed, as Python does."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    click.echo(end.code, err=True)
    return FAILED


def _print(error: Exception, *, whole: bool) -> None:
    """Print the traceback of *error*, unless *whole* without what is not the program's."""
    told = traceback.TracebackException.from_exception(error)
    if not whole:
        _shorten(told, error)
    click.echo("".join(told.format()), nl=False, err=True)


def _shorten(told: traceback.TracebackException, error: BaseException) -> None:
    """Leave out the frames that are not the program's, of what caused the error too."""
    frames = list(itertools.dropwhile(_foreign, told.stack))
    if isinstance(error, KernelError):  # what it met in llmos, or in a plugin, its message says
        frames = list(itertools.takewhile(lambda frame: not _foreign(frame), frames))
    told.stack = traceback.StackSummary.from_list([frame for frame in frames if not _foreign(frame)])
    for inner, why in ((told.__cause__, error.__cause__), (told.__context__, error.__context__)):
        if inner is not None and why is not None:
            _shorten(inner, why)


def _foreign(frame: traceback.FrameSummary) -> bool:
    return frame.filename in _RUNNERS or frame.filename.startswith(_NOT_THEIRS)
