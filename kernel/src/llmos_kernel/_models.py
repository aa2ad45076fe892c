"""Served models: names, loading, and unloading of what is idle.

A `Served` has a name and maybe a driver.  A Model handle is a right to the name, not residency: an idle model may be
unloaded under memory pressure and comes back when the next task wants it.  Loads run in a thread of their own; whoever
wants the model meanwhile waits on the same `WaitList`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmos_kernel._drivers import ExecutorDriver, RunDriver, StepDriver
from llmos_kernel._dispatch import crashed, failed
from llmos_kernel._handles import Resource
from llmos_kernel._waiting import WaitList
from llmos_kernel.contracts import Footprint, ModelSpec, RunExecutor, Scheduler, StepExecutor
from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable, NotFound, PluginFailed
from llmos_kernel.services import Candidate

if TYPE_CHECKING:
    from llmos_kernel._core import Core, Seat

CALL = "call"
"""The model that runs Python callables."""


class ModelResource(Resource):
    """The right to run a model; pinned, it keeps the weights."""

    __slots__ = ("pinned", "served")
    kind = "model"

    def __init__(self, seat: Seat, served: Served, *, pinned: bool) -> None:
        self.seat, self.served, self.pinned = seat, served, pinned
        served.handles += 1
        served.pins += pinned

    def disposed(self) -> None:
        self.served.handles -= 1
        self.served.pins -= self.pinned


class ContextResource(Resource):
    """A place in a model's KV cache."""

    __slots__ = ("charge", "id", "served")
    kind = "context"

    def __init__(self, seat: Seat, served: Served, id: int, nbytes: int) -> None:
        self.seat, self.served, self.id, self.charge = seat, served, id, ("nbytes", nbytes)

    def disposed(self) -> None:
        self.seat.account.give(*self.charge)
        self.served.close_context(self.id)


class Load:
    """One attempt to load; those who wait for it learn how it ended."""

    thread: Any

    def __init__(self) -> None:
        self.error: KernelError | None = None
        self.waiters = WaitList()


class Served:
    """One model by name."""

    def __init__(self, core: Core, spec: ModelSpec) -> None:
        self._core, self.spec, self.name = core, spec, spec.name
        self.driver: ExecutorDriver | None = None
        self.footprint: Footprint | None = None
        self.loading: Load | None = None
        self.handles = self.pins = self.unfinished = self.contexts = 0
        self.used_at = 0.0

    @property
    def idle(self) -> bool:
        """Whether it may be unloaded."""
        return self.driver is not None and not (self.unfinished or self.contexts or self.pins or self.spec.name == CALL)

    def ready(self, state: dict[str, Any]) -> Any:  # noqa: ANN401
        """Return the driver, or where to wait for it; raise what the load that the caller waited for ended with.

        *state* belongs to the caller and lives over its attempts.
        """
        if self.driver is not None:
            return self.driver
        waited: Load | None = state.get("load")
        if waited is not None and waited.error is not None:
            raise waited.error
        if self.loading is None:
            self.loading = Load()
            self.loading.thread = self._core.driver.start(f"llmos-load-{self.name}", self._load(self.loading))
        state["load"] = self.loading
        return self.loading.waiters

    async def _load(self, load: Load) -> None:
        core, driver, error = self._core, None, None
        try:
            driver = await self._make()
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever a plugin raises is its failure
            error = failed(f"backend:{self.spec.backend}", f"loading {self.name}", raised)
        with core.lock:
            self.driver, self.loading, load.error = driver, None, error
            self.used_at = core.clock.now()
            # Before those who wait go on: observers hear of a model before they hear of its tasks.
            core.events.emit("model.failed" if error else "model.loaded", model=self.name, error=str(error or ""))
            load.waiters.wake_all()
            late = core.state == "stopped"
        if late and driver is not None:
            driver.close()
            driver.thread.join()

    async def _make(self) -> ExecutorDriver:
        core, spec = self._core, self.spec
        backend = core.plugins.backend(spec.backend)
        footprint = backend.measure(spec)
        with core.lock:
            leaving = core.ledger.reserve(footprint.device, footprint.nbytes, core.models.idle())
            drivers = [served.detach() for served in leaving]
        try:
            for driver in drivers:
                driver.thread.join()
            name = core.config.scheduler_of(spec.name)
            scheduler = core.plugins.scheduler(name)
            driver = self._drive(await core.driver.call(backend.load, spec), name, scheduler)
        except BaseException:
            with core.lock:
                core.ledger.release(footprint.device, footprint.nbytes)
            raise
        self.footprint = footprint
        return driver

    def _drive(self, executor: object, name: str, scheduler: Scheduler) -> ExecutorDriver:
        """Start the dispatcher of *executor*."""
        if isinstance(executor, StepExecutor):
            driver: ExecutorDriver = StepDriver(self._core, self.name, executor, name, scheduler)
        elif isinstance(executor, RunExecutor):
            driver = RunDriver(self._core, self.name, executor, name, scheduler)
        else:
            message = f"backend {self.spec.backend} loaded {executor!r:.80}, which is no executor"
            raise PluginFailed(message, plugin=f"backend:{self.spec.backend}")
        driver.thread = self._core.driver.start(f"llmos-{self.name}", driver.run())
        return driver

    def detach(self) -> ExecutorDriver:
        """Unload: let the driver end and give the device's bytes back.  Under the lock; the model is idle."""
        driver, footprint = self.driver, self.footprint
        if driver is None or footprint is None:
            raise ModelUnavailable(f"{self.name} is not loaded", model=self.name)
        self.driver = self.footprint = None
        self._core.ledger.release(footprint.device, footprint.nbytes)
        self._core.events.emit("model.unloaded", model=self.name, error="")
        driver.close()
        return driver

    def open_context(self, tokens: int) -> tuple[int, int]:
        """Have the executor keep a place of *tokens*; return its id and its bytes."""
        with self._core.lock:
            driver, id = self.driver, next(self._core.numbers)
            if not isinstance(driver, StepDriver):
                raise ModelUnavailable(f"{self.name} is not loaded or keeps no contexts", model=self.name)
            self.contexts += 1
        try:
            return id, driver.executor.open_context(id, tokens)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            with self._core.lock:
                self.contexts -= 1
            raise crashed(self.name, error)  # noqa: B904 - it has its cause

    def close_context(self, id: int) -> None:
        """Forget a context.  Under the lock."""
        self.contexts -= 1
        if self.driver is not None:
            self.driver.note("closed", id)


