"""Errors: one tree, caught as the builtin that a caller would expect, the same on the other side of a wire."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_kernel import errors
from llmos_kernel.errors import InvalidArgument, KernelError, shown


def family(kind: type[KernelError]) -> list[type[KernelError]]:
    """Return *kind* and everything below it."""
    return [kind, *(below for sub in kind.__subclasses__() for below in family(sub))]


KINDS = [kind for kind in family(KernelError) if kind.__module__ == errors.__name__]


def test_tree_is_the_one_in_the_docstring() -> None:
    """The module's docstring names every class, under the parent that it has."""
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([ │├└─]*)([A-Z]\w+)(?: {2,}\((\w+)\))?", line):
            drawn, name, builtin = found.groups()
            depth = (len(drawn) - 4) // 4
            kind = getattr(errors, name, None)
            if kind is None:
                continue
            path[depth:] = [name]
            if depth > 0:
                assert path[depth - 1] in {base.__name__ for base in kind.__bases__}
            if builtin:
                assert builtin in {base.__name__ for base in kind.__mro__}
    named = set(re.findall(r"\b[A-Z]\w+", errors.__doc__ or ""))

    assert set() == {kind.__name__ for kind in KINDS} - named


@pytest.mark.parametrize("kind", KINDS)
def test_survives_copies_and_wires(kind: type[KernelError]) -> None:
    """Class, message and fields come back from pickle, copy and JSON."""
    error = kind("what happened", field="x", value=3, seconds=1.5, nested={"a": (1, 2)})
    wire = json.loads(json.dumps(error.to_wire()))
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), KernelError.from_wire(wire)):  # noqa: S301
        assert (kind, "what happened", error.fields) == (type(other), str(other), other.fields)


def test_builtins_catch_them() -> None:
    """Who knows only Python catches what fits."""
    pairs = [
        (errors.InvalidArgument, ValueError), (errors.ConfigError, ValueError), (errors.NotFound, LookupError),
        (errors.PermissionDenied, PermissionError), (errors.WouldBlock, BlockingIOError),
        (errors.DeadlineExceeded, TimeoutError), (errors.PortBroken, ConnectionError),
        (errors.OutOfMemory, MemoryError),
    ]  # fmt: skip
    for kind, builtin in pairs:
        with pytest.raises(builtin):
            raise kind("no")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({}, KernelError),
        ({"error": "Unheard", "message": 7, "fields": 8}, KernelError),
        ({"error": "KeyboardInterrupt"}, KernelError),
        ({"error": "Cancelled", "fields": {"task": 3}}, errors.Cancelled),
    ],
)
def test_wire_of_strangers(data: dict[str, object], kind: type[KernelError]) -> None:
    """Whatever a wire brings becomes an error of the tree, never another class."""
    error = KernelError.from_wire(data)

    assert kind is type(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.integers()),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values)
def test_fields_are_plain(value: object) -> None:
    """Any value, NaN and bytes included, becomes something that JSON carries strictly and unchanged."""
    fields = KernelError("x", value=value).fields

    assert fields == json.loads(json.dumps(fields, allow_nan=False))


@pytest.mark.parametrize("value", [pytest.param(10**10_000, id="integer"), pytest.param([10**10_000], id="inside")])
def test_what_cannot_be_printed(value: object) -> None:
    """An integer whose digits Python refuses to print breaks neither messages nor fields."""
    fields = KernelError(f"not {shown(value)}", value=value).fields

    assert "that cannot be shown" in shown(value)
    assert fields == json.loads(json.dumps(fields))


def test_what_contains_itself() -> None:
    """A list within itself, and one nested deeply, become finite fields."""
    inside: list[object] = []
    inside.append(inside)
    fields = KernelError("x", inside=inside).fields

    assert "[[[[[[[['[[...]]']]]]]]]]" == str(fields["inside"])


def test_integers_of_other_readers() -> None:
    """An integer that is no 64-bit number travels as text."""
    fields = KernelError("x", small=2**63, large=2**65).fields

    assert {"small": 2**63, "large": str(2**65)} == fields


def test_shown_is_short() -> None:
    """A value in a message is cut."""
    text = shown("x" * 1000)

    assert 80 == len(text)


def test_fields_may_have_any_name() -> None:
    """A field called like an argument of the constructor is a field."""
    error = InvalidArgument("x", self=1, message=2, fields=3)

    assert {"self": 1, "message": 2, "fields": 3} == error.fields
