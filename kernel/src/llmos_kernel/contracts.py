"""What plugins implement, and the frozen records that cross between them and the kernel.

Everything in a record is a plain value (ids, counts, tokens), never a live object: an executor in another process, the
simulator and a replay use the same ones.  A step follows this protocol::

    prepare(id, task, ...) on the worker pool, before the scheduler hears of the task
    scheduler.arrived      the task is waiting
    scheduler.plan         -> Plan
    preempt(id, how)       for each of plan.preempt
    admit(id)              for each of plan.admit and plan.resume; NotNow is normal
    step(plan)             one quantum, if the plan has rows; blocks outside the GIL
    scheduler.charged      for each row
    release(ids)           tasks that ended; always, and once
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs

from llmos_kernel.api import Task, Usage, listed, mapping, names, number, string, text
from llmos_kernel.errors import InvalidArgument, KernelError

API: Mapping[str, int] = dict.fromkeys(
    "backend scheduler router policy processor store observer exporter command model".split(), 1
)
"""The version of the contract per plugin kind.  A plugin states its own as an integer ``api`` attribute."""

# --- models ----------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ModelSpec:
    """A model that can be served: where it is and what it is said to do."""

    name: str = attrs.field(validator=text)
    backend: str = attrs.field(validator=text)
    """Name of the backend plugin that loads it."""
    path: str = attrs.field(default="", validator=string)
    """The model folder, for backends that read one."""
    aliases: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    kinds: tuple[str, ...] = attrs.field(default=("generate",), converter=listed, validator=names)
    """Task kinds that it serves."""
    languages: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    capabilities: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    context: int = attrs.field(default=0, validator=number(0, 2**40))
    """Most tokens of prompt and output together; 0 is unknown until it is loaded."""
    nbytes: int = attrs.field(default=0, validator=number(0, 2**50))
    cost: float = attrs.field(default=0.0, validator=number(0, 1e9, whole=False))
    """Price of a million tokens, in any one currency."""
    license: str = attrs.field(default="", validator=string)
    description: str = attrs.field(default="", validator=string)
    distribution: str = attrs.field(default="", validator=string)
    """The distribution that brought it, if one did."""
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=mapping)
    """Passed to the backend as they are."""


@attrs.frozen
class Footprint:
    """What loading a model will take from a device."""

    device: str
    """``cpu``, ``cuda:0``, ... or ``none`` for models elsewhere."""
    nbytes: int = attrs.field(validator=number(0, 2**50))


# --- stepping --------------------------------------------------------------------------------------------------


@attrs.frozen
class Limits:
    """What an executor can take now.  Published before every plan."""

    rows: int
    """Most tasks that one step may serve."""
    free: int
    """Tasks that could be admitted now."""
    tokens: int = 2**30
    """Most tokens in one step: those prefilled, and one per row that decodes."""
    chunks: int = 2**30
    """Most prefill chunks in one step."""
    context: int = 2**30
    """Most tokens of one sequence."""
    pools: tuple[tuple[int, int], ...] = ()
    """(longest sequence, free places) per length class, where there are classes."""


@attrs.frozen
class Prepared:
    """What `StepExecutor.prepare` learned of a task."""

    prompt_tokens: int
    max_tokens: int
    length_class: int = 0
    """Index into `Limits.pools`."""
    answer: Result | None = None
    """Set when the task needs no step (``tokenize``): it ends with this."""


@attrs.frozen
class Admitted:
    """The task has its place; *cached* tokens of its prompt need no prefill.

    A task that comes back after its cache was dropped has its generated tokens for prompt too: they are prefilled
    again, and the last chunk yields the next token.  After ``keep`` or ``swap`` nothing is repeated and *cached* is
    ignored.
    """

    cached: int = 0


@attrs.frozen
class NotNow:
    """There is no room now; the task stays where it was."""


TaskState = Literal[
    "accepted", "preparing", "waiting", "running", "stalled", "preempted", "done", "failed", "cancelled"
]
Preemption = Literal["keep", "swap", "drop"]


@attrs.frozen
class TaskView:
    """What a scheduler sees of a task."""

    id: int
    kind: str
    tenant: str
    priority: int
    deadline: float | None
    """On the kernel's clock."""
    arrival: float
    prompt: int
    """Prompt tokens."""
    max_tokens: int
    cached: int = 0
    """Prompt tokens that need no prefill."""
    prefilled: int = 0
    """Prompt tokens computed so far, the cached ones not counted."""
    generated: int = 0
    predicted: int = 0
    """Expected tokens of output; max_tokens where nobody knows better."""
    length_class: int = 0
    state: TaskState = "waiting"
    placed: bool = False
    """The executor holds a place for it; a preempted task that kept its place needs no free one to come back."""


@attrs.frozen
class Plan:
    """What happens in one quantum.  Ids appear at most once per field."""

    admit: tuple[int, ...] = ()
    """Waiting tasks to give a place."""
    resume: tuple[int, ...] = ()
    """Preempted tasks to give their place back."""
    preempt: tuple[tuple[int, Preemption], ...] = ()
    """Running or stalled tasks to stop, and what becomes of their KV cache."""
    shed: tuple[int, ...] = ()
    """Waiting tasks to refuse: they fail with `Overloaded`."""
    prefill: tuple[tuple[int, int], ...] = ()
    """(task, tokens) of running tasks whose prompt is not computed; the last chunk yields the first token."""
    decode: tuple[tuple[int, int], ...] = ()
    """(task, at most so many tokens) of running tasks whose prompt is computed."""
    wake_at: float | None = None
    """Plan again at this time even if nothing happens."""


