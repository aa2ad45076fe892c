"""The supervisor: carries out what `Fleet` decides, from a process of its own, through the control port.

It is an observer, so it hears what happens, and between events it sleeps until something is due.  It has no rights but
those of an operator: a policy that denies ``control.LoadModel`` to the principal ``supervisor`` stops it from growing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import attrs

from llmos._calls import call
from llmos._elastic import HEARD, Fleet, Load, Truth, Unload
from llmos._serving import Serving
from llmos_kernel.api import Credentials
from llmos_kernel.clock import Clock, SystemClock
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.control import AddModel, ListModels, LoadModel, Stats, UnloadModel
from llmos_kernel.errors import ConfigError, KernelError, KernelStopped, NotFound
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Event

if TYPE_CHECKING:
    from llmos_kernel import Kernel, Process

PATIENCE = 5.0
"""Seconds that `Supervisor.stop` waits for what is being carried out."""


class Supervisor:
    """Adds and takes away replicas of models, and unloads models that are idle, as *serving* says.

    A plugin object of the kernel that it supervises.  `Client` does this for the default kernel by itself; with a
    kernel of your own::

        supervisor = Supervisor(Serving(keep_alive=600.0))
        with Kernel(config, plugins=[supervisor, ...]) as kernel, supervisor.watching(kernel):
            client = Client(kernel=kernel, supervisor=supervisor)

    *clock* is the kernel's, if it has one of its own.
    """

    name = "supervisor"
    api = 1

    def __init__(self, serving: Serving, *, clock: Clock | None = None) -> None:
        self.serving = serving
        self.fleet = Fleet(serving)
        self._clock = clock or SystemClock()
        self._heard: deque[Event] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._ended = False
        self._specs: Mapping[str, ModelSpec] = {}
        self._thread: threading.Thread | None = None

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Take note of what matters."""
        if event.name in HEARD:
            self._heard.append(event)
            self._ring()
        elif event.name == "kernel.stopped":
            self._ended = True
            self._ring()

    def watching(self, kernel: Kernel) -> Self:
        """Begin to act on *kernel*, which runs and has this as a plugin; leaving the context ends it.

        Raises `ConfigError` for replicas without a router, which is to spread the tasks, and `NotFound` for those of a
        model that is not there.
        """
        if self.serving.replicas and kernel.config.router is None:
            message = "replicas need a router, which spreads the tasks over them"
            raise ConfigError(message, field="router", value=None, expected="the name of a router")
        specs = (*kernel.plugins.models(), *kernel.config.models)
        self._specs = {spec.name: spec for spec in specs}
        for name in self.serving.replicas:
            if name not in self._specs:
                nearest = sorted(self._specs)
                message = f"replicas.{name}: there is no model {name!r}; there are {', '.join(nearest) or 'none'}"
                raise NotFound(message, field=f"replicas.{name}", value=name, nearest=nearest)
        scopes: Any = {"operator"}
        process = kernel.attach(Credentials("supervisor", "kernel", scopes))
        self._thread = threading.Thread(target=self._run, args=(process,), name="llmos-supervisor", daemon=True)
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self, timeout: float = PATIENCE) -> None:
        """Do nothing more; what is loaded stays.  Waits *timeout* seconds for what is being carried out."""
        self._ended = True
        self._ring()
        if self._thread is not None:
            self._thread.join(timeout)

    def _ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

    def _run(self, process: Process) -> None:
        with process:
            while not self._ended:
                while self._heard:
                    self.fleet.hear(self._heard.popleft())
                if (due := self.fleet.due()) > self._clock.now():
                    self._clock.wait(self._bell, due)
                    continue
                try:
                    self._act(process)
                except KernelStopped:
                    return
                except KernelError as error:
                    logging.getLogger("llmos").warning("llmos: the supervisor may not look at models: %s", error)
                    return

    def _act(self, process: Process) -> None:
        """Look, and do what is due."""
        truth = {facts["name"]: _truth(facts) for facts in call(process, process.control, ListModels())}
        devices: Mapping[str, Any] = call(process, process.control, Stats())["devices"]
        room = {device: facts["limit"] - facts["used"] for device, facts in devices.items()}
        now = self._clock.now()
        self.fleet.sync(now, truth)
        for action in self.fleet.decide(now, truth, room):
            try:
                self._carry_out(process, action)
            except KernelStopped:
                raise
            except KernelError as error:
                logging.getLogger("llmos").info("llmos: the supervisor could not %s: %s", action, error)
                self.fleet.refused(action, now)

    def _carry_out(self, process: Process, action: Load | Unload) -> None:
        if isinstance(action, Unload):
            call(process, process.control, UnloadModel(action.model))
            return
        spec = attrs.evolve(self._specs[action.of], name=action.model, aliases=())
        call(process, process.control, AddModel(spec))
        call(process, process.control, LoadModel(action.model))


def _truth(facts: Mapping[str, Any]) -> Truth:
    footprint = facts["footprint"] or {"device": "", "nbytes": 0}
    loaded = facts["state"] in ("loaded", "failed")  # one whose scheduler has failed takes its room as well
    return Truth(
        loaded=loaded, loading=facts["state"] == "loading", unfinished=facts["unfinished"], contexts=facts["contexts"],
        device=footprint["device"], nbytes=footprint["nbytes"],
    )  # fmt: skip
