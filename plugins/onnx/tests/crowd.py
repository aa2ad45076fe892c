"""Processes at a kernel with one model, whose tasks come and go; the books of kernel and engine are checked throughout.

What happens is drawn by whoever uses it: each method of `Crowd` is one thing that a client may do at any time.  The
engine is checked after whatever the dispatcher has it do; what a check raises is kept, because some of it would only be
logged by the kernel.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from kernel.tests.table_integrity import check_integrity
from llmos_kernel import (
    Budget, Chunk, Context, Credentials, Done, Failed, Handle, Kernel, KernelConfig, Model, ModelSpec, Process, Task,
    TaskHandle,
)  # fmt: skip
from llmos_kernel.errors import BudgetExceeded, DeadlineExceeded, HandleRevoked, KernelError
from llmos_onnx import backend
from llmos_onnx.executor import OnnxExecutor
from plugins.onnx.tests.capricious import CapriciousPlugin
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.served import until

SLOTS, CONTEXT, SWAP_TOKENS, BUDGET_TOKENS = 4, 160, 200, 400
SAMPLED = {"temperature": 1.1, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2}


@attrs.frozen
class Wish:
    """What a task is asked for."""

    prompt: tuple[int, ...]
    most: int
    """Tokens of output."""
    seed: int | None
    """None for greedy."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the task."""
        how = {"temperature": 0.0} if self.seed is None else {**SAMPLED, "seed": self.seed}
        return {"max_tokens": self.most, "ignore_eos": True, **how}


@attrs.define(eq=False)
class Asked:
    """A task that somebody waits for."""

    wish: Wish
    process: Process
    handle: TaskHandle | None
    """None once its process let it go."""
    tokens: list[int] = attrs.field(factory=list)
    """What was streamed of it."""
    may_fail: tuple[type[KernelError], ...] = ()
    """Which errors its asker brought about."""
    talk: Talk | None = None


@attrs.define(eq=False)
class Talk:
    """A conversation: a context and what was said in it."""

    process: Process
    handle: Handle
    nbytes: int
    said: tuple[int, ...] = ()


@attrs.define
class Tally:
    """What has happened."""

    asked: int = 0
    done: int = 0
    failed: int = 0
    left: int = 0
    cached: int = 0
    contexts: int = 0
    checks: int = 0


class Alone:
    """What requests give where nobody else is and nothing is cached."""

    def __init__(self, folder: Path) -> None:
        self._executor = load(folder, slots=1, context=CONTEXT, threads=1)
        self._strangers = 0
        self.of = functools.cache(self._compute)

    def _compute(self, wish: Wish) -> tuple[int, ...]:
        self._strangers += 1
        driver = Driver(self._executor)
        row = driver.add(1, list(wish.prompt), tenant=f"stranger {self._strangers}", **wish.params)
        driver.finish()
        return tuple(row.tokens)


