"""From the arguments of a call to the task that is scheduled.  Pure: what waits is elsewhere, in two forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import attrs

from llmos._targets import Target
from llmos._trace import Trace, trace_context
from llmos_kernel.api import Task, check_number, check_type
from llmos_kernel.errors import InvalidArgument

Messages = Sequence[Mapping[str, Any]]
"""A conversation: ``[{"role": "user", "content": "..."}]``."""


class Options(TypedDict, total=False):
    """What every call that generates takes.  The backend says what a value that is not given is."""

    max_tokens: int
    """Most tokens of the answer."""
    max_length: int
    """Another name of ``max_tokens``."""
    min_tokens: int
    """Fewest tokens of the answer."""
    temperature: float
    """0 always takes the likeliest token."""
    top_k: int
    """Choose among so many likeliest tokens; 0 is all."""
    top_p: float
    """Choose among the likeliest tokens that have this probability together."""
    min_p: float
    """Choose among tokens at least so likely, as a share of the likeliest one's probability."""
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    seed: int
    stop: str | Sequence[str]
    """Strings that end the answer; they are not part of it."""
    logprobs: int
    """Report so many alternatives per token."""
    schema: Mapping[str, Any]
    """The answer is JSON that satisfies this JSON schema; `Text.json` reads it."""
    regex: str
    """The whole answer matches this regular expression."""
    grammar: str
    """The answer follows this grammar in Lark notation.  One of the three at most."""
    params: Mapping[str, Any]
    """Parameters that only this model's backend knows."""
    pre: str | Sequence[str]
    """Processors that the input passes."""
    post: str | Sequence[str]
    """Processors that the answer passes."""
    priority: int
    """Larger is sooner, from -1000 to 1000."""
    deadline: float
    """Seconds after which the kernel ends the task with `DeadlineExceeded`."""
    trace: Trace
    """Whose trace it belongs to (W3C): a ``traceparent``, or headers as OpenTelemetry's ``inject`` writes them."""
    pace: float
    """Seconds from one piece of a stream to the next: what is made sooner is joined to it.  The end never waits."""
    timeout: float
    """Seconds that the caller waits: to be admitted, then for the answer; in a stream, for each piece."""


_TASK_FIELDS = ("pre", "post", "priority", "deadline", "trace", "pace")


@attrs.frozen
class Request:
    """A task, how long its caller waits, and on what it may run."""

    task: Task
    timeout: float | None = None
    targets: tuple[Target, ...] = ()
    """In the order in which they are tried; the task's target is the first of them."""

    def aimed(self, targets: tuple[Target, ...]) -> Request:
        """Return the request for *targets*."""
        task = attrs.evolve(self.task, target=targets[0].aimed(self.task.input))
        return attrs.evolve(self, task=task, targets=targets)


def text_request(kind: str, input: object, options: Mapping[str, Any], *, stream: bool) -> Request:
    """Return the request for a ``generate`` or ``chat`` task, not aimed yet."""
    given = {key: value for key, value in options.items() if value is not None}
    timeout = given.pop("timeout", None)
    if timeout is not None:
        check_number("timeout", timeout, 0, 10 * 365 * 86400, whole=False)
    fields = {key: given.pop(key) for key in _TASK_FIELDS if key in given}
    for key in ("pre", "post"):
        if isinstance(fields.get(key), str):
            fields[key] = (fields[key],)
    fields["trace"] = trace_context(fields.get("trace", ""))
    extra = given.pop("params", {})
    check_type("params", extra, Mapping, "a mapping of parameters")
    params = _one_length({**given, **extra})
    return Request(Task(kind, None, input, params=params, stream=stream, **fields), timeout)


def _one_length(params: dict[str, Any]) -> dict[str, Any]:
    if "max_length" not in params:
        return params
    length = params.pop("max_length")
    if params.setdefault("max_tokens", length) != length:
        message = f"max_length is {length!r} and max_tokens is {params['max_tokens']!r}: they mean the same, give one"
        raise InvalidArgument(message, field="max_length", value=length, expected="only one of the two")
    return params


def repeated(request: Request, n: int) -> list[Request]:
    """Return *n* requests that differ in their seeds, if one is given: each next one is larger by one, modulo 2^64."""
    check_number("n", n, 1, 1024)
    seed = request.task.params.get("seed")
    if not isinstance(seed, int):
        return [request] * n
    tasks = [
        attrs.evolve(request.task, params={**request.task.params, "seed": (seed + step) % 2**64}) for step in range(n)
    ]
    return [attrs.evolve(request, task=task) for task in tasks]


def prompt(value: object) -> str:
    """Return *value* if it is a string."""
    check_type("prompt", value, str, "a string")
    return str(value)


def messages(value: str | Messages, system: str | None = None) -> list[dict[str, Any]]:
    """Return a conversation as plain dicts: a string is what the user says, *system* goes first."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    expected = 'a string or a list of {"role": ..., "content": ...}'
    check_type("messages", value, Sequence, expected)
    found: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for number, message in enumerate(value):
        check_type(f"messages[{number}]", message, Mapping, '{"role": ..., "content": ...}')
        for key in ("role", "content"):
            check_type(f"messages[{number}].{key}", message.get(key), str, "a string")
        found.append(dict(message))
    if not value:
        raise InvalidArgument("messages is empty", field="messages", value=[], expected=expected)
    return found


def opening(system: str | None, earlier: Messages) -> list[dict[str, Any]]:
    """Return what a conversation begins with: *system*, if there is one, and what was said *earlier*."""
    check_type("system", system, (str, type(None)), "a string")
    found: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    check_type("messages", earlier, Sequence, "a list of messages")
    return found + (messages(list(earlier)) if earlier else [])


def encoder_input(value: object) -> str | list[str]:
    """Return *value* if it is a string or a pair of them."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return [prompt(part) for part in value]
    return prompt(value)


def plain_request(
    kind: str, input: object, timeout: float | None, trace: Trace, params: Mapping[str, Any] | None = None
) -> Request:
    """Return the request for a task without text for an answer (``embed``, ``tokenize``, ...), not aimed yet."""
    return Request(Task(kind, None, input, params=params or {}, trace=trace_context(trace)), timeout)


def call_request(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request:
    """Return the request for a ``call`` task: ``fn(*args, **kwargs)`` on a worker."""
    if not callable(fn):
        raise InvalidArgument(f"fn must be callable, not {fn!r:.80}", field="fn", value=fn, expected="a callable")
    return Request(Task("call", input=fn, params={"args": args, "kwargs": dict(kwargs)}))
