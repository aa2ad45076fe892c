"""The simulation: arrivals go into a real kernel on a virtual clock, and outcomes come out as tasks end.

    arrivals ──► Process.schedule ──► policies, router ──► dispatcher ◄──► scheduler
                                                               │
    outcomes ◄── events of the kernel ◄── commit ◄──── modelled executor

Only the executor is a model.  Everything else is what serves real tasks: system calls, budgets, deadlines, policies,
router, ledger, and the scheduler, chosen by name through the plugin host.  A task is accepted at the very time of its
arrival, whatever step is under way; the scheduler hears of it, as in reality, when that step has ended.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import attrs

from llmos import StepProfile
from llmos_kernel import Kernel, KernelConfig
from llmos_kernel.api import MAX_COUNT, Auto, Budget, Credentials, Done, Model, Task, check_number, check_type
from llmos_kernel.contracts import ModelSpec, Scheduler
from llmos_kernel.errors import InvalidArgument, KernelBug, KernelError, WouldBlock
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.process import Process
from llmos_kernel.services import Event
from llmos_simulator.executors import DrawnExecutor, ModelledBackend
from llmos_simulator.loop import EventLoop
from llmos_simulator.records import Arrival, Outcome

MODEL = "model"
"""The name of the model where there is one."""
KINDS = ("generate", "chat", "embed", "classify")
"""Kinds of tasks that a modelled executor serves."""
UNBOUND = Budget(nbytes=MAX_COUNT, ports=MAX_COUNT, tasks=MAX_COUNT, tokens_per_minute=MAX_COUNT)
"""What a tenant may hold in a simulation, unless its configuration says less."""

Again = Callable[[Outcome], Arrival | None]
"""Hears of an outcome, and returns what comes because of it."""


def simulate(
    arrivals: Iterable[Arrival], *, scheduler: str | Callable[[], Scheduler],
    profile: StepProfile | Mapping[str, StepProfile] | None = None, rows: int | None = None,
    options: Mapping[str, Any] | None = None, ended: Again | None = None, config: KernelConfig | None = None,
    plugins: Iterable[object] = (),
) -> Run:  # fmt: skip
    """Return the simulation of *arrivals*, which come in order of time and may be more than fit into memory.

    *scheduler* is the name of an installed policy, with its *options*, or what makes one.  The model steps as *profile*
    says; several profiles by name are several models.  With *rows* instead, it runs so many tasks at once from start to
    end, each for its `Arrival.service`.  *ended* hears of each outcome and may return an arrival: users who think.

    *config* is what the kernel is told besides (router, policies, budgets, options; its models keep their fields, the
    ``load_seconds`` of their options is how long loading takes), and *plugins* are further objects for it.

    Raises `InvalidArgument` for arguments that are wrong, and whatever is wrong with a plugin that was named.
    """
    check_type("arrivals", arrivals, Iterable, "arrivals, one after the other")
    check_type("config", config or KernelConfig(), KernelConfig, "a KernelConfig")
    models = _models(profile, rows)
    loop = EventLoop()
    backend, watch = ModelledBackend(loop, models), _Watch()
    settings, brought = _settings(config or KernelConfig(budget=UNBOUND), scheduler, dict(options or {}), models)
    kernel = Kernel(settings, [backend, watch, *brought, *plugins], driver=loop)
    return Run(kernel, loop, backend, watch.events, iter(arrivals), ended or (lambda outcome: None))


def _models(profile: object, rows: int | None) -> dict[str, StepProfile | int]:
    if rows is not None:
        check_number("rows", rows, 1, MAX_COUNT)
        if profile is not None:
            raise InvalidArgument.of("profile", profile, "left out where rows are given")
        return {MODEL: rows}
    models: dict[str, Any] = dict(profile) if isinstance(profile, Mapping) else {MODEL: profile}
    for name, one in models.items():
        check_type("profile", name, str, "a profile, or several by name")
        check_type("profile", one, StepProfile, "a profile, or several by name")
    if not models:
        raise InvalidArgument.of("profile", {}, "at least one profile")
    return {**models}


def _settings(
    config: KernelConfig, scheduler: str | Callable[[], Scheduler], options: dict[str, Any],
    models: Mapping[str, StepProfile | int],
) -> tuple[KernelConfig, list[object]]:  # fmt: skip
    known = {spec.name: spec for spec in config.models}
    specs = [
        attrs.evolve(known.get(name) or ModelSpec(name=name, backend="simulated", kinds=KINDS), backend="simulated")
        for name in models
    ]
    for name in known.keys() - models.keys():
        raise InvalidArgument.of("models", name, f"one of the profiles' names: {', '.join(models)}")
    more: dict[str, Any] = {"models": (*specs,), "timeout": config.timeout}
    if isinstance(scheduler, str):
        key = f"scheduler:{scheduler}"
        more |= {"scheduler": scheduler, "plugins": (*config.plugins, key)}
        more["options"] = {**config.options, **({key: options} if options else {})}
        return attrs.evolve(config, **more), []
    if not callable(scheduler):
        raise InvalidArgument.of("scheduler", scheduler, "the name of a policy, or what makes one")
    if options:
        raise InvalidArgument.of("options", options, "left out where the scheduler is given itself")
    return attrs.evolve(config, scheduler=_Given.name, **more), [_Given(scheduler)]


class _Given:
    """A plugin object that brings the scheduler that the caller makes."""

    name = "given"
    api = 1

    def __init__(self, make: Callable[[], Scheduler]) -> None:
        self._make = make

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> Scheduler:
        """Return a new one."""
        return self._make()


class _Watch:
    """A plugin object that observes the kernel for the simulation, which looks at the events when it is its turn."""

    name = "simulation"

    def __init__(self) -> None:
        self.events: deque[Event] = deque()

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Keep what matters."""
        if event.name in _TELLING:
            self.events.append(event)


