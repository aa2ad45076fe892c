"""Who carries what the kernel does besides its callers.  Nothing else in the kernel starts a thread.

Dispatchers, loads, workers and the observers' reader are coroutines that await nothing but the methods below.  Here
these block, so that each coroutine runs to its end in a thread of its own.  A simulator overrides all of them: its
methods suspend, its own loop goes on with whoever is next on a virtual clock, and the same kernel runs in one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any

from llmos_kernel._waiting import LoopThread, finish
from llmos_kernel.clock import Clock, Lock


class Driver:
    """Carries the kernel's coroutines in threads."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def start(self, name: str, main: Coroutine[Any, Any, None]) -> Any:  # noqa: ANN401 - a thread, or what stands for one
        """Run *main* besides the caller; return what knows its ``name``, and whether it ``is_alive``, to be joined."""
        thread = threading.Thread(target=finish, args=(main,), name=name, daemon=True)
        thread.start()
        return thread

    async def wait(self, lock: Lock, until: float | None) -> None:
        """Wait until *lock* is released, and take it, or until the time is *until*."""
        self.clock.wait(lock, until)

    async def take(self, queue: SimpleQueue[Any]) -> Any:  # noqa: ANN401 - whatever is in it
        """Wait for the next item of *queue*."""
        return queue.get()

    async def call(self, function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what it returns
        """Call a *function* that takes its time: a step, or a load."""
        return function(*arguments)

    def loop(self, name: str) -> LoopThread:
        """Return a loop for coroutines of plugins: ``spawn(main)``, which returns what cancels it, and ``close``."""
        return LoopThread(name)
