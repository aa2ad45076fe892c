"""The dispatcher of one executor: what the scheduler hears and what its plans come to.  Sans I/O.

It starts no thread, reads no clock and calls no executor.  A driver (a thread, the simulator, a replay) repeats::

    release = hear(now)  # what happened since: arrivals, ends, room on ports, deadlines
    plan = plan(now, limits)  # None: wait for `notes` or for `wake_at()`
    begin(plan, answers, now)  # what the executor answered to admissions and preemptions
    commit(plan, results, now)  # what the step produced; `crash` if it raised

Only `notes` is touched by other threads.  Records are changed under the core's lock, which is never held while the
scheduler runs.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmos_kernel._tasks import TaskRecord
from llmos_kernel.contracts import Admitted, Limits, NotNow, Plan, Result, Scheduler
from llmos_kernel.errors import (
    DeadlineExceeded, ExecutorCrashed, KernelError, ModelUnavailable, Overloaded, PluginFailed, ReaderStalled,
)  # fmt: skip

if TYPE_CHECKING:
    from llmos_kernel._core import Core

SLOW = 0.1
"""Seconds of planning after which a scheduler is reported: nothing of its executor runs meanwhile."""
Finish = Callable[[TaskRecord, Result], None]


class Dispatcher:
    """One executor's tasks, from acceptance to the end."""

    def __init__(self, core: Core, model: str, plugin: str, scheduler: Scheduler, output: Finish, steps: bool) -> None:
        self._core, self._lock, self._model, self._plugin = core, core.lock, model, plugin
        self._scheduler, self._steps = scheduler, steps
        self.notes: deque[tuple[str, Any]] = deque()
        """(``accepted | arrived | changed | stalled | room | ended``, task) or (``closed``, context), any thread."""
        self.tasks: dict[int, TaskRecord] = {}
        """Those that the scheduler knows."""
        self.broken: PluginFailed | None = None
        """Why the scheduler is not asked any more."""
        self.coming = 0
        """Tasks that were accepted and have not arrived: somebody prepares them."""
        self._output = output
        """Takes results of tasks with post-processors."""
        self._deferred: set[int] = set()
        """Answered NotNow since the last change: asking again could only spin."""
        self._preparing: deque[TaskRecord] = deque()
        self._deadlines: list[tuple[float, int, TaskRecord]] = []
        self._stalled: dict[int, TaskRecord] = {}
        self._patrol: float | None = None
        """When to look for prepares that overran.  Kept when they end: a new one then need not wake the driver."""
        self._plan_wake: float | None = None

    # --- hearing -----------------------------------------------------------------------------------------------

    def hear(self, now: float) -> list[int]:
        """Take in what happened and return the tasks that the executor must release."""
        calls: list[tuple[Callable[[Any], None], Any]] = []
        release: list[int] = []
        with self._lock:
            while True:
                while self.notes:
                    what, rec = self.notes.popleft()
                    getattr(self, f"_on_{what}")(rec, now, calls, release)
                self._expire(now)
                if not self.notes:
                    break
        for method, argument in calls:
            self._tell(method, argument)
        return release

    def _on_accepted(self, rec: TaskRecord, now: float, calls: list[Any], release: list[int]) -> None:
        self.coming += 1
        if rec.deadline is not None:
            heapq.heappush(self._deadlines, (rec.deadline, rec.id, rec))
        if rec.state == "preparing":
            self._preparing.append(rec)
            self._patrol = self._patrol or now + self._core.config.plugin_timeout

    def _on_arrived(self, rec: TaskRecord, now: float, calls: list[Any], release: list[int]) -> None:
        self.coming -= 1
        if rec.ended:
            release.append(rec.id)
        elif self.broken:
            rec.end(now, error=self.broken)
            release.append(rec.id)
        else:
            rec.state = "waiting"
            self.tasks[rec.id] = rec
            calls.append((self._scheduler.arrived, rec.view()))

    def _on_changed(self, rec: TaskRecord, now: float, calls: list[Any], release: list[int]) -> None:
        if rec.id in self.tasks and not rec.ended:
            calls.append((self._scheduler.changed, rec.view()))

    def _on_room(self, rec: TaskRecord, now: float, calls: list[Any], release: list[int]) -> None:
        if self._stalled.pop(rec.id, None) and not rec.ended:
            rec.stalled = None
            rec.state = "running" if rec.placed else "preempted"
            calls.append((self._scheduler.changed, rec.view()))

    def _on_stalled(self, rec: TaskRecord, now: float, calls: list[Any], release: list[int]) -> None:
        if rec.full and rec.state == "running":  # not ended, nor saying its last words
            rec.state, rec.stalled = "stalled", now
            self._stalled[rec.id] = rec
            calls.append((self._scheduler.changed, rec.view()))

    def _on_ended(self, rec: TaskRecord, now: float, calls: list[Any], release: list[int]) -> None:
        self._stalled.pop(rec.id, None)
        self._deferred.clear()
        if self.tasks.pop(rec.id, None):  # else it has not arrived, and is released when it does
            release.append(rec.id)
            calls.append((self._scheduler.finished, rec.id))

    def _on_closed(self, context: int, now: float, calls: list[Any], release: list[int]) -> None:
        release.append(context)

    def _expire(self, now: float) -> None:
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].ended):
            _, _, rec = heapq.heappop(self._deadlines)
            seconds = rec.task.deadline
            rec.end(now, error=DeadlineExceeded(f"task {rec.id} did not end in {seconds} s", seconds=seconds))
        while self._preparing and self._preparing[0].state != "preparing":
            self._preparing.popleft()
        timeout = self._core.config.plugin_timeout
        while self._patrol is not None and self._patrol <= now:
            self._patrol = self._preparing[0].accepted + timeout if self._preparing else None
            if self._patrol is not None and self._patrol <= now:
                rec = self._preparing.popleft()
                message = f"preparing task {rec.id} took more than {timeout} s: a processor or {self._model} blocks"
                rec.end(now, error=PluginFailed(message, plugin=self._model, seconds=timeout))
        patience = self._core.config.stall_timeout
        for rec in list(self._stalled.values()):
            if rec.stalled is not None and rec.stalled + patience <= now:
                message = f"nobody read task {rec.id} for {patience} s"
                rec.end(now, error=ReaderStalled(message, task=rec.id, seconds=patience))

    def wake_at(self) -> float | None:
        """Return when there will be something to do even if nothing happens."""
        patience = self._core.config.stall_timeout
        times = [rec.stalled + patience for rec in self._stalled.values() if rec.stalled is not None]
        times += [deadline for deadline, _, _ in self._deadlines[:1]]
        times += [time for time in (self._patrol, self._plan_wake if self.tasks else None) if time is not None]
        return min(times, default=None)

    # --- planning ----------------------------------------------------------------------------------------------

    def plan(self, now: float, limits: Limits) -> Plan | None:
        """Return what to do next, or None when there is nothing."""
        self._plan_wake = None
        if not self.tasks:
            return None
        try:
            plan = self._farewell(limits) if self.broken else self._scheduler.plan(now, limits)
            if (seconds := self._core.clock.now() - now) > SLOW:
                self._core.report("scheduler.slow", plugin=self._plugin, model=self._model, seconds=seconds)
            self._check(plan, limits)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._break(error)
            return None
        self._plan_wake = plan.wake_at
        if not self._steps:  # the rest has no effect there, and doing nothing over and over would keep a core busy
            plan = Plan(plan.admit, shed=plan.shed)
        if self._deferred:
            admit, resume = (tuple(id for id in ids if id not in self._deferred) for ids in (plan.admit, plan.resume))
            plan = Plan(admit, resume, plan.preempt, plan.shed, plan.prefill, plan.decode, plan.wake_at)
        busy = plan.admit or plan.resume or plan.preempt or plan.shed or plan.prefill or plan.decode
        return plan if busy else None

    def _check(self, plan: Plan, limits: Limits) -> None:
        """Raise `PluginFailed` unless *plan* is possible."""
        if not isinstance(plan, Plan):
            raise PluginFailed(f"plan() returned {type(plan).__name__}, not a Plan", plugin=self._plugin)
        moved = [*plan.admit, *plan.resume, *plan.shed, *(id for id, _ in plan.preempt)]
        rows = [id for id, _ in plan.prefill + plan.decode]
        if moved:
            self._check_moves(plan, limits, moved)
        if rows:
            self._demand(len(set(rows)) == len(rows) <= limits.rows and not set(rows) & set(moved), "rows")
            self._check_rows(plan, limits)
        self._demand(plan.wake_at is None or abs(plan.wake_at) < float("inf"), "wake_at")
        if not (rows or moved or self.broken) and plan.wake_at is None:
            self._demand(not self._runnable(limits), "nothing, although tasks could run")

    def _check_moves(self, plan: Plan, limits: Limits, moved: list[int]) -> None:
        for state, ids in (("waiting", plan.admit + plan.shed), ("preempted", plan.resume)):
            for id in ids:
                self._demand(id in self.tasks and self.tasks[id].state in (state, "done", "failed", "cancelled"), id)
        self._demand(len(set(moved)) == len(moved), "a task twice")
        freed = sum(how != "keep" for _, how in plan.preempt)
        places = len(plan.admit) + sum(not self.tasks[id].placed for id in plan.resume)
        self._demand(places <= limits.free + freed, "more admissions than places")
        for id, how in plan.preempt:
            self._demand(id in self.tasks and self.tasks[id].placed and how in ("keep", "swap", "drop"), id)

    def _check_rows(self, plan: Plan, limits: Limits) -> None:
        self._demand(len(plan.prefill) <= limits.chunks, "chunks")
        tokens = sum(n for _, n in plan.prefill) + len(plan.decode)
        self._demand(tokens <= limits.tokens, "more tokens than the step takes")
        for id, n in plan.prefill:
            rec = self.tasks.get(id)
            self._demand(rec and (rec.ended or (rec.state == "running" and 1 <= n <= rec.remaining)), id)
        for id, n in plan.decode:
            rec = self.tasks.get(id)
            self._demand(rec and n >= 1 and (rec.ended or (rec.state == "running" and not rec.remaining)), id)

    def _demand(self, holds: object, what: object) -> None:
        if not holds:
            raise PluginFailed(f"scheduler {self._plugin} made an impossible plan: {what}", plugin=self._plugin)

    def _runnable(self, limits: Limits) -> bool:
        for rec in self.tasks.values():
            if rec.state == "running" and self._steps:
                return True
            waits = rec.state in ("waiting", "preempted") and rec.id not in self._deferred
            if waits and limits.free and (not limits.pools or limits.pools[rec.length_class][1]):
                return True
        return False

    def _farewell(self, limits: Limits) -> Plan:
        """Plan without the scheduler: what runs goes on to its end, in the order of arrival."""
        most = min(limits.rows, limits.tokens)
        running = [rec for rec in self.tasks.values() if rec.state == "running" and self._steps][:most]
        todo = [rec for rec in running if rec.remaining][: limits.chunks]
        tokens = max(1, (limits.tokens - len(running)) // max(1, len(todo)))
        return Plan(
            resume=tuple(rec.id for rec in self.tasks.values() if rec.state == "preempted")[: limits.free],
            prefill=tuple((rec.id, min(tokens, rec.remaining)) for rec in todo),
            decode=tuple((rec.id, 1) for rec in running if not rec.remaining),
        )

    def _tell(self, method: Callable[..., None], *arguments: object) -> None:
        if self.broken is None:
            try:
                method(*arguments)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
                self._break(error)

    def _break(self, error: BaseException) -> None:
        """Go on without the scheduler: waiting tasks fail once, running ones end, new ones are refused."""
        failure = PluginFailed.of(f"scheduler {self._plugin}", "planning", error)
        self.broken = failure = error if isinstance(error, PluginFailed) else failure
        with self._lock:
            for rec in list(self.tasks.values()):
                if rec.state == "waiting":
                    rec.end(self._core.clock.now(), error=self.broken)
        self._core.report_broken(self._plugin, failure)

    # --- doing -------------------------------------------------------------------------------------------------

    def begin(self, plan: Plan, answers: Mapping[int, object], now: float) -> None:
        """Take in what the executor answered before the step: `Admitted`, `NotNow` or an error per admitted task."""
        calls: list[tuple[Callable[[Any], None], Any]] = []
        with self._lock:
            for id in plan.shed:
                message = f"task {id} was shed by scheduler {self._plugin}"
                self.tasks[id].end(now, error=Overloaded(message, plugin=self._plugin))
            for id, how in plan.preempt:
                self._preempted(self.tasks[id], how)
                calls.append((self._scheduler.changed, self.tasks[id].view()))
            for id, answer in answers.items():
                if self._placed(self.tasks[id], answer, now):
                    calls.append((self._scheduler.changed, self.tasks[id].view()))
            for id, _ in plan.prefill + plan.decode:
                if self.tasks[id].started is None:
                    self.tasks[id].started = now
        for method, argument in calls:
            self._tell(method, argument)

    def _preempted(self, rec: TaskRecord, how: str) -> None:
        self._deferred.clear()
        if how != "keep":
            rec.placed = False
        if how == "drop":
            rec.redone, rec.cached, rec.prefilled, rec.dropped = rec.generated, 0, 0, True
        if rec.state == "running":
            rec.state = "preempted"
            self._core.events.emit("task.preempted", **rec.facts())

    def _placed(self, rec: TaskRecord, answer: object, now: float) -> bool:
        if rec.ended:
            return False
        if isinstance(answer, Admitted):
            if rec.state == "waiting" or rec.dropped:
                rec.cached, rec.dropped = answer.cached, False
            if rec.state == "preempted":
                self._core.events.emit("task.resumed", **rec.facts())
            rec.placed, rec.state = True, "running"
            if not self._steps:
                rec.started = now
            return True
        if not isinstance(answer, NotNow):
            error = answer if isinstance(answer, BaseException) else TypeError(f"admit() returned {answer!r:.80}")
            rec.end(now, error=crashed(self._model, error))
        elif any(other.placed for other in self.tasks.values()):
            self._deferred.add(rec.id)
        else:
            message = f"{self._model} has no room for task {rec.id} although nothing else runs"
            rec.end(now, error=ModelUnavailable(message, model=self._model))
        return False

    def commit(self, plan: Plan, results: Iterable[Result], now: float) -> dict[int, int]:
        """Take in what a step produced: deliver it, charge it, end what ended.  Return the tokens by task."""
        prefill = dict(plan.prefill)
        missing = prefill | dict(plan.decode)
        charges: list[tuple[int, int, int]] = []
        with self._lock:
            for result in results:
                if missing.pop(result.id, None) is None:
                    message = f"{self._model} answered for task {result.id}, which was not in the step"
                    raise ExecutorCrashed(message, model=self._model)
                rec, computed, made = self.tasks[result.id], prefill.get(result.id, 0), len(result.tokens)
                rec.prefilled += computed
                rec.generated += made
                rec.seat.account.spent += computed + made
                charges.append((rec.id, computed, made))
                if made and rec.first is None:
                    rec.first = now
                if not rec.ended:
                    self._deliver(rec, result, now)
                if not rec.ended and rec.state == "running" and not rec.remaining and rec.generated >= rec.max_tokens:
                    message = f"{self._model} did not finish task {rec.id} with its last token"
                    rec.end(now, error=ExecutorCrashed(message, model=self._model))
            for id in missing:
                message = f"{self._model} gave no result for task {id}"
                self.tasks[id].end(now, error=ExecutorCrashed(message, model=self._model))
        for id, computed, made in charges:
            self._tell(self._scheduler.charged, id, computed, made)
        return {id: made for id, _, made in charges if made}

    def _deliver(self, rec: TaskRecord, result: Result, now: float) -> None:
        """Pass a result on, and note whether its reader is behind now."""
        if rec.filters is None:
            deliver(rec, result, now)
        else:
            if result.finish is not None or result.error is not None:
                rec.state = "stalled"  # no more steps, while its last words are on their way
                self.notes.append(("changed", rec))
            self._output(rec, result)
        if rec.full:
            self.notes.append(("stalled", rec))

    def crash(self, ids: Iterable[int], error: BaseException, now: float) -> None:
        """The step of these tasks raised: they are lost, the others are not."""
        with self._lock:
            for id in ids:
                self.tasks[id].end(now, error=crashed(self._model, error))


def deliver(rec: TaskRecord, result: Result, now: float) -> None:
    """Add *result* to its task, and end the task if it says so.  Under the core's lock."""
    rec.collect(result)
    if result.error is not None:
        rec.end(now, error=result.error)
    elif result.finish is not None:
        rec.end(now, finish=result.finish, value=result.value)


def failed(plugin: str, what: str, error: BaseException) -> KernelError:
    """Return what is told about *error* of a plugin: typed errors as they are, others as its failure."""
    return error if isinstance(error, KernelError) else PluginFailed.of(plugin, what, error)


def crashed(model: str, error: BaseException) -> KernelError:
    """Return what a task's owner is told about *error*: typed errors as they are, others as a crash."""
    if isinstance(error, KernelError):
        return error
    cause = f"{type(error).__name__}: {error}"
    failure = ExecutorCrashed(f"{model} crashed: {cause}", model=model, cause=cause)
    failure.__cause__ = error
    return failure