class Crowd:
    """Two processes of different tenants at a kernel whose scheduler is capricious."""

    def __init__(self, folder: Path, alone: Alone, seed: int) -> None:
        self._alone, self.tally = alone, Tally()
        self.wrong: list[BaseException] = []
        self.scheduler = CapriciousPlugin(seed)
        per_token = load(folder, slots=1, context=2).describe()["kv_bytes"] // 2
        self._token_bytes = per_token
        options = {
            "slots": SLOTS, "context": CONTEXT, "threads": 1, "step_tokens": 64, "swap_bytes": SWAP_TOKENS * per_token,
        }  # fmt: skip
        spec = ModelSpec(name="nano", backend="onnx", path=str(folder), options=options)
        config = KernelConfig(models=(spec,), scheduler="capricious", timeout=60.0, stall_timeout=60.0)
        self.kernel = Kernel(config, plugins=(("onnx", backend), ("capricious", self.scheduler)))
        self.kernel.start()
        self.core = self.kernel._core
        self.processes = [self._attach(tenant) for tenant in "ab"]
        self.models = [process.alloc(Model("nano")) for process in self.processes]
        driver = self.core.models.find("nano").driver
        assert driver is not None
        self.executor: OnnxExecutor = driver.executor
        for name in ("admit", "preempt", "step", "release"):
            self._watch(name)
        self.asked: list[Asked] = []
        self.talks: list[Talk] = []

    def _attach(self, tenant: str) -> Process:
        budget = Budget(nbytes=BUDGET_TOKENS * self._token_bytes)
        return self.kernel.attach(Credentials(name=tenant, tenant=tenant, budget=budget))

    def _watch(self, name: str) -> None:
        """Check the engine after each call of the method *name*."""
        method: Callable[..., Any] = getattr(self.executor, name)

        def checked(*arguments: Any) -> Any:
            try:
                found = method(*arguments)
                self.executor.check_integrity()
                swap = self.executor._swap
                assert swap.used <= swap.most
                assert {id for id in self.executor._sequences if swap.get(id) is not None} == set(swap._caches)
            except BaseException as error:
                self.wrong.append(error)
                raise
            self.tally.checks += 1
            return found

        setattr(self.executor, name, checked)

    # --- what clients do -----------------------------------------------------------------------------------------

    def ask(self, wish: Wish, seat: int, *, stream: bool = False, deadline: float | None = None) -> Asked:
        """Schedule a task; one that streams has room for three pieces only."""
        return self._schedule(Asked(wish, self.processes[seat], None), self.models[seat], stream, deadline)

    def open(self, seat: int, tokens: int) -> None:
        """Begin a conversation, if the budget has room for it."""
        process, nbytes = self.processes[seat], tokens * self._token_bytes
        held = sum(talk.nbytes for talk in self.talks if talk.process is process)
        try:
            handle = process.alloc(Context(self.models[seat], tokens))
        except BudgetExceeded:
            assert held + nbytes > BUDGET_TOKENS * self._token_bytes
            return
        assert held + nbytes <= BUDGET_TOKENS * self._token_bytes
        self.talks.append(Talk(process, handle, nbytes))
        self.tally.contexts += 1

    def say(self, talk: Talk, wish: Wish, *, stream: bool = False) -> None:
        """Ask for the next turn: what was said, and *wish*; a conversation that is full begins again."""
        most = talk.nbytes // self._token_bytes
        prompt = (*talk.said, *wish.prompt)
        if len(prompt) + wish.most > most:
            prompt = wish.prompt[: most - wish.most]
        asked = Asked(attrs.evolve(wish, prompt=prompt), talk.process, None, talk=talk)
        self._schedule(asked, talk.handle, stream, None)

    def _schedule(self, asked: Asked, target: Handle, stream: bool, deadline: float | None) -> Asked:
        prompt, params = list(asked.wish.prompt), asked.wish.params
        task = Task("generate", target, prompt, params=params, stream=stream, capacity=3, deadline=deadline)
        if deadline is not None:
            asked.may_fail += (DeadlineExceeded,)
        asked.handle = asked.process.schedule(task)
        self.asked.append(asked)
        self.tally.asked += 1
        return asked

    def read(self, asked: Asked) -> None:
        """Read the next event of a task."""
        assert asked.handle is not None
        event = asked.process.recv(asked.handle).body
        if isinstance(event, Chunk):
            asked.tokens += event.tokens
            return
        self.asked.remove(asked)
        if isinstance(event, Done):
            self._ended_well(asked, event)
        else:
            assert isinstance(event, Failed)
            assert isinstance(event.error, asked.may_fail), repr(event.error)
            self.tally.failed += 1

    def _ended_well(self, asked: Asked, done: Done) -> None:
        expected = self._alone.of(asked.wish)
        assert expected == done.tokens
        assert not asked.tokens or expected == tuple(asked.tokens)
        assert len(asked.wish.prompt) == done.usage.prompt > done.usage.cached
        self.tally.done += 1
        self.tally.cached += done.usage.cached
        if asked.talk is not None:
            asked.talk.said = (*asked.wish.prompt, *done.tokens)

    def leave(self, asked: Asked, *, drop: bool) -> None:
        """Cancel a task by closing its handle, or only *drop* the handle: then it runs to its end unread."""
        assert asked.handle is not None
        if not drop:
            asked.handle.close()
        asked.handle = None
        self.asked.remove(asked)
        self.tally.left += 1

    def close(self, talk: Talk) -> None:
        """End a conversation, maybe while one of its turns is on its way."""
        self.talks.remove(talk)
        for asked in self.asked:
            if asked.talk is talk:
                asked.may_fail += (HandleRevoked,)
        talk.handle.close()

    def walk_out(self, seat: int) -> None:
        """Close a process with all that it has, and let another one take its seat."""
        gone = self.processes[seat]
        gone.close()
        assert (0, 0, 0) == _held(gone)
        self.tally.left += sum(asked.process is gone for asked in self.asked)
        self.asked = [asked for asked in self.asked if asked.process is not gone]
        self.talks = [talk for talk in self.talks if talk.process is not gone]
        self.processes[seat] = self._attach("ab"[seat])
        self.models[seat] = self.processes[seat].alloc(Model("nano"))

    # --- checks --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Fail unless the kernel's books agree with each other and with what was asked for."""
        assert [] == self.wrong
        with self.core.lock:
            self.core.settle()
            check_integrity(self.core.table)
            for process in self.processes:
                tasks = sum(rec.seat is process._seat for rec in self.core.tasks.values())
                nbytes = sum(talk.nbytes for talk in self.talks if talk.process is process)
                account = process._seat.account
                assert (tasks, nbytes) == (account.tasks, account.nbytes)
            served = self.core.models.find("nano")
            assert (len(self.core.tasks), len(self.talks)) == (served.unfinished, served.contexts)
            assert served.driver is not None
            assert None is served.driver.dispatcher.broken

    def rest(self) -> None:
        """Read everything to its end, close everything, and fail unless nothing is left."""
        while self.asked:
            self.read(self.asked[0])
        for talk in list(self.talks):
            self.close(talk)
        gc.collect()
        until(lambda: not self.executor._sequences and not self.executor._places.contexts)
        self.check()

        facts = self.executor.describe()
        assert (0, 0, 0) == (facts["slots_used"], facts["contexts"], facts["swap_used"])
        assert SLOTS == self.executor.limits.free
        assert [(0, 0)] * 2 == [(tasks, nbytes) for tasks, _, nbytes in map(_held, self.processes)]
        assert {} == self.core.tasks

    def stop(self) -> None:
        """End the kernel; nothing is charged afterwards."""
        for process in self.processes:
            process.close()
        self.kernel.stop()

        assert [] == self.wrong
        assert [(0, 0, 0)] * 2 == [_held(process) for process in self.processes]
        assert {"cpu": 0} == self.core.ledger.used


def _held(process: Process) -> tuple[int, int, int]:
    account = process._seat.account
    return account.tasks, account.ports, account.nbytes