_TELLING = frozenset(("task.done", "task.failed", "task.cancelled", "model.loaded", "model.failed"))


class Run(Iterator[Outcome]):
    """A simulation under way: iterating carries it on, and yields outcomes as they come.

    It ends by itself when everything that came has ended, or with an error.  Who leaves it earlier should `close` it,
    or use it in a ``with`` statement.
    """

    def __init__(
        self, kernel: Kernel, loop: EventLoop, backend: ModelledBackend, events: deque[Event],
        arrivals: Iterator[Arrival], again: Again,
    ) -> None:  # fmt: skip
        self.kernel = kernel
        """The kernel, which runs: for looking on."""
        self._loop, self._backend, self._events = loop, backend, events
        self._arrivals, self._again = arrivals, again
        self._outcomes: deque[Outcome] = deque()
        self._flying: dict[int, tuple[Arrival, float, Process, Any]] = {}
        self._blocked: deque[Arrival] = deque()
        """Arrivals that wait for a model to load, or for room in a budget."""
        self._seats: dict[str, Process] = {}
        self._coming = 0
        """Arrivals that are planned."""
        self._last = self._start = 0.0
        self.requests = 0
        """Arrivals that came."""
        models = [spec.name for spec in kernel.config.models]
        self._models, self._target = models, Auto() if kernel.config.router else models[0] if len(models) == 1 else None
        kernel.start()
        try:
            self._begin()
        except Exception:
            self.close()
            raise

    def _begin(self) -> None:
        """Load the models, and expect the first arrival."""
        with self.kernel.attach(Credentials("simulation", "simulation")) as process:
            for name in self._models:
                process.alloc(Model(name)).close()
        self._start = self._loop.time
        self._expect(self._draw())

    # --- what a caller sees

    @property
    def now(self) -> float:
        """The virtual time."""
        return self._loop.time

    @property
    def steps(self) -> int:
        """Steps that the executors took; tasks that they began, where they run each from start to end."""
        return sum(one.steps for loaded in self._backend.loaded.values() for one in loaded)

    def utilisation(self) -> dict[str, float]:
        """Return the share of the time that each model's executors were busy, per row where tasks run to the end."""
        span = self._loop.time - self._start
        shares = {}
        for name, loaded in self._backend.loaded.items():
            rows = [one.limits.rows if isinstance(one, DrawnExecutor) else 1 for one in loaded]
            busy = sum(one.busy / count for one, count in zip(loaded, rows, strict=True))
            shares[name] = busy / span if span else 0.0
        return shares

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the kernel.  What has not ended yields no outcome."""
        for left in (self._outcomes, self._events, self._flying, self._blocked):
            left.clear()
        self._coming = 0
        self.kernel.stop()

    def __next__(self) -> Outcome:
        try:
            return self._outcome()
        except Exception:
            self.close()
            raise

    def _outcome(self) -> Outcome:
        while not self._outcomes:
            if self._events:
                self._hear(self._events.popleft())
            elif not (self._coming or self._flying or self._blocked):
                raise StopIteration
            elif not self._loop.advance():
                self._sweep()
        return self._outcomes.popleft()

    # --- what comes

    def _draw(self) -> Arrival | None:
        """Return the next arrival that comes by itself."""
        arrival = next(self._arrivals, None)
        if arrival is not None:
            check_type("arrivals", arrival, Arrival, "arrivals")
            if arrival.at < self._last:
                raise InvalidArgument.of("at", arrival.at, f"no earlier than the arrival before, at {self._last:g}")
            self._last = arrival.at
        return arrival

    def _expect(self, arrival: Arrival | None) -> None:
        """Plan an arrival that comes by itself, and after it the next."""
        if arrival is not None:
            self._coming += 1
            self._loop.plan(arrival.at, lambda: self._come(arrival))

    def _come(self, first: Arrival) -> None:
        """Let *first* come, and all that come at the same time: no step begins between them."""
        arrival: Arrival | None = first
        self._coming -= 1
        while arrival is not None and arrival.at <= self._loop.time:
            self._arrive(arrival)
            arrival = self._draw()
        self._expect(arrival)

    def _follow(self, arrival: Arrival) -> None:
        self._coming -= 1
        self._arrive(arrival)

    def _arrive(self, arrival: Arrival) -> None:
        self.requests += 1
        self._schedule(arrival)

    def _schedule(self, arrival: Arrival) -> None:
        process = self._seats.get(arrival.tenant)
        if process is None:
            who = Credentials(arrival.tenant, arrival.tenant, budget=self.kernel.config.budget)
            process = self._seats[arrival.tenant] = self.kernel.attach(who)
        task = Task(
            arrival.kind, self._aim(arrival), arrival, params={"max_tokens": arrival.max_tokens or arrival.output},
            priority=arrival.priority, deadline=arrival.deadline,
        )  # fmt: skip
        try:
            handle = process.schedule_nowait(task)
        except WouldBlock:
            self._blocked.append(arrival)
        except InvalidArgument:
            raise
        except KernelError as error:
            self._out(Outcome(arrival, ended=self._loop.time, error=type(error).__name__))
        else:
            self._flying[handle.id] = (arrival, self._loop.time, process, handle)

    def _aim(self, arrival: Arrival) -> str | Auto:
        name = arrival.model or self._target
        if name is None or (arrival.model and arrival.model not in self._models):
            raise InvalidArgument.of("model", arrival.model, f"one of {', '.join(self._models)}")
        return name

    # --- what ends

    def _hear(self, event: Event) -> None:
        if event.name.startswith("task."):
            flying = self._flying.pop(int(str(event.fields["task"])), None)
            if flying is not None:
                self._landed(*flying, model=str(event.fields["model"]))
        blocked, self._blocked = self._blocked, deque()
        for arrival in blocked:
            if event.name == "model.failed":
                self._out(Outcome(arrival, ended=self._loop.time, error="ModelUnavailable"))
            else:
                self._schedule(arrival)

    def _landed(self, arrival: Arrival, accepted: float, process: Process, handle: Any, *, model: str) -> None:  # noqa: ANN401
        event = process.recv_nowait(handle).body
        usage = event.usage
        began = accepted + usage.queued
        at = began + usage.prefill + usage.decode
        error = "" if isinstance(event, Done) else type(event.error).__name__
        admitted = None if error and usage.prefill == usage.decode == 0.0 else min(began, at)
        first = None if admitted is None or not usage.generated else min(began + usage.prefill, at)
        prompt = usage.prompt - usage.cached if admitted is not None else 0
        self._out(
            Outcome(
                arrival, id=handle.id, admitted=admitted, first=first, ended=at, prompt=prompt,
                generated=usage.generated, error=error, model=model,
            )
        )  # fmt: skip

    def _out(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        again = self._again(outcome)
        if again is not None:
            check_type("ended", again, Arrival, "a function that returns an arrival or None")
            if not again.at >= self._loop.time:
                raise InvalidArgument.of("at", again.at, f"no earlier than what it follows, at {self._loop.time:g}")
            self._coming += 1
            self._loop.plan(again.at, lambda: self._follow(again))

    def _sweep(self) -> None:
        """Find tasks whose end was not heard of: when very many end at once, the kernel drops events."""
        landed = False
        for id, flying in list(self._flying.items()):
            with contextlib.suppress(WouldBlock):
                self._landed(*flying, model=flying[0].model)
                del self._flying[id]
                landed = True
        if not landed:
            message = f"nothing can happen any more, and {len(self._flying) + len(self._blocked)} tasks have not ended"
            raise KernelBug(message, at=self._loop.time)
