"""``call`` tasks: Python callables on a run executor, through the same contract as any backend's."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from llmos_kernel._models import CALL
from llmos_kernel.api import Task
from llmos_kernel.contracts import Backend, Emit, Footprint, Limits, ModelSpec, RunExecutor
from llmos_kernel.errors import InvalidArgument, KernelError, TaskFailed

CALL_MODEL = ModelSpec(name=CALL, backend="kernel", kinds=("call",))


class CallBackend(Backend):
    """The backend of the ``call`` model, passed like any plugin object."""

    name = "kernel"

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def measure(self, spec: ModelSpec) -> Footprint:
        """Nothing: callables bring their own memory."""
        return Footprint("none", 0)

    def load(self, spec: ModelSpec) -> RunExecutor:
        """Return an executor for as many callables at once as the configuration says."""
        return CallExecutor(self._rows)


class CallExecutor(RunExecutor):
    """Runs Python callables: live ones, or ``module:name`` references.  Coroutine functions get the event loop."""

    def __init__(self, rows: int) -> None:
        self._limits = Limits(rows, rows)

    @property
    def limits(self) -> Limits:
        """As many at once as the configuration says."""
        return self._limits

    def run(self, id: int, task: Task, emit: Emit) -> Any:  # noqa: ANN401
        """Call the task's input with ``params["args"]`` and ``params["kwargs"]``; `TaskFailed` if it raises."""
        function = _callable(task.input)
        arguments, keywords = task.params.get("args", ()), task.params.get("kwargs", {})
        with _blaming(id):
            value = function(*arguments, **keywords)
        return self._awaited(id, value) if hasattr(value, "__await__") else value

    @staticmethod
    async def _awaited(id: int, value: Any) -> Any:  # noqa: ANN401
        with _blaming(id):
            return await value


@contextlib.contextmanager
def _blaming(id: int) -> Iterator[None]:
    """Turn what the function raises into `TaskFailed`; typed errors pass."""
    try:
        yield
    except KernelError:
        raise
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {error}"
        raise TaskFailed(f"the function of task {id} raised {cause}", task=id, cause=cause) from error


def _callable(value: Any) -> Any:  # noqa: ANN401
    """Return what to call; raise `InvalidArgument` if *value* is nothing that can be called."""
    if isinstance(value, str) and ":" in value:
        module, _, path = value.partition(":")
        try:
            value = importlib.import_module(module)
            for part in path.split("."):
                value = getattr(value, part)
        except (ImportError, AttributeError) as error:
            message = f"input names nothing that can be imported: {error}"
            raise InvalidArgument(message, field="input", value=value, expected="module:name") from error
    if not callable(value):
        raise InvalidArgument.of("input", value, "a callable or a reference module:name")
    return value
