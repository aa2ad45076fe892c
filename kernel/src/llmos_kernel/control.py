"""Administration through the four calls: typed messages to the kernel's control port.

Every process is born with a send-only handle to it.  A question travels with a single-use reply; the answer is made of
plain values, or is the `KernelError` that says why not.  Each message is an action ``control.<name>`` for the policies.
A process sees and steers the tasks of its own tenant; with the scope ``operator``, everybody's.

A message is a plain record; its `answer` is what the kernel does about it.
"""

from __future__ import annotations

import abc
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from llmos_kernel._ports import PortResource
from llmos_kernel.api import MAX_COUNT, Message, Principal, number, of_type, string, text
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import Cancelled, InvalidArgument, KernelError, ModelUnavailable, NotFound, PluginFailed

if TYPE_CHECKING:
    from llmos_kernel._core import Core
    from llmos_kernel._models import Served
    from llmos_kernel._tasks import TaskRecord


class Request(abc.ABC):
    """A message to the control port."""

    locked: ClassVar[bool] = True
    """Whether it is answered under the core's lock: not where the answer waits, or asks a plugin."""

    @abc.abstractmethod
    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401 - plain values
        """Do what the message asks for, and return what to tell *who* asked."""


# --- tasks -----------------------------------------------------------------------------------------------------


@attrs.frozen
class ListTasks(Request):
    """Tasks that have not ended: a list of mappings."""

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Tell of every task that *who* may see."""
        return [_task_facts(core, rec) for rec in core.tasks.values() if _may_steer(who, rec)]


@attrs.frozen
class _OfTask(Request):
    """A message about one task."""

    id: int = attrs.field(validator=number(0, MAX_COUNT))

    def find(self, core: Core, who: Principal) -> TaskRecord:
        """Return the task; raise `NotFound` if it has ended, or is none of *who*'s."""
        rec = core.tasks.get(self.id)
        if rec is None or not _may_steer(who, rec):
            raise NotFound(f"there is no task {self.id}, or it has ended", field="id", value=self.id, nearest=[])
        return rec


@attrs.frozen
class InspectTask(_OfTask):
    """One task."""

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Tell of the task."""
        return _task_facts(core, self.find(core, who))


@attrs.frozen
class CancelTask(_OfTask):
    """End a task with `Cancelled`."""

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """End it, and say how it ended."""
        rec = self.find(core, who)
        rec.end(core.clock.now(), error=Cancelled(f"task {rec.id} was cancelled by {who.name}", task=rec.id))
        return {"id": rec.id, "state": rec.state}


@attrs.frozen
class Reprioritise(_OfTask):
    """Give a task another priority."""

    priority: int = attrs.field(validator=number(-1000, 1000))

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Set it, and let the scheduler know."""
        rec = self.find(core, who)
        rec.priority = self.priority
        rec.driver.note("changed", rec)
        return _task_facts(core, rec)


# --- models ----------------------------------------------------------------------------------------------------


@attrs.frozen
class ListModels(Request):
    """Models that can be served: a list of mappings."""

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Tell of every model."""
        return [_model_facts(core, served) for served in core.models.served.values() if served.spec.backend != "kernel"]


@attrs.frozen
class AddModel(Request):
    """Offer one more model."""

    spec: ModelSpec = attrs.field(validator=of_type(ModelSpec, "a ModelSpec"))

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Add it."""
        core.models.add([self.spec])
        return _model_facts(core, core.models.find(self.spec.name))


@attrs.frozen
class _OfModel(Request):
    """A message about one model."""

    name: str = attrs.field(validator=text)

    def detach(self, core: Core) -> Served:
        """Unload the model and wait until it is gone; raise `ModelUnavailable` if it is not idle."""
        served = core.models.find(self.name)
        with core.lock:
            if served.driver is not None and not served.idle:
                uses = f"{served.unfinished} tasks, {served.contexts} contexts, {served.pins} pins"
                raise ModelUnavailable(f"{served.name} is in use: {uses}", model=served.name)
            driver = served.detach()
        driver.thread.join()
        return served


@attrs.frozen
class InspectModel(_OfModel):
    """One model, with what its executor says of itself."""

    locked = False

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Tell of the model."""
        served = core.models.find(self.name)
        driver = served.driver
        return _model_facts(core, served) | {"executor": dict(driver.executor.describe()) if driver else None}


@attrs.frozen
class LoadModel(_OfModel):
    """Begin to load a model; the answer does not wait for it."""

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Begin."""
        served = core.models.find(self.name)
        core.demand_running()
        served.ready({})
        return _model_facts(core, served)


@attrs.frozen
class UnloadModel(_OfModel):
    """Unload an idle model."""

    locked = False

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Unload it."""
        return _model_facts(core, self.detach(core))


@attrs.frozen
class Reload(_OfModel):
    """Replace the scheduler of a loaded model by a new one; the model must be idle."""

    locked = False

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Unload the model, and begin to load it."""
        self.detach(core)
        with core.lock:
            return LoadModel(self.name).answer(core, who)


