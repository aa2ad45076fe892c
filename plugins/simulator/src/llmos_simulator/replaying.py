"""Replaying a recording: the same calls to a scheduler, and its plans beside those that were recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos_kernel.contracts import Limits, Scheduler, TaskView
from llmos_kernel.errors import ConfigError, InvalidArgument, KernelError, PluginFailed
from llmos_simulator.recorded import FORMAT, plan_facts, scheduler_named

_NEXT = "give a file that the scheduler recorded has written"
"""What to do about a file that is no recording."""


@attrs.frozen(kw_only=True)
class Difference:
    """The first plan that is another."""

    line: int
    """Where it stands in the file."""
    now: float
    """When it was asked for."""
    recorded: Any
    """What was planned then."""
    replayed: Any
    """What is planned now."""

    def __str__(self) -> str:
        return f"line {self.line}, at {self.now:g} s: {self.recorded} was recorded, {self.replayed} is planned now"


@attrs.frozen(kw_only=True)
class Replay:
    """What a replay found."""

    file: str
    policy: str
    """The name of the policy that planned, or of the type that was given."""
    calls: int
    """Calls that were made, plans included."""
    plans: int
    difference: Difference | None
    """The first one, where the replay ended; None if every plan was the same."""


def replay(
    file: str | os.PathLike[str], scheduler: str | Callable[[], Scheduler] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Replay:  # fmt: skip
    """Make the calls recorded in *file* to a new scheduler, and compare its plans with the recorded ones.

    *scheduler* is the name of an installed policy, with its *options*, or what makes one; left out, it is the policy
    that was recorded.  That policy has the options that it had, unless others are given; another has *options* alone.
    The replay ends with the first plan that differs.  Raises `ConfigError` naming the file and the line that is no
    recording, and whatever is wrong with the policy.
    """
    source = str(file)
    lines = _lines(source)
    head = next(lines, (1, None))[1]
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise _wrong(source, 1, head, f"the head of a recording of format {FORMAT}")
    chosen: Any = scheduler if scheduler is not None else head.get("policy")
    if isinstance(chosen, str):
        had = head.get("options") if chosen == head.get("policy") else None  # another policy has other options
        made = scheduler_named(chosen, options or had or {})
        name = chosen
    elif callable(chosen):
        made = chosen()
        name = type(made).__name__
    else:
        raise InvalidArgument.of("scheduler", chosen, "the name of a policy, or what makes one")
    calls = plans = 0
    difference = None
    for number, call in lines:
        calls += 1
        found = _make(made, call, source, number)
        if found is not None:
            plans += 1
            now, recorded, answer = found
            replayed = json.dumps(answer)
            if json.dumps(recorded) != replayed:
                difference = Difference(line=number, now=now, recorded=recorded, replayed=json.loads(replayed))
                break
    return Replay(file=source, policy=name, calls=calls, plans=plans, difference=difference)


def _lines(source: str) -> Iterator[tuple[int, Any]]:
    try:
        with Path(source).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise _wrong(source, number, line.strip(), "JSON") from error
    except (OSError, UnicodeDecodeError) as error:
        message = f"{source}: file must be a recording that can be read: {error}"
        raise ConfigError(
            message, field="file", value=source, expected="a recording that can be read", source=source, next=_NEXT
        ) from error


def _make(scheduler: Scheduler, call: Any, source: str, number: int) -> tuple[float, Any, Any] | None:  # noqa: ANN401
    """Make one call; of ``plan``, return when, the recorded answer and the new one."""
    try:
        match call:
            case ["plan", int() | float() as now, dict() as limits, recorded]:
                pools = tuple((longest, free) for longest, free in limits.get("pools", ()))
                asked = Limits(**{**limits, "pools": pools})
                return now, recorded, plan_facts(scheduler.plan(now, asked))
            case ["arrived" | "changed" as name, dict() as view]:
                getattr(scheduler, name)(TaskView(**view))
            case ["charged", int() as id, int() as prefilled, int() as generated]:
                scheduler.charged(id, prefilled, generated)
            case ["finished", int() as id]:
                scheduler.finished(id)
            case _:
                raise _wrong(source, number, call, "a call of a scheduler")
    except KernelError:
        raise
    except Exception as error:
        message = f"{source}, line {number}: the scheduler raised {error!r:.200} in this call, or it is none"
        raise PluginFailed(message, plugin=type(scheduler).__name__) from error
    return None


def _wrong(source: str, number: int, value: object, expected: str) -> ConfigError:
    message = f"{source}, line {number}: must be {expected}, not {value!r:.120}"
    return ConfigError(message, field=f"line {number}", value=value, expected=expected, source=source, next=_NEXT)
