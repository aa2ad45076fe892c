"""Tasks of files on their way: begun, tried again where another try can mend what went wrong, checked, answered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import attrs

from llmos._targets import Target, Tries
from llmos._text import Text
from llmos_kernel.api import Usage
from llmos_kernel.errors import (
    ExecutorCrashed, HandleRevoked, InvalidArgument, KernelBug, KernelError, KernelStopped, ModelUnavailable,
    OutOfMemory, Overloaded, PluginIncompatible, PluginMissing, PortClosed,
)  # fmt: skip

if TYPE_CHECKING:
    from llmos._requests import Request
    from llmos._running import AsyncRunner, Runner
    from llmos._task_file import TaskFile
    from llmos_kernel import TaskHandle

FATAL = (
    PluginMissing, PluginIncompatible, ModelUnavailable, KernelStopped, KernelBug, PortClosed, HandleRevoked,
)  # fmt: skip
"""Errors that the next input would meet as well: they end a run over many."""
MENDED = (ExecutorCrashed, OutOfMemory, Overloaded)
"""Errors that another try can mend."""
AT_ONCE = 64


@attrs.frozen(kw_only=True)
class Answer:
    """What became of one input of a task file."""

    value: Any = None
    """The text; with ``output`` the JSON value, as its schema says; a vector; labels and their probabilities."""
    text: Text = attrs.field(factory=Text)
    """The answer as the model gave it."""
    model: str = ""
    tries: int = 1
    error: KernelError | None = None
    """Why there is no value."""

    @property
    def finish(self) -> str:
        """Why it ended: ``stop``, ``length``, or what the backend says."""
        return self.text.finish

    @property
    def usage(self) -> Usage:
        """What the last try used."""
        return self.text.usage


class Attempts:
    """The tries of one input, and what comes after each.  Pure: it waits for nothing."""

    def __init__(
        self, file: TaskFile, input: object, targets: tuple[Target, ...], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raise `InvalidArgument` for an *input* that the task cannot take."""
        self._file, self._targets, self._clock = file, targets, clock
        self._request = file.request(input).aimed(targets)
        self._begun, self._misfit = clock(), False
        self.count = 1
        """Which try it is."""

    def tries(self) -> Tries:
        """Return the way of this try over the models."""
        return Tries(self._request, self._clock)

    def answer(self, text: Text) -> Answer:
        """Return what *text* answers; raise `InvalidArgument` where it is not as ``output`` says."""
        from llmos._task_file import TEXT_TYPES  # noqa: PLC0415 - it is there: its class made the file

        self._misfit = False
        try:
            value = text.value if self._file.type not in TEXT_TYPES else self._file.value(text)
        except InvalidArgument:
            self._misfit = True
            raise
        return Answer(value=value, text=text, model=text.model, tries=self.count)

    def again(self, error: KernelError) -> float | None:
        """Return in how many seconds there is another try after *error*; None where there is none."""
        pause = self._pause(error)
        if pause is None or self.count > self._file.execution.retries:
            return None
        deadline = self._file.execution.deadline
        left = None if deadline is None else deadline - (self._clock() - self._begun) - pause
        if left is not None and left <= 0:
            return None
        self.count += 1
        self._request = self._next(left)
        return pause

    def _pause(self, error: KernelError) -> float | None:
        """Return how long to wait before another try could mend *error*; None where none can."""
        if self._misfit:  # the likeliest tokens would be the same again
            return None if self._file.params.temperature == 0 else 0.0
        if isinstance(error, Overloaded):
            after = error.fields.get("retry_after", 0.0)
            return float(after) if isinstance(after, int | float) else None
        return 0.0 if isinstance(error, MENDED) else None

    def _next(self, left: float | None) -> Request:
        task = attrs.evolve(self._request.task, deadline=left)
        seed = self._file.params.seed
        if self._misfit and seed is not None:
            task = attrs.evolve(task, params={**task.params, "seed": (seed + self.count - 1) % 2**64})
        self._misfit = False
        return attrs.evolve(self._request, task=task)


class TaskRun:
    """One input that is under way."""

    def __init__(self, runner: Runner, attempts: Attempts) -> None:
        self._runner, self._attempts = runner, attempts
        self._begun: tuple[Tries, TaskHandle] | None = None
        self._held = ExitStack()
        self._failed: KernelError | None = None

    def begin(self) -> None:
        """Have the task accepted; an error is told by `end`."""
        tries = self._attempts.tries()
        try:
            self._begun = tries, self._held.enter_context(self._runner.begin(tries))
        except KernelError as error:
            self._failed = error

    def end(self) -> Answer:
        """Wait for the answer; raise the error of the last try."""
        with self._held:
            while True:
                try:
                    return self._answered()
                except KernelError as error:
                    pause = self._attempts.again(error)
                    if pause is None:
                        raise
                if pause:
                    time.sleep(pause)
                self.begin()

    def _answered(self) -> Answer:
        if self._failed is not None or self._begun is None:
            failed, self._failed = self._failed, None
            raise failed or KernelBug("a task was not begun")
        tries, handle = self._begun
        done = self._runner.end(tries, handle, self._held)
        return self._attempts.answer(Text(done=done, model=tries.name))

    def close(self) -> None:
        """Cancel what has not ended."""
        self._held.close()


def run_one(runner: Runner, file: TaskFile, input: object, targets: tuple[Target, ...]) -> Answer:
    """Return the answer to *input*; raise what went wrong."""
    run = TaskRun(runner, Attempts(file, input, targets))
    run.begin()
    return run.end()


def run_each(
    runner: Runner, file: TaskFile, inputs: Iterable[object], targets: tuple[Target, ...], at_once: int
) -> Generator[Answer, None, None]:
    """Yield the answer to each of *inputs*, in order, with at most *at_once* of them under way."""
    under_way: deque[TaskRun | Answer] = deque()
    try:
        for input in inputs:
            under_way.append(_started(runner, file, input, targets))
            if len(under_way) == at_once:
                yield _ended(under_way)
        while under_way:
            yield _ended(under_way)
    finally:
        for run in under_way:
            if isinstance(run, TaskRun):
                run.close()


def _started(runner: Runner, file: TaskFile, input: object, targets: tuple[Target, ...]) -> TaskRun | Answer:
    if isinstance(input, InvalidArgument):
        return Answer(error=input)
    try:
        run = TaskRun(runner, Attempts(file, input, targets))
    except InvalidArgument as error:
        return Answer(error=error)
    run.begin()
    return run


def _ended(under_way: deque[TaskRun | Answer]) -> Answer:
    first = under_way.popleft()
    if isinstance(first, Answer):
        return first
    try:
        return first.end()
    except FATAL:
        raise
    except KernelError as error:
        return Answer(error=error)


async def run_one_async(runner: AsyncRunner, file: TaskFile, input: object, targets: tuple[Target, ...]) -> Answer:
    """Return the answer to *input*; raise what went wrong."""
    import asyncio  # noqa: PLC0415 - whoever waits here has it

    attempts = Attempts(file, input, targets)
    while True:
        tries = attempts.tries()
        try:
            with ExitStack() as held:
                handle = held.enter_context(await runner.begin(tries))
                done = await runner.end(tries, handle, held)
            return attempts.answer(Text(done=done, model=tries.name))
        except KernelError as error:
            pause = attempts.again(error)
            if pause is None:
                raise
        await asyncio.sleep(pause)
