"""Administration through the four calls: typed messages to the kernel's control port.

Every process is born with a send-only handle to it.  A question travels with a single-use reply; the answer is made of
plain values, or is the `KernelError` that says why not.  Each message is an action ``control.<name>`` for the policies.
A process sees and steers the tasks of its own tenant; with the scope ``operator``, everybody's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs

from llmos_kernel._ports import PortResource
from llmos_kernel.api import Message, number, text
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import (
    Cancelled, InvalidArgument, KernelError, ModelUnavailable, NotFound, PluginFailed,
)  # fmt: skip

if TYPE_CHECKING:
    from llmos_kernel._core import Core
    from llmos_kernel._models import Served
    from llmos_kernel._tasks import TaskRecord


@attrs.frozen
class ListTasks:
    """Tasks that have not ended: a list of mappings."""


@attrs.frozen
class InspectTask:
    """One task."""

    id: int


@attrs.frozen
class CancelTask:
    """End a task with `Cancelled`."""

    id: int


@attrs.frozen
class Reprioritise:
    """Give a task another priority."""

    id: int
    priority: int = attrs.field(validator=number(-1000, 1000))


@attrs.frozen
class ListModels:
    """Models that can be served: a list of mappings."""


@attrs.frozen
class InspectModel:
    """One model, with what its executor says of itself."""

    name: str = attrs.field(validator=text)


@attrs.frozen
class AddModel:
    """Offer one more model."""

    spec: ModelSpec = attrs.field(validator=attrs.validators.instance_of(ModelSpec))


@attrs.frozen
class LoadModel:
    """Begin to load a model; the answer does not wait for it."""

    name: str = attrs.field(validator=text)


@attrs.frozen
class UnloadModel:
    """Unload an idle model."""

    name: str = attrs.field(validator=text)


@attrs.frozen
class ListPlugins:
    """Plugins with their state and why: a list of mappings."""


@attrs.frozen
class Drain:
    """Accept no more tasks; those accepted go on."""


@attrs.frozen
class Reload:
    """Replace the scheduler of a loaded model by a new one; the model must be idle."""

    name: str = attrs.field(validator=text)


@attrs.frozen
class Stats:
    """Counts: processes, handles, tasks by state, bytes per device, events dropped."""


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
                message: Message = core.take(core.seat, self)
            try:
                answer = self._answer(message)
            except KernelError as error:
                answer = error
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may be behind the question
                answer = PluginFailed(f"{type(message.body).__name__} failed: {error!r}", plugin="unknown")
            with contextlib.suppress(KernelError), core.lock:
                for handle in message.handles[:1]:
                    core.send(core.seat, handle, answer, ())
            for handle in message.handles:
                handle.close()

    def _answer(self, message: Message) -> Any:  # noqa: ANN401
        body, who = message.body, message.sender
        name = type(body).__name__
        if type(body).__module__ != __name__ or not hasattr(self, f"_{name}"):
            expected = "a message of llmos_kernel.control"
            raise InvalidArgument(f"the control port takes {expected}", field="body", value=body, expected=expected)
        fields = attrs.asdict(body, recurse=False)
        self._core.allow(who, f"control.{name}", f"{name}:{next(iter(fields.values()), '')}", fields)
        return getattr(self, f"_{name}")(body, who)

    def _mine(self, who: Any) -> list[TaskRecord]:  # noqa: ANN401
        tasks = list(self._core.tasks.values())
        return [rec for rec in tasks if "operator" in who.scopes or rec.seat.principal.tenant == who.tenant]

    def _task(self, id: int, who: Any) -> TaskRecord:  # noqa: ANN401
        found = next((rec for rec in self._mine(who) if rec.id == id), None)
        if found is None:
            raise NotFound(f"there is no task {id}, or it has ended", field="id", value=id, nearest=[])
        return found

    def _ListTasks(self, body: ListTasks, who: Any) -> Any:  # noqa: ANN401, N802
        with self._core.lock:
            return [_task_facts(rec, self._core.clock.now()) for rec in self._mine(who)]

    def _InspectTask(self, body: InspectTask, who: Any) -> Any:  # noqa: ANN401, N802
        with self._core.lock:
            return _task_facts(self._task(body.id, who), self._core.clock.now())

    def _CancelTask(self, body: CancelTask, who: Any) -> Any:  # noqa: ANN401, N802
        with self._core.lock:
            rec = self._task(body.id, who)
            self._core.cancel(rec, Cancelled(f"task {rec.id} was cancelled by {who.name}", task=rec.id))
            return {"id": rec.id, "state": rec.state}

    def _Reprioritise(self, body: Reprioritise, who: Any) -> Any:  # noqa: ANN401, N802
        with self._core.lock:
            rec = self._task(body.id, who)
            rec.priority = body.priority
            rec.driver.note("changed", rec)
            return _task_facts(rec, self._core.clock.now())

    def _ListModels(self, body: ListModels, who: Any) -> Any:  # noqa: ANN401, N802
        return [self._model_facts(served) for served in self._core.models.all() if served.spec.backend != "kernel"]

    def _InspectModel(self, body: InspectModel, who: Any) -> Any:  # noqa: ANN401, N802
        served = self._core.models.find(body.name)
        driver = served.driver
        return self._model_facts(served) | {"executor": dict(driver.executor.describe()) if driver else None}

    def _AddModel(self, body: AddModel, who: Any) -> Any:  # noqa: ANN401, N802
        with self._core.lock:
            self._core.models.add([body.spec])
        return self._model_facts(self._core.models.find(body.spec.name))

    def _LoadModel(self, body: LoadModel, who: Any) -> Any:  # noqa: ANN401, N802
        served = self._core.models.find(body.name)
        with self._core.lock:
            self._core.demand_running()
            served.ready({})
        return self._model_facts(served)

    def _UnloadModel(self, body: UnloadModel, who: Any) -> Any:  # noqa: ANN401, N802
        self._detach(body.name)
        return self._model_facts(self._core.models.find(body.name))

    def _Reload(self, body: Reload, who: Any) -> Any:  # noqa: ANN401, N802
        self._detach(body.name)
        return self._LoadModel(LoadModel(body.name), who)

    def _detach(self, name: str) -> None:
        served = self._core.models.find(name)
        with self._core.lock:
            if served.driver is not None and not served.idle:
                uses = f"{served.unfinished} tasks, {served.contexts} contexts, {served.pins} pins"
                raise ModelUnavailable(f"{served.name} is in use: {uses}", model=served.name)
            driver = served.detach()
        driver.thread.join()

    def _ListPlugins(self, body: ListPlugins, who: Any) -> Any:  # noqa: ANN401, N802
        return [attrs.asdict(record) | {"key": record.key} for record in self._core.plugins.records()]

    def _Drain(self, body: Drain, who: Any) -> Any:  # noqa: ANN401, N802
        with self._core.lock:
            self._core.demand_running()
            self._core.state = "draining"
            return {"unfinished": len(self._core.tasks)}

    def _Stats(self, body: Stats, who: Any) -> Any:  # noqa: ANN401, N802
        core = self._core
        with core.lock:
            states: dict[str, int] = {}
            for rec in core.tasks.values():
                states[rec.state] = states.get(rec.state, 0) + 1
            limits = core.ledger.limits
            devices = {name: {"used": used, "limit": limits[name]} for name, used in core.ledger.used.items()}
            return {
                "state": core.state, "processes": len(core.seats), "handles": len(core.table), "tasks": states,
                "devices": devices, "events_dropped": core.events.dropped,
            }  # fmt: skip

    def _model_facts(self, served: Served) -> dict[str, Any]:
        state = "loaded" if served.driver else "loading" if served.loading else "unloaded"
        broken = served.driver.dispatcher.broken if served.driver else None
        facts = attrs.asdict(served.spec) | {"aliases": self._core.models.aliases_of(served.name)}
        footprint = attrs.asdict(served.footprint) if served.footprint else None
        return facts | {
            "state": "failed" if broken else state, "why": str(broken or ""), "footprint": footprint,
            "handles": served.handles, "unfinished": served.unfinished, "contexts": served.contexts,
        }  # fmt: skip


def _task_facts(rec: TaskRecord, now: float) -> dict[str, Any]:
    who = rec.seat.principal
    return {
        "id": rec.id, "kind": rec.task.kind, "model": rec.served.name, "state": rec.state, "priority": rec.priority,
        "process": who.process, "principal": who.name, "tenant": who.tenant, "age": now - rec.accepted,
        **attrs.asdict(rec.usage(now)),
    }  # fmt: skip
