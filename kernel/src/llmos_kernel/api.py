"""What crosses the system-call boundary: requests, tasks, messages and events.  Plain records, no behaviour.

    alloc(request)   -> Handle          Memory, Port, Reply, Model, Context
    schedule(task)   -> TaskHandle      Task
    send(to, body)   -> Receipt
    recv(source)     -> Message         body: what was sent; from a task, a `TaskEvent`

Every record is checked when it is made.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from llmos_kernel.errors import InvalidArgument, KernelError

MAX_SECONDS = 10.0 * 365 * 86400
"""The longest timeout or deadline that is accepted: ten years."""
MAX_COUNT = 2**40
"""The largest number of bytes, tokens or places that is accepted."""


class Right(enum.IntFlag):
    """What a handle may be used for.  Rights only narrow."""

    SEND = 1
    RECV = 2
    SEND_ONCE = 4
    """Send exactly one message; the handle is gone after it."""
    RUN = 8
    READ = 16
    WRITE = 32
    CANCEL = 64
    DUPLICATE = 128
    TRANSFER = 256


def check_number(field: str, value: object, low: float, high: float, *, whole: bool = True) -> None:
    """Raise `InvalidArgument` unless *value* is a finite number in [*low*, *high*] (a whole one, unless told)."""
    # A NaN is in no range, and the bounds are finite.
    if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument.of(field, value, f"a {'whole ' if whole else ''}number from {low:g} to {high:g}")


def check_type(field: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    """Raise `InvalidArgument` unless *value* is of *kind*; *expected* says what would be right."""
    if not isinstance(value, kind):
        raise InvalidArgument.of(field, value, expected)


def number(low: float, high: float, *, whole: bool = True) -> Any:  # noqa: ANN401 - attrs types validators as Any
    """Return an attrs validator that applies `check_number`."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check_number(attribute.name, value, low, high, whole=whole)

    return validate


def of_type(kind: type, expected: str) -> Any:  # noqa: ANN401 - attrs types validators as Any
    """Return an attrs validator that applies `check_type`."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check_type(attribute.name, value, kind, expected)

    return validate


_seconds = number(0, MAX_SECONDS, whole=False)
string = of_type(str, "a string")
mapping = of_type(Mapping, "a mapping")


def text(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """attrs validator: a non-empty string."""
    if not isinstance(value, str) or not value:
        raise InvalidArgument.of(attribute.name, value, "a non-empty string")


def names(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """attrs validator: a tuple of strings (a list becomes one through `listed`)."""
    if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument.of(attribute.name, value, "a list of names")


def listed(value: Any) -> Any:  # noqa: ANN401 - the validator says what it may be
    """attrs converter: a list as a tuple.  A string is left for the validator to refuse: it is no list of letters."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) else value


def _set(value: Iterable[str]) -> frozenset[str]:
    return frozenset(value)


# --- who -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Budget:
    """What one process may hold at once.  All finite."""

    nbytes: int = attrs.field(default=2**33, validator=number(0, MAX_COUNT))
    """Bytes of `Memory` and `Context`."""
    ports: int = attrs.field(default=4096, validator=number(0, MAX_COUNT))
    tasks: int = attrs.field(default=200_000, validator=number(0, MAX_COUNT))
    """Tasks accepted and not yet ended."""
    tokens_per_minute: int = attrs.field(default=2**31, validator=number(0, MAX_COUNT))


@attrs.frozen
class Credentials:
    """Who asks for a seat.  The embedder vouches for it; a server makes it from an API key."""

    name: str = attrs.field(default="local", validator=text)
    tenant: str = attrs.field(default="local", validator=text)
    scopes: frozenset[str] = attrs.field(default=frozenset(), converter=_set)
    budget: Budget = attrs.field(factory=Budget)


@attrs.frozen
class Principal:
    """The identity that the kernel stamps on messages and tasks."""

    process: int
    """Number of the process; 0 is the kernel."""
    name: str
    tenant: str
    scopes: frozenset[str] = frozenset()


# --- alloc -----------------------------------------------------------------------------------------------------


@attrs.frozen
class Memory:
    """Shared memory of *nbytes*, charged to the caller's budget."""

    nbytes: int = attrs.field(validator=number(1, MAX_COUNT))


@attrs.frozen
class Port:
    """A bounded one-way queue of messages."""

    capacity: int = attrs.field(validator=number(1, 2**20))


@attrs.frozen
class Reply:
    """A port for one message: the handle receives, its `Handle.sender` child sends once."""


@attrs.frozen
class Model:
    """The right to run the model called *name* (a name or an alias)."""

    name: str = attrs.field(validator=text)
    pinned: bool = False
    """Keep the weights in memory for as long as this handle lives."""


