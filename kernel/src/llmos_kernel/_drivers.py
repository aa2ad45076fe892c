"""Drivers: the thread that carries a dispatcher's plans to an executor and its answers back."""

from __future__ import annotations

import abc
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from llmos_kernel._dispatch import Dispatcher, crashed, deliver, failed
from llmos_kernel._tasks import TaskRecord
from llmos_kernel._waiting import Bell, LoopThread, WaitList, Workers
from llmos_kernel.api import MAX_SECONDS
from llmos_kernel.contracts import (
    Admitted, Executor, Limits, Plan, Prepared, Result, RunExecutor, Scheduler, StepExecutor,
)  # fmt: skip
from llmos_kernel.errors import Cancelled, KernelError, PluginFailed
from llmos_kernel.services import TextFilter

if TYPE_CHECKING:
    from llmos_kernel._core import Core

running_task: contextvars.ContextVar[TaskRecord | None] = contextvars.ContextVar("llmos_running_task", default=None)
"""The ``call`` task that this thread or coroutine runs."""


class ExecutorDriver(abc.ABC):
    """One executor, its dispatcher and its thread.  Subclasses say what a plan means."""

    steps = False
    thread: threading.Thread

    def __init__(self, core: Core, model: str, executor: Executor, plugin: str, scheduler: Scheduler) -> None:
        self.core, self.model = core, model
        self.executor: Any = executor
        self.dispatcher = Dispatcher(core, model, plugin, scheduler, self._filter, self.steps)
        self._bell = Bell()
        self._armed: float | None = float("-inf")
        """Until when the thread sleeps; long past while it is awake."""
        self._closing = False
        self._classes = max(1, len(executor.limits.pools)) if self.steps else 1
        """Length classes of the executor; asked once, because only the driver's thread may ask for limits."""
        self.lent = 0
        """Rows of tasks that wait for their children."""
        self._output = Workers(core.driver, f"llmos-{model}-output", 1)

    def note(self, what: str, rec: TaskRecord | int, wake_by: float = float("-inf")) -> None:
        """Tell the dispatcher; wake its thread unless it wakes by itself before *wake_by*.  Any thread."""
        self.dispatcher.notes.append((what, rec))
        if self._armed is None or self._armed > wake_by:
            self._bell.ring()

    def accept(self, rec: TaskRecord) -> None:
        """Bring a task to the dispatcher, by way of the workers if there is something to prepare."""
        if self.steps or rec.task.pre or rec.task.post:
            rec.state = "preparing"
            patrol = rec.accepted + self.core.config.plugin_timeout
            self.note("accepted", rec, patrol if rec.deadline is None else min(patrol, rec.deadline))
            self.core.workers.submit(lambda: self._prepare(rec))
        else:
            self.dispatcher.notes.append(("accepted", rec))
            self.note("arrived", rec)

    def task_ended(self, rec: TaskRecord) -> None:
        """A task of this driver ended, by whatever cause.  Under the core's lock."""
        self.note("ended", rec)

    def lend(self, rec: TaskRecord, waits: int) -> None:
        """Count for how many children a task waits; its row and its place are lent meanwhile.  Under the lock."""
        before, rec.lent = rec.lent, rec.lent + waits
        places = bool(rec.lent) - bool(before)
        if places and not rec.ended:
            self.lent += places
            rec.seat.account.give("tasks", places)
            self._bell.ring()

    def close(self) -> None:
        """Let the thread end once its step returned."""
        self._closing = True
        self._bell.ring()

    def threads(self) -> list[threading.Thread]:
        """Return the threads that end after `close`."""
        return [self.thread, *self._output.threads]

    async def run(self) -> None:
        """Take turns until `close`."""
        dispatcher, clock = self.dispatcher, self.core.clock
        while True:
            self._release(dispatcher.hear(clock.now()))
            plan = dispatcher.plan(clock.now(), limits) if (limits := self._ask_limits()) else None
            if plan is not None:
                await self._execute(plan)
            elif self._closing and not (dispatcher.notes or dispatcher.coming):
                break
            else:
                self._armed = dispatcher.wake_at()
                if not dispatcher.notes:
                    await self.core.driver.wait(self._bell.lock, self._armed)
                self._armed = float("-inf")
        self._close()

    def _ask_limits(self) -> Limits | None:
        try:
            return self._limits()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self.dispatcher.crash(tuple(self.dispatcher.tasks), error, self.core.clock.now())
            return None

    def _close(self) -> None:
        self._output.close()
        self._tell("close")

    def _tell(self, what: str, *arguments: object) -> None:
        """Call the executor where nobody waits for the outcome: a failure is reported, and that is all."""
        try:
            getattr(self.executor, what)(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self.core.report(f"executor.{what}_failed", model=self.model, error=repr(error))

    @abc.abstractmethod
    def _limits(self) -> Limits:
        """Return what the executor can take now."""

    @abc.abstractmethod
    def _release(self, ids: list[int]) -> None:
        """Let the executor forget tasks."""

    @abc.abstractmethod
    async def _execute(self, plan: Plan) -> None:
        """Do what the plan says and tell the dispatcher."""

    # --- before and after the executor ---------------------------------------------------------------------------

    def _prepare(self, rec: TaskRecord) -> None:
        try:
            self._process(rec)
            prepared = self._prepared(rec) if self.steps and not rec.ended else None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            with self.core.lock:
                rec.end(self.core.clock.now(), error=failed(self.model, "prepare", error))
        else:
            if prepared is not None:
                rec.prompt, rec.max_tokens = prepared.prompt_tokens, prepared.max_tokens
                rec.length_class = prepared.length_class
                if prepared.answer is not None:
                    with self.core.lock:
                        deliver(rec, prepared.answer, self.core.clock.now())
        self.note("arrived", rec)

    def _prepared(self, rec: TaskRecord) -> Prepared:
        prepared: object = self.executor.prepare(rec.id, rec.task, rec.seat.principal.tenant)
        if not isinstance(prepared, Prepared) or not 0 <= prepared.length_class < self._classes:
            raise PluginFailed(f"prepare() of {self.model} returned {prepared!r:.80}", plugin=self.model)
        return prepared

    def _process(self, rec: TaskRecord) -> None:
        """Pass the input through the task's pre-processors and open filters for its post-processors."""
        task, value, name = rec.task, rec.task.input, ""
        try:
            for name in task.pre:
                value = self.core.plugins.processor(name).process(value, task.params)
            if task.post:
                rec.filters = [(name, self.core.plugins.processor(name).filter(task.params)) for name in task.post]
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            raise failed(f"processor:{name}", "process", error)  # noqa: B904 - it has its cause
        if task.pre or rec.context is not None:
            rec.task = attrs.evolve(task, input=value, target=task.target if rec.context is None else rec.context)

    def _filter(self, rec: TaskRecord, result: Result) -> None:
        """Pass a result through the task's post-processors, on the output thread.  Under the core's lock."""
        self._output.submit(lambda: self._filtered(rec, result, rec.filters or []))

    def _filtered(self, rec: TaskRecord, result: Result, filters: list[tuple[str, TextFilter]]) -> None:
        text, failure = result.text, None
        ending = result.finish is not None or result.error is not None
        for name, stage in filters:
            try:
                text = stage.feed(text) + (stage.end() if ending else "")
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
                failure = failed(f"processor:{name}", "filter", error)
                break
        with self.core.lock:
            if failure is not None:
                rec.end(self.core.clock.now(), error=failure)
            elif not rec.ended:
                deliver(rec, attrs.evolve(result, text=text), self.core.clock.now())


class StepDriver(ExecutorDriver):
    """Drives a `StepExecutor`: every task moves a little with each step."""

    steps = True

    def __init__(self, core: Core, model: str, executor: StepExecutor, plugin: str, scheduler: Scheduler) -> None:
        super().__init__(core, model, executor, plugin, scheduler)
        self._stepping: set[int] = set()
        """Tasks of the running step that have not ended; a new set for each step."""
        self._cutting = threading.Lock()
        """Held while a step is cut short: the next one cannot begin, so that it is not the one that is cut."""

    def task_ended(self, rec: TaskRecord) -> None:
        """Note it; when the last row of the running step is gone, cut the step short."""
        super().task_ended(rec)
        if rec.id in self._stepping:
            self._stepping.discard(rec.id)
            if not self._stepping:
                self.core.workers.submit(functools.partial(self._cut, self._stepping))

    def _cut(self, stepping: set[int]) -> None:
        with self._cutting:
            if self._stepping is stepping:
                self._tell("interrupt")

    def _limits(self) -> Limits:
        return self.executor.limits  # type: ignore[no-any-return]

    def _release(self, ids: list[int]) -> None:
        if ids:
            self._tell("release", ids)

    async def _execute(self, plan: Plan) -> None:
        dispatcher, clock = self.dispatcher, self.core.clock
        answers: dict[int, object] = {}
        for id, how in plan.preempt:
            self._ask(answers, id, self.executor.preempt, how)
        for id in plan.resume + plan.admit:
            self._ask(answers, id, self.executor.admit)
        begun = clock.now()
        dispatcher.begin(plan, answers, begun)
        if not (plan.prefill or plan.decode):
            return
        with self.core.lock:
            rows = [id for id, _ in plan.prefill + plan.decode]
            self._stepping = {id for id in rows if not dispatcher.tasks[id].ended}
        try:
            try:
                results = tuple(await self.core.driver.call(self.executor.step, plan)) if self._stepping else ()
            finally:
                with self._cutting, self.core.lock:
                    self._stepping = set()
            made = dispatcher.commit(plan, results, clock.now())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            dispatcher.crash(rows, error, clock.now())
            made = {}
        if self.core.events.enabled:
            prompt, seconds = sum(count for _, count in plan.prefill), clock.now() - begun
            self.core.events.emit("step", model=self.model, rows=len(rows), prompt=prompt, seconds=seconds, tokens=made)

    @staticmethod
    def _ask(answers: dict[int, object], id: int, ask: Callable[..., object], *arguments: object) -> None:
        try:
            answer = ask(id, *arguments)
            if not arguments:
                answers[id] = answer
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            answers[id] = error


class RunDriver(ExecutorDriver):
    """Drives a `RunExecutor`: tasks run from start to end, in threads or on an event loop of their own."""

    def __init__(self, core: Core, model: str, executor: RunExecutor, plugin: str, scheduler: Scheduler) -> None:
        super().__init__(core, model, executor, plugin, scheduler)
        self._rows: dict[int, Callable[[], object]] = {}
        """What is running, and how to cancel it."""
        self._runners = Workers(core.driver, f"llmos-{model}-run", 2**20)
        self._loop: LoopThread | None = None
        self._starting = threading.Lock()
        self._coroutine = inspect.iscoroutinefunction(executor.run)

    def threads(self) -> list[threading.Thread]:
        """Return the threads that end after `close`."""
        return [*super().threads(), *self._runners.threads, *([self._loop.thread] if self._loop else ())]

    def _close(self) -> None:
        self._runners.close()
        if self._loop is not None:
            self._loop.close()
        super()._close()

    def _limits(self) -> Limits:
        limits: Limits = self.executor.limits
        return attrs.evolve(limits, free=max(0, limits.rows - len(self._rows) + self.lent))

    def _release(self, ids: list[int]) -> None:
        for id in ids:
            self._rows.get(id, int)()  # one that never ran has no row

    async def _execute(self, plan: Plan) -> None:
        self.dispatcher.begin(plan, {id: Admitted() for id in plan.admit}, self.core.clock.now())
        for rec in [self.dispatcher.tasks[id] for id in plan.admit]:
            if not rec.ended and self._coroutine:
                self._await(rec, self.executor.run)
            elif not rec.ended:
                self._rows[rec.id] = lambda: None
                self._runners.submit(functools.partial(self._in_thread, rec))

    def _in_thread(self, rec: TaskRecord) -> None:
        running_task.set(rec)  # until the thread's next task
        try:
            value = self.executor.run(rec.id, rec.task, self._emitter(rec))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._finished(rec, error=crashed(self.model, error))
        else:
            if not inspect.isawaitable(value):
                self._finished(rec, value)
            elif not self._await(rec, lambda *_: value):
                getattr(value, "close", bool)()  # a coroutine that never begins would complain
                self._finished(rec)

    def _await(self, rec: TaskRecord, run: Callable[..., Any]) -> bool:
        """Run a coroutine in the loop; False if its task has ended, and maybe the loop with it."""
        with self._starting:
            if self._loop is None and not rec.ended:
                self._loop = self.core.driver.loop(f"llmos-{self.model}-loop")

        async def main() -> None:
            running_task.set(rec)
            try:
                value = await run(rec.id, rec.task, self._emitter(rec, aio=True))
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its failure
                self._finished(rec, error=crashed(self.model, error))
            except BaseException:
                self._finished(rec, error=Cancelled(f"task {rec.id} was cancelled", task=rec.id))
                raise
            else:
                self._finished(rec, value)

        with self.core.lock:  # the row is noted before the task or its coroutine can end
            if rec.ended or self._loop is None:
                return False
            self._rows[rec.id] = self._loop.spawn(main)
        return True

    def _emitter(self, rec: TaskRecord, *, aio: bool = False) -> Callable[[Result], Any]:
        def attempt(result: Result) -> WaitList | None:
            if rec.ended:
                raise Cancelled(f"task {rec.id} has ended", task=rec.id)
            if rec.full:
                self.note("stalled", rec)
                return rec.channel().room
            if rec.first is None:
                rec.first = self.core.clock.now()
            rec.generated += len(result.tokens)
            if rec.filters is not None:
                self._filter(rec, result)
            else:
                rec.collect(result)
            return None

        if not aio:
            return lambda result: self.core.wait(functools.partial(attempt, result), MAX_SECONDS)
        from llmos_kernel.aio import LoopWaiter  # noqa: PLC0415 - asyncio costs 100 ms to import

        return lambda result: self.core.wait_async(functools.partial(attempt, result), MAX_SECONDS, LoopWaiter)

    def _finished(self, rec: TaskRecord, value: Any = None, error: KernelError | None = None) -> None:  # noqa: ANN401
        result = value if isinstance(value, Result) else Result(rec.id, value=value)
        result = attrs.evolve(result, finish=result.finish or "stop", error=error or result.error)
        with self.core.lock:
            self._rows.pop(rec.id, None)
            if not rec.ended:
                if rec.filters is not None:
                    self._filter(rec, result)
                else:
                    deliver(rec, result, self.core.clock.now())
        self._bell.ring()
