"""What all conformance classes share: overrides that say why, comparisons, threads, time, and a kernel to try in."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import TypeVar

from llmos.testing._echo import EchoBackend, echo_spec
from llmos.testing._first_come import FirstComePlugin
from llmos_kernel.api import Done, Failed, Task
from llmos_kernel.config import KernelConfig
from llmos_kernel.errors import KernelError
from llmos_kernel.hookspecs import HOOKS, hookimpl
from llmos_kernel.kernel import Kernel
from llmos_kernel.plugins import Plugins
from llmos_kernel.process import Process

T = TypeVar("T")

NAME = "checked"
"""What the plugin that is checked is called."""
PATIENCE = 0.1
"""Seconds within which what must be quick answers, at the best of several times: a busy machine is no offence."""


class Conformance:
    """The root of the conformance classes.  A subclass gives the fixture that its class asks for."""

    def test_overrides_say_why(self) -> None:
        """A check that a subclass overrides is marked ``xfail(reason=...)``: the kit leaves nothing out in silence."""
        silent = silent_overrides(type(self))
        message = "mark what your plugin does not keep with @pytest.mark.xfail(reason='why'), or leave it out"
        expect([], silent, f"checks that are overridden without a reason ({message})")


def silent_overrides(cls: type) -> list[str]:
    """Return the checks of the kit that *cls*, or a base of it outside of the kit, overrides without saying why."""
    kit = [base for base in cls.__mro__ if base.__module__.startswith(__package__)]
    checks = {name for base in kit for name in vars(base) if name.startswith("test_")}
    return sorted(name for name in checks if not (_owner(cls, name) in kit or _says_why(vars(_owner(cls, name))[name])))


def _owner(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def _says_why(check: object) -> bool:
    marks = getattr(check, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)


def expect(expected: object, found: object, what: str) -> None:
    """Raise `AssertionError` with *what* it is about unless *found* is what is *expected*."""
    if expected != found:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def expect_type(expected: type[T], found: object, what: str) -> T:
    """Return *found*; raise `AssertionError` with *what* it is about unless it is of the *expected* type."""
    if isinstance(found, expected):
        return found
    raise AssertionError(f"{what}: expected a {expected.__name__}, found {found!r:.200}")


def expect_facts(found: object) -> None:
    """Raise `AssertionError` unless *found* are facts by name."""
    facts: Mapping[object, object] = expect_type(Mapping, found, "the facts")  # type: ignore[type-abstract]
    expect([], [key for key in facts if not isinstance(key, str)], "facts without a name")


@contextmanager
def expect_typed(what: str, *allowed: type[KernelError]) -> Iterator[None]:
    """Let errors of llmos pass by, those of the *allowed* classes; anything else that is raised is the finding."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if not isinstance(error, allowed or KernelError):
            wanted = ", ".join(kind.__name__ for kind in allowed) or "a typed error of llmos_kernel.errors"
            message = f"{what}: expected {wanted}, found {type(error).__name__}: {error}"
            raise AssertionError(message) from error  # noqa: TRY004 - it is a finding about the plugin


def expect_end(process: Process, task: Task) -> Done | Failed:
    """Return the end of *task*; raise `AssertionError` if it is none."""
    event = process.recv(process.schedule(task)).body
    return event if isinstance(event, Done) else expect_type(Failed, event, "the task's end")


def quickest(call: Callable[[], object], times: int = 5) -> float:
    """Return the seconds of the quickest of several calls."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        spent.append(time.perf_counter() - started)
    return min(spent)


def at_once(*calls: Callable[[], object]) -> None:
    """Run each of *calls* in a thread of its own, with many changes between them, and return when all have ended."""
    workers = [threading.Thread(target=call) for call in calls]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)


def in_threads(call: Callable[[], T], threads: int = 4, times: int = 20) -> list[T | BaseException]:
    """Return what *call* returns, or raises, *times* times in each of several threads that run at once."""
    found: list[T | BaseException] = []

    def run() -> None:
        for _ in range(times):
            try:
                found.append(call())
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is the finding
                found.append(error)

    at_once(*[run] * threads)
    return found


def plugin_of(kind: str, make: Callable[[], object]) -> tuple[str, object]:
    """Return a plugin called `NAME` whose hook gives what *make* makes."""
    give = hookimpl(lambda config: make())
    return NAME, SimpleNamespace(**{HOOKS[kind]: give}, api=1)


def take(kind: str, make: Callable[[], object]) -> None:
    """Let the kernel ask for the plugin; raise `AssertionError` if it refuses what it gets."""
    try:
        getattr(Plugins(KernelConfig(), [plugin_of(kind, make)]), kind)(NAME)
    except KernelError as error:
        raise AssertionError(f"the kernel does not take the {kind}: {error}") from error


def kernel_with(*plugins: object, **config: object) -> Kernel:
    """Return a kernel, not started, with an echo model and the *plugins*; none that is installed."""
    settings = KernelConfig(**{"models": (echo_spec(),), "timeout": 30.0, **config})  # type: ignore[arg-type]
    return Kernel(settings, plugins=(EchoBackend(), FirstComePlugin(), *plugins))


def reach(root: object) -> int:
    """Return how many objects can be reached from *root*, those of programs not counted."""
    seen: dict[int, object] = {}
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType | BuiltinFunctionType):
            seen[id(one)] = one
            todo += gc.get_referents(one)
            todo += one if isinstance(one, dict) else ()  # keys that are strings are not among the referents
    return len(seen)