@attrs.frozen
class Result:
    """What one row of a step produced.  Only a raise fails a whole step."""

    id: int
    tokens: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[Any, ...] = ()
    value: Any = None
    finish: str | None = None
    """Why the task ended; None while it goes on."""
    error: KernelError | None = None
    """This row failed; the others did not."""
    usage: Usage | None = None
    """The task's tokens so far, of an executor whose tokens the kernel does not see.  Seconds are the kernel's own."""


class Executor(abc.ABC):
    """A loaded model.  `close` is called once, by the thread that stepped it."""

    @property
    @abc.abstractmethod
    def limits(self) -> Limits:
        """What the executor can take now.  Called before every plan: cheap, does not block."""

    def describe(self) -> Mapping[str, Any]:
        """Return facts for people and programs: provider, formats, sizes.  Any thread."""
        return {}

    def close(self) -> None:  # noqa: B027 - an executor without resources has nothing to do
        """Give everything back."""


class StepExecutor(Executor):
    """An executor that is driven step by step, all its tasks together, from one thread."""

    @abc.abstractmethod
    def prepare(self, id: int, task: Task, tenant: str) -> Prepared:
        """Check and encode *task*; raise `InvalidArgument` naming the field.  Worker pool: any thread, concurrently.

        What an executor keeps of a task for others (a prefix's KV cache) it keeps for tasks of the same *tenant* only.
        """

    @abc.abstractmethod
    def admit(self, id: int) -> Admitted | NotNow:
        """Give a prepared or preempted task a place."""

    @abc.abstractmethod
    def step(self, plan: Plan) -> Iterable[Result]:
        """Run one quantum and return one result per row of *plan*."""

    @abc.abstractmethod
    def release(self, ids: Iterable[int]) -> None:
        """Forget tasks in whatever state, prepared ones too.  Ids that are unknown are not an error."""

    def preempt(self, id: int, how: Preemption) -> None:
        """Stop a running task: keep its place, move its cache to host memory, or drop it.  `admit` brings it back."""

    def open_context(self, id: int, tokens: int) -> int:
        """Keep a place of *tokens* for the turns of a conversation and return its bytes; `release` ends it.

        Tasks that run in it come to `prepare` with the context's id as their target.
        """
        message = f"this model keeps no contexts (asked for context {id} of {tokens} tokens)"
        raise InvalidArgument(message, field="request", value="Context", expected="a model that keeps contexts")

    def interrupt(self) -> None:
        """Cut a running step short; its rows are ended or repeated.  Any thread, concurrently with `step`."""


Emit = Callable[[Result], Any]


class RunExecutor(Executor):
    """An executor that runs each task from start to end, up to ``limits.rows`` at once.

    `run` may be a plain function, which gets a thread, or a coroutine function, which gets the executor's event loop.
    """

    @abc.abstractmethod
    def run(self, id: int, task: Task, emit: Emit) -> Any:  # noqa: ANN401 - the task's own result
        """Do the task and return its value, or a `Result` to set text and finish as well.

        *emit* delivers a piece of output; in a coroutine, await what it returns: it waits while the reader is behind.
        Cancellation closes the task at once; a coroutine is cancelled, a thread is left to return.
        """


class Backend(abc.ABC):
    """Turns model specifications into executors."""

    @abc.abstractmethod
    def measure(self, spec: ModelSpec) -> Footprint:
        """Say what `load` will take, without loading.  Raise `ModelUnavailable` naming what is wrong."""

    @abc.abstractmethod
    def load(self, spec: ModelSpec) -> StepExecutor | RunExecutor:
        """Load the model.  Raise `ModelUnavailable` naming what is wrong.  May take long; any thread."""

    def doctor(self) -> Mapping[str, Any]:
        """Return facts about the runtime for ``llmos doctor``: providers and whether they really run."""
        return {}


# --- scheduling ------------------------------------------------------------------------------------------------


class Scheduler(abc.ABC):
    """A deterministic state machine: `plan` depends only on the calls received before it and on its arguments.

    One instance per executor, called from one thread.  It keeps its own queues from what it hears.  For a
    `RunExecutor` only `Plan.admit`, `Plan.shed` and `Plan.wake_at` have an effect.
    """

    @abc.abstractmethod
    def arrived(self, task: TaskView) -> None:
        """A task is waiting."""

    @abc.abstractmethod
    def changed(self, task: TaskView) -> None:
        """A task's state, priority or cached tokens changed (admitted, preempted, stalled, resumed)."""

    @abc.abstractmethod
    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """A step computed *prefilled* prompt tokens and produced *generated* tokens for the task."""

    @abc.abstractmethod
    def finished(self, id: int) -> None:
        """The task ended, however; it must not be planned again."""

    @abc.abstractmethod
    def plan(self, now: float, limits: Limits) -> Plan:
        """Say what happens next.  No I/O, no clock of its own.

        An empty plan without ``wake_at`` while a task could run is an impossible plan, and so are unknown or repeated
        ids, transitions that `Plan` does not describe, and more than *limits*.  A task whose admission was answered
        `NotNow` stays waiting and may be proposed again; the kernel asks again when something changed.
        """
