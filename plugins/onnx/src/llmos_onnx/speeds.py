"""How fast a model folder's steps are on this machine, by the clock and by processor time.

What is timed are the engine's own steps, threads and sampling included, as the backend would run the folder.  The
fastest of several counts: other work on the machine only makes steps slower.  Other work also takes time that is not
ours, which the clock shows and processor time does not; where both agree, the machine was quiet enough.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, Plan
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.folder import read_manifest
from llmos_onnx.manifest import Speeds

if TYPE_CHECKING:
    from llmos_kernel.contracts import StepExecutor

ROWS: Final = 16
PROMPT: Final = 128
"""Tokens of prompt that are timed unless it is told, and of one of the two pieces of work that are compared."""
_OUTPUT: Final = 128
_CONTEXT: Final = 512
_STEPS: Final = 16
"""Decoding steps that are timed."""
_PROMPTS: Final = 3
"""Prompts that are timed; the rows behind them share the first one's cache."""
_measured: Final = itertools.count()


@attrs.frozen
class Timed:
    """One round of measuring."""

    clock: Speeds
    processor: Speeds
    """Tokens per second of processor time, that of all threads added up."""


@attrs.frozen
class _Seconds:
    clock: float
    processor: float

    def least(self, other: _Seconds) -> _Seconds:
        """Return the lesser of each."""
        return _Seconds(min(self.clock, other.clock), min(self.processor, other.processor))

    def __add__(self, other: _Seconds) -> _Seconds:
        return _Seconds(self.clock + other.clock, self.processor + other.processor)


def seconds(speeds: Speeds) -> tuple[float, float]:
    """Return how long one request alone takes, and sixteen together: 128 tokens of prompt and 128 of output each."""
    alone = PROMPT / speeds.prefill + _OUTPUT / speeds.decode_1
    together = ROWS * (PROMPT / speeds.prefill + _OUTPUT / speeds.decode_16)
    return alone, together


def best_of(found: list[Speeds]) -> Speeds:
    """Return the greatest of each speed."""
    names = [field.name for field in attrs.fields(Speeds)]
    return Speeds(**{name: max(getattr(speeds, name) for speeds in found) for name in names})


def measure(folder: Path) -> Timed:
    """Load *folder* as the backend does, and return how fast its steps are."""
    with loaded(folder, {}) as executor:
        return timed(executor)


@contextmanager
def loaded(folder: Path, options: Mapping[str, Any]) -> Iterator[StepExecutor]:
    """Give the executor of *folder* for `ROWS` rows with *options*, and close it afterwards."""
    context = min(_CONTEXT, read_manifest(folder).shape.context)
    asked = {"slots": ROWS, "context": context, "step_tokens": max(PROMPT, ROWS), **options}
    executor = OnnxBackend({}).load(ModelSpec(name=folder.name, backend="onnx", path=str(folder), options=asked))
    try:
        yield executor
    finally:
        executor.close()


def timed(executor: StepExecutor, prompt: int = PROMPT) -> Timed:
    """Time prompts of *prompt* tokens one by one, then one row alone, then all rows together; leave no task behind."""
    limits = executor.limits
    length = max(min(prompt, limits.context - 2 * (_STEPS + 2)), 1)
    prefill = _prompts(executor, length, min(limits.tokens, length))
    alone = _fastest(executor, Plan(decode=((0, 1),)))
    together = _fastest(executor, Plan(decode=tuple((id, 1) for id in range(ROWS))))
    executor.release(range(ROWS))

    def speeds(clock: str) -> Speeds:
        first, second, third = (getattr(found, clock) for found in (prefill, alone, together))
        return Speeds(prefill=length / first, decode_1=1 / second, decode_16=ROWS / third)

    return Timed(speeds("clock"), speeds("processor"))


def _prompts(executor: StepExecutor, length: int, chunk: int) -> _Seconds:
    """Give every row a prompt of *length* tokens, and return the least time that one of the first ones took."""
    found: list[_Seconds] = []
    first = next(_measured)
    for id in range(ROWS):
        # A tenant of its own has nothing cached; a prompt of the first one's is copied.
        tenant = f"measured {first}" if not 0 < id < _PROMPTS else f"measured {next(_measured)}"
        task = Task("generate", None, [1] * length, params={"temperature": 0.0, "ignore_eos": True})
        executor.prepare(id, task, tenant)
        executor.admit(id)
        taken = _prefilled(executor, id, length, chunk)
        if id < _PROMPTS:
            found.append(taken)
    return min(found, key=lambda one: one.clock).least(min(found, key=lambda one: one.processor))


def _prefilled(executor: StepExecutor, id: int, length: int, chunk: int) -> _Seconds:
    """Return the time of *length* tokens of prompt in chunks of *chunk* tokens."""
    chunks = [min(chunk, length - done) for done in range(0, length, chunk)]
    total = _Seconds(0.0, 0.0)
    for tokens in chunks:
        total += _step(executor, Plan(prefill=((id, tokens),)))
    return total


def _fastest(executor: StepExecutor, plan: Plan) -> _Seconds:
    found = _step(executor, plan)
    for _ in range(_STEPS - 1):
        found = found.least(_step(executor, plan))
    return found


def _step(executor: StepExecutor, plan: Plan) -> _Seconds:
    clock, processor = time.perf_counter(), time.process_time()
    list(executor.step(plan))
    # Processor time may be counted in large ticks.
    return _Seconds(time.perf_counter() - clock, max(time.process_time() - processor, 1e-7))
