"""Values as MessagePack can carry them, and back.

None, booleans, numbers, strings, bytes, lists and mappings with string keys are themselves.  Everything else is a
mapping with the one key ``""`` and a list of what it is and what it holds: tuples, sets, mappings with other keys, the
records of the system calls and of the control port, errors, and handles.  So what arrives is equal to what was sent,
and no class is named that is not in the table below: nothing is imported, and nothing is run.

A record's field that holds its default is left out, so a peer of an older version, which does not know a new field,
is told of it only where it matters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from llmos_kernel import api, contracts, control
from llmos_kernel.errors import InvalidArgument, KernelError

MAX_DEPTH = 64
"""How deep values may be nested."""
_TAG = ""
_LOW, _HIGH = -(2**63), 2**64 - 1
_PLAIN = (type(None), bool, bytes)
RECORDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        api.Memory, api.Port, api.Reply, api.Model, api.Context, api.Auto, api.Task, api.Principal, api.Message,
        api.Receipt, api.Usage, api.Chunk, api.Done, api.Failed, contracts.ModelSpec,
    )
} | {
    name: kind
    for name, kind in vars(control).items()
    if isinstance(kind, type) and issubclass(kind, control.Request) and attrs.has(kind) and not name.startswith("_")
}  # fmt: skip
"""The records that travel, by name."""


@attrs.frozen
class HandleFacts:
    """What is told of a handle: its number in the session, and what a client shows of it."""

    id: int
    kind: str = "port"
    rights: int = 0
    task: int = 0
    """The task's number, of a task."""
    model: str = ""
    """The model that serves it, of a task."""
    sender: int = 0
    """The number of the handle to send with, of a reply."""


Put = Callable[[object], HandleFacts | None]
"""Says what is told of a handle; None for what is none."""
Take = Callable[[HandleFacts], object]
"""Finds, or makes, the handle that was told of."""


def pack(value: object, put: Put, depth: int = MAX_DEPTH) -> Any:  # noqa: ANN401 - plain values
    """Return *value* in the form above; raise `InvalidArgument` for what cannot travel."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, int | float | str):
        return _scalar(value)
    if not depth:
        raise InvalidArgument.of("value", type(value).__name__, f"nested no deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [pack(item, put, depth - 1) for item in value]
    if isinstance(value, Mapping):
        return _pack_mapping(value, put, depth)
    if isinstance(value, tuple | set | frozenset):
        name = "tuple" if isinstance(value, tuple) else "set" if isinstance(value, set) else "frozenset"
        return {_TAG: [name, [pack(item, put, depth - 1) for item in value]]}
    return _pack_record(value, put, depth)


def _scalar(value: float | str) -> float | str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        if not _LOW <= value <= _HIGH:
            raise InvalidArgument.of("value", value, "a whole number from -2^63 to 2^64 - 1")
        return int(value)
    return float(value)


def _pack_mapping(value: Mapping[Any, Any], put: Put, depth: int) -> Any:  # noqa: ANN401
    if all(type(key) is str and key != _TAG for key in value):
        return {key: pack(item, put, depth - 1) for key, item in value.items()}
    pairs = [[pack(key, put, depth - 1), pack(item, put, depth - 1)] for key, item in value.items()]
    return {_TAG: ["mapping", pairs]}


def _pack_record(value: object, put: Put, depth: int) -> Any:  # noqa: ANN401
    if isinstance(value, KernelError):
        names = [kind.__name__ for kind in type(value).__mro__ if issubclass(kind, KernelError)]
        return {_TAG: ["error", [names, value.message, pack(value.fields, put, depth - 1)]]}
    facts = put(value)
    if facts is not None:
        return {_TAG: ["handle", list(attrs.astuple(facts))]}
    name = type(value).__name__
    if RECORDS.get(name) is not type(value):
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        if hasattr(value, "tolist"):  # arrays and their numbers
            return pack(value.tolist(), put, depth - 1)
        expected = "plain values, records of the system calls and handles"
        message = f"a value of type {name} cannot travel to another machine: only {expected} can"
        raise InvalidArgument(message, field="value", value=name, expected=expected)
    kind: Any = type(value)
    held = ((each, getattr(value, each.name)) for each in attrs.fields(kind))
    return {_TAG: [name, {each.name: pack(one, put, depth - 1) for each, one in held if one is not each.default}]}


def unpack(plain: object, take: Take, depth: int = MAX_DEPTH) -> Any:  # noqa: ANN401 - whatever was packed
    """Return what `pack` wrote; raise `InvalidArgument` for anything that it does not write."""
    if not isinstance(plain, list | dict):
        return plain
    if not depth:
        raise InvalidArgument.of("value", type(plain).__name__, f"nested no deeper than {MAX_DEPTH}")
    if isinstance(plain, list):
        return [unpack(item, take, depth - 1) for item in plain]
    if _TAG in plain:
        return _unpack_tagged(plain, take, depth)
    if not all(isinstance(key, str) for key in plain):
        raise InvalidArgument.of("value", type(plain).__name__, "a mapping with string keys")
    return {key: unpack(item, take, depth - 1) for key, item in plain.items()}


def _unpack_tagged(plain: dict[Any, Any], take: Take, depth: int) -> Any:  # noqa: ANN401
    tagged = plain[_TAG]
    if len(plain) != 1 or not isinstance(tagged, list) or len(tagged) != 2 or not isinstance(tagged[0], str):
        raise InvalidArgument.of("value", tagged, "[what it is, what it holds]")
    name, held = tagged
    try:
        if name == "handle":
            return take(HandleFacts(*held))
        if name in RECORDS:
            fields = {key: unpack(item, take, depth - 1) for key, item in held.items()}
            return RECORDS[name](**fields)
        parts = [unpack(item, take, depth - 1) for item in held]
        return _CONTAINERS[name](parts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, KernelError):
            raise
        expected = "what `llmos.wire.pack` writes"
        raise InvalidArgument(
            f"{name!r:.80} holds no such thing", field="value", value=name, expected=expected
        ) from error


def _error(parts: list[Any]) -> KernelError:
    """Return the error, or the nearest of its bases that is known here."""
    names, message, fields = parts
    for name in names:
        found = KernelError.from_wire({"error": name, "message": message, "fields": fields})
        if type(found).__name__ == name:
            return found
    raise ValueError("not an error of the kernel's tree")


_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple, "set": set, "frozenset": frozenset, "mapping": dict, "error": _error,
}  # fmt: skip


def reference(fn: object) -> str:
    """Return ``module:name`` of a callable that can be imported by it; raise `InvalidArgument` for any other."""
    if isinstance(fn, str):
        return fn
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in str(name).split("."):
        found = getattr(found, part, None)
    if found is not fn or module == "__main__":
        expected = "a function of a module that the server can import, or its reference module:name"
        message = f"{fn!r:.80} cannot travel to another machine: give {expected}"
        raise InvalidArgument(message, field="input", value=f"{fn!r:.80}", expected=expected)
    return f"{module}:{name}"
