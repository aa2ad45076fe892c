"""Drives an executor by plans, as a scheduler would, and keeps what it answered."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import attrs

from llmos_kernel.api import Task
from llmos_kernel.contracts import Admitted, ModelSpec, NotNow, Plan, Preemption, Result
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.executor import OnnxExecutor


def load(path: Path, **options: Any) -> OnnxExecutor:
    """Return the executor of the model folder at *path*."""
    executor = OnnxBackend({}).load(ModelSpec(name=path.name, backend="onnx", path=str(path), options=options))
    assert isinstance(executor, OnnxExecutor)
    return executor


@attrs.define
class Row:
    """One task, as the driver knows it."""

    left: int
    """Prompt tokens not planned yet."""
    cached: int = 0
    """Prompt tokens that were in the cache."""
    tokens: list[int] = attrs.field(factory=list)
    text: str = ""
    logprobs: list[Any] = attrs.field(factory=list)
    finish: str | None = None
    error: Exception | None = None
    paused: bool = False

    @property
    def ended(self) -> bool:
        """Whether the task had its last result."""
        return self.finish is not None or self.error is not None


class Driver:
    """Runs tasks on one executor."""

    def __init__(self, executor: OnnxExecutor, chunk: int = 10_000, burst: int = 1) -> None:
        """Plan at most *chunk* tokens of a prompt, and *burst* tokens of a task that decodes alone."""
        self.executor = executor
        self.rows: dict[int, Row] = {}
        self._chunk, self._burst = chunk, burst

    def add(
        self, id: int, value: Any, *, kind: str = "generate", tenant: str = "local", context: int | None = None,
        **params: Any,
    ) -> Row:  # fmt: skip
        """Prepare and admit a task; greedy unless *params* say otherwise."""
        task = Task(kind, context, value, params={"temperature": 0.0, **params})
        prepared = self.executor.prepare(id, task, tenant)
        answer = self.executor.admit(id)
        assert isinstance(answer, Admitted), "no free slot"
        self.rows[id] = Row(prepared.prompt_tokens - answer.cached, cached=answer.cached)
        return self.rows[id]

    def step(self, *, skip: Collection[int] = (), chunk: Callable[[], int] | None = None) -> list[Result]:
        """Run one quantum of every task not paused, ended or in *skip*; *chunk* says how much of a prompt."""
        most = chunk or (lambda: self._chunk)
        active = {id: row for id, row in self.rows.items() if not (row.ended or row.paused or id in skip)}
        prefill = tuple((id, min(row.left, most())) for id, row in active.items() if row.left)
        burst = self._burst if len(active) == 1 else 1
        decode = tuple((id, burst) for id, row in active.items() if not row.left)
        results = list(self.executor.step(Plan(prefill=prefill, decode=decode)))
        for id, count in prefill:
            self.rows[id].left -= count
        for result in results:
            self._take(self.rows[result.id], result)
        ended = [id for id in active if self.rows[id].ended]
        self.executor.release(ended)
        self.executor.check_integrity()
        return results

    def finish(self) -> None:
        """Step until every task ended."""
        while not all(row.ended for row in self.rows.values()):
            self.step()

    def finish_preempting(self, how: Preemption, chance: random.Random) -> None:
        """Step until every task ended; now and then one is preempted, or comes back."""
        while not all(row.ended for row in self.rows.values()):
            for id, row in self.rows.items():
                if row.paused and chance.random() < 0.4:
                    self.resume(id)
                elif not row.ended and not row.paused and chance.random() < 0.1:
                    self.pause(id, how)
            if any(not (row.ended or row.paused) for row in self.rows.values()):
                self.step()

    def pause(self, id: int, how: Preemption) -> None:
        """Preempt a task."""
        self.executor.preempt(id, how)
        self.executor.check_integrity()
        self.rows[id].paused = True
        if how == "drop":
            row = self.rows[id]
            row.left = -1

    def resume(self, id: int) -> bool:
        """Give a preempted task its place back, if there is one."""
        answer = self.executor.admit(id)
        self.executor.check_integrity()
        if isinstance(answer, NotNow):
            return False
        row = self.rows[id]
        row.paused = False
        if row.left < 0:  # dropped: what was generated is to be computed again, like the prompt
            row.left = int(self.executor._sequences[id].count) - answer.cached
        return True

    def leave(self, id: int) -> None:
        """Drop a task whose reader is gone."""
        self.executor.release([id])
        self.executor.check_integrity()
        del self.rows[id]

    def _take(self, row: Row, result: Result) -> None:
        row.tokens += result.tokens
        row.text += result.text
        row.logprobs += result.logprobs
        row.finish, row.error = result.finish, result.error