# --- the kernel ------------------------------------------------------------------------------------------------


@attrs.frozen
class ListPlugins(Request):
    """Plugins with their state and why: a list of mappings."""

    locked = False

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Tell of every plugin."""
        return [attrs.asdict(record) | {"key": record.key} for record in core.plugins.records()]


@attrs.frozen
class Drain(Request):
    """Accept no more tasks; those accepted go on."""

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Begin."""
        core.demand_running()
        core.state = "draining"
        return {"unfinished": len(core.tasks)}


@attrs.frozen
class Stats(Request):
    """Counts: processes, handles, tasks by state, bytes per device, events dropped."""

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Count."""
        used, ports = core.ledger.used, sum(seat.account.ports for seat in core.seats.values())
        return {
            "state": core.state, "processes": len(core.seats), "handles": len(core.table), "ports": ports,
            "tasks": dict(Counter(rec.state for rec in core.tasks.values())),
            "devices": {name: {"used": used[name], "limit": limit} for name, limit in core.ledger.limits.items()},
            "events_dropped": core.events.dropped,
        }  # fmt: skip


@attrs.frozen
class Metrics(Request):
    """What an observer measured, as (content type, bytes); None if no observer has an ``llmos_metrics``."""

    accept: str = attrs.field(default="", validator=string)
    """The formats that the asker takes, as HTTP's Accept header says it."""
    locked = False

    def answer(self, core: Core, who: Principal) -> Any:  # noqa: ANN401
        """Ask the observer.  A tenant hears of its own tasks; with the scope ``operator``, of everybody's."""
        models = [InspectModel(one.name).answer(core, who) for one in list(core.models.served.values()) if one.driver]
        with core.lock:
            tasks = Counter((rec.served.name, rec.seat.principal.tenant, rec.state) for rec in core.tasks.values())
            facts = {"stats": Stats().answer(core, who), "models": models, "tasks": tasks}
        return core.plugins.metrics(self.accept, facts | {"tenant": None if "operator" in who.scopes else who.tenant})


_REQUESTS = frozenset(kind for kind in vars().values() if isinstance(kind, type) and issubclass(kind, Request))
"""The messages that are answered: no subclass of somebody else's, which would run with the kernel's rights."""


class ControlPort(PortResource):
    """The port that the kernel itself reads, on its workers."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        super().__init__(core.seat, 1024)
        self._core = core
        core.seat.account.ports += 1

    def put(self, message: Message) -> None:
        """Queue *message* and have a worker answer it."""
        self.items.append(message)
        self._core.workers.submit(self._serve)

    def _serve(self) -> None:
        core = self._core
        with contextlib.suppress(KernelError):  # the kernel may have stopped, and below, who asked may have gone
            with core.lock:
                message: Any = core.take(core.seat, self)
            try:
                answer = self._answer(message.body, message.sender)
            except KernelError as error:
                answer = error
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may be behind the question
                answer = PluginFailed(f"{type(message.body).__name__} failed: {error!r}", plugin="unknown")
            with contextlib.suppress(KernelError), core.lock:
                for handle in message.handles[:1]:
                    core.send(core.seat, handle, answer, ())
            for handle in message.handles:
                handle.close()

    def _answer(self, body: Any, who: Principal) -> Any:  # noqa: ANN401
        if type(body) not in _REQUESTS:
            raise InvalidArgument.of("body", body, "a message of llmos_kernel.control")
        name, fields = type(body).__name__, attrs.asdict(body, recurse=False)
        self._core.allow(who, f"control.{name}", f"{name}:{next(iter(fields.values()), '')}", fields)
        with self._core.lock if body.locked else contextlib.nullcontext():
            return body.answer(self._core, who)


def _may_steer(who: Principal, rec: TaskRecord) -> bool:
    return "operator" in who.scopes or rec.seat.principal.tenant == who.tenant


def _task_facts(core: Core, rec: TaskRecord) -> dict[str, Any]:
    who, now = rec.seat.principal, core.clock.now()
    return {
        "id": rec.id, "kind": rec.task.kind, "model": rec.served.name, "state": rec.state, "priority": rec.priority,
        "process": who.process, "principal": who.name, "tenant": who.tenant, "age": now - rec.accepted,
        **attrs.asdict(rec.usage(now)),
    }  # fmt: skip


def _model_facts(core: Core, served: Served) -> dict[str, Any]:
    state = "loaded" if served.driver else "loading" if served.loading else "unloaded"
    broken = served.driver.dispatcher.broken if served.driver else None
    return attrs.asdict(served.spec) | {
        "aliases": core.models.aliases_of(served.name), "state": "failed" if broken else state,
        "why": str(broken or ""), "footprint": attrs.asdict(served.footprint) if served.footprint else None,
        "handles": served.handles, "unfinished": served.unfinished, "contexts": served.contexts,
    }  # fmt: skip