@attrs.frozen
class Context:
    """A place of *tokens* in a model's KV cache that lives as long as the handle."""

    model: Any
    """A handle from ``alloc(Model(...))``."""
    tokens: int = attrs.field(validator=number(1, MAX_COUNT))


# --- schedule --------------------------------------------------------------------------------------------------


@attrs.frozen
class Auto:
    """A target that a router chooses: any served model with these capabilities."""

    languages: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    capabilities: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    context: int = attrs.field(default=0, validator=number(0, MAX_COUNT))
    """Fewest tokens of context that will do."""
    cost: float | None = attrs.field(default=None, validator=attrs.validators.optional(number(0, 1e9, whole=False)))
    """The most that a million tokens may cost."""
    models: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Only these will do, if any are named: replicas, for instance."""
    avoid: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """These will not do: they have just failed, for instance."""
    affinity: str = attrs.field(default="", validator=string)
    """Tasks with the same word should go to the same model where possible: they share a prefix."""


@attrs.frozen
class Task:
    """One unit of work; one sequence.  The tenant is the process's, so it is not a field."""

    kind: str = attrs.field(validator=text)
    """``generate``, ``chat``, ``embed``, ``classify``, ``tokenize``, ``call``, or what a backend declares."""
    target: Any = None
    """A Model or Context handle, a model's name or alias, `Auto`, or None for ``call``."""
    input: Any = None
    params: Mapping[str, Any] = attrs.field(factory=dict, validator=mapping, kw_only=True)
    pre: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names, kw_only=True)
    """Processors that the input passes, in order, before the backend sees it."""
    post: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names, kw_only=True)
    """Processors that the text passes, in order, before the reader sees it."""
    priority: int = attrs.field(default=0, validator=number(-1000, 1000), kw_only=True)
    """Larger is sooner, for schedulers that look at it."""
    deadline: float | None = attrs.field(default=None, validator=attrs.validators.optional(_seconds), kw_only=True)
    """Seconds from acceptance after which the task fails with `DeadlineExceeded`."""
    stream: bool = attrs.field(default=False, kw_only=True)
    """Deliver `Chunk` events while the task runs; otherwise only the terminal event."""
    capacity: int = attrs.field(default=256, validator=number(1, 2**20), kw_only=True)
    """Places of the task's port for chunks; one more is kept for the terminal event."""
    pace: float = attrs.field(default=0.0, validator=_seconds, kw_only=True)
    """Seconds from one chunk that was read to the next: what is made sooner is joined.  The end never waits."""
    durable: bool = attrs.field(default=False, kw_only=True)
    """Survive a crash of the kernel.  Needs a journal store."""
    trace: str = attrs.field(default="", validator=string, kw_only=True)
    """The W3C trace context of whoever asked: a ``traceparent``, and after a space a ``tracestate`` if there is one.

    Observers see it, and nobody else looks at it.  Tasks that a ``call`` task schedules have its unless told otherwise.
    """


# --- send and recv ---------------------------------------------------------------------------------------------


@attrs.frozen
class Receipt:
    """The message is on the port."""

    depth: int
    """Messages on the port just after this one was queued."""


@attrs.frozen
class Message:
    """What `recv` returns."""

    sender: Principal
    """Stamped by the kernel."""
    body: Any
    handles: tuple[Any, ...] = ()
    """Handles that moved to the receiver with this message."""


@attrs.frozen
class Usage:
    """What a task used.  Tokens, and seconds of the kernel's clock."""

    prompt: int = 0
    cached: int = 0
    """Prompt tokens whose KV cache was reused."""
    generated: int = 0
    queued: float = 0.0
    """From acceptance to the first step."""
    prefill: float = 0.0
    """From the first step to the first token."""
    decode: float = 0.0
    """From the first token to the end."""


@attrs.frozen
class TaskEvent:
    """What a task's port carries.  Exactly one `Done` or `Failed` ends it."""

    task: int


@attrs.frozen
class _Output(TaskEvent):
    """What a task produced."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[Any, ...] = ()
    """One entry per token where they were asked for."""
    value: Any = None
    """What is not text: a vector, a callable's return value, what a run executor emitted."""


@attrs.frozen
class Chunk(_Output):
    """A piece of a streaming task's output."""


@attrs.frozen
class Done(_Output):
    """The task ended well: the whole output."""

    finish: str = "stop"
    """Why it ended: ``stop``, ``length``, or what the backend says."""
    usage: Usage = attrs.field(factory=Usage)


@attrs.frozen
class Failed(TaskEvent):
    """The task ended without a result; a cancelled one carries `Cancelled`."""

    error: KernelError
    text: str = ""
    """What had been produced until then."""
    usage: Usage = attrs.field(factory=Usage)
