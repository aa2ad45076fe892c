"""From a task to plain values for a request: what is not right is named here, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from llmos_kernel.api import Task, check_number
from llmos_kernel.errors import InvalidArgument

ROLES = ("system", "developer", "user", "assistant", "tool")


def conversation(task: Task) -> list[dict[str, Any]]:
    """Return the messages of a ``chat`` task; parts of them that a far end may know besides are left as they are."""
    expected = 'messages: [{"role": "user", "content": "..."}]'
    if isinstance(task.input, str) or not isinstance(task.input, Sequence) or not task.input:
        raise InvalidArgument.of("input", task.input, expected)
    for number, message in enumerate(task.input):
        if not isinstance(message, Mapping):
            raise InvalidArgument.of(f"input[{number}]", message, '{"role": ..., "content": ...}')
        if message.get("role") not in ROLES:
            raise InvalidArgument.of(f"input[{number}].role", message.get("role"), f"one of {', '.join(ROLES)}")
        if "content" not in message and "tool_calls" not in message:
            raise InvalidArgument.of(f"input[{number}].content", None, "a text")
        _carried(f"input[{number}]", message)
    return [dict(message) for message in task.input]


def prompt(task: Task) -> str:
    """Return the text of a task."""
    if not isinstance(task.input, str):
        raise InvalidArgument.of("input", task.input, "a text")
    _carried("input", task.input)
    return task.input


def parameters(task: Task, known: Sequence[str], far: str) -> dict[str, Any]:
    """Return the parameters of a task, if *far* can honour all of them: *known* are those that it can."""
    for name, value in task.params.items():
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            message = f"{far} cannot honour the parameter {name!r} of a {task.kind!r} task{hint}"
            raise InvalidArgument(message, field=str(name), value=value, expected=sorted(known))
        _carried(name, value)
    return {name: value for name, value in task.params.items() if value is not None}


def stops(params: Mapping[str, Any]) -> list[str]:
    """Return the strings that end the answer."""
    value = params.get("stop", [])
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) and one for one in found):
        raise InvalidArgument.of("stop", value, "a text, or a list of texts")
    return list(found)


def count(params: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """Return a whole number, or None where it is not given."""
    value = params.get(name)
    if value is not None:
        check_number(name, value, low, high)
    return value


def _carried(field: str, value: object) -> None:
    """Raise `InvalidArgument` unless *value* can be sent: JSON, of finite numbers and characters that there are."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument.of(field, value, f"what JSON can carry ({type(error).__name__})") from None