class Models:
    """All models that a kernel can serve."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.served: dict[str, Served] = {}
        self._aliases: dict[str, str] = {}

    def add(self, specs: Iterable[ModelSpec]) -> None:
        """Offer models; raise `InvalidArgument` for a name that is taken by another specification."""
        for spec in specs:
            known = self.served.get(spec.name)
            if known is not None and known.spec != spec:
                owner = known.spec.distribution or known.spec.path or "another"
                message = f"the model name {spec.name!r} is taken by {owner}"
                expected = "a name that no other model has"
                raise InvalidArgument(message, field="name", value=spec.name, expected=expected)
            self.served.setdefault(spec.name, Served(self._core, spec))
            for alias in spec.aliases:
                self._aliases.setdefault(alias, spec.name)

    def alias(self, aliases: dict[str, str]) -> None:
        """Set other names; they win over what models bring themselves."""
        self._aliases.update(aliases)

    def find(self, name: str) -> Served:
        """Return the model of that name or alias; raise `NotFound` with the nearest names."""
        served = self.served.get(name) or self.served.get(self._aliases.get(name, ""))
        if served is None:
            known = [one for one in (*self.served, *self._aliases) if one != CALL]
            nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"; nearest: {', '.join(nearest)}" if nearest else f"; known: {', '.join(sorted(known)) or 'none'}"
            raise NotFound(f"there is no model {name!r}{hint}", field="model", value=name, nearest=nearest)
        return served

    def aliases_of(self, name: str) -> list[str]:
        """Return the other names of *name*."""
        return [alias for alias, target in self._aliases.items() if target == name]

    def idle(self) -> list[Served]:
        """Return what may be unloaded, the least recently used first, those without handles before the others."""
        return sorted((one for one in self.served.values() if one.idle), key=lambda one: (one.handles > 0, one.used_at))

    def candidates(self, kind: str) -> tuple[Candidate, ...]:
        """Return the models that serve *kind*, for a router."""
        serving = (one for one in list(self.served.values()) if kind in one.spec.kinds)
        return tuple(Candidate(one.spec, one.driver is not None, one.unfinished) for one in serving)
