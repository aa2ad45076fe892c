"""Requests and tasks are checked when they are made; the contracts' defaults do what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_kernel import contracts, hookspecs
from llmos_kernel.api import MAX_COUNT, Auto, Context, Credentials, Memory, Model, Port, Right, Task, check_number
from llmos_kernel.contracts import API, ModelSpec
from llmos_kernel.services import Processor
from llmos_kernel.errors import InvalidArgument

BAD_COUNTS = [
    0,
    -1,
    MAX_COUNT + 1,
    pytest.param(10**10_000, id="huge"),
    1.5,
    math.nan,
    math.inf,
    -math.inf,
    True,
    "seven",
    None,
    b"bytes",
    [7],
]


@pytest.mark.parametrize("value", BAD_COUNTS)
@pytest.mark.parametrize(
    ("field", "make"),
    [("nbytes", Memory), ("capacity", Port), ("tokens", lambda value: Context("m", value))],
)
def test_counts_are_ranged(field: str, make: Callable[[Any], object], value: object) -> None:
    """A count that is no whole number in range is refused, naming the field, in a message of bounded length."""
    with pytest.raises(InvalidArgument) as caught:
        make(value)

    assert field == caught.value.fields["field"]
    assert len(str(caught.value)) < 250


@settings(deadline=None)
@given(st.floats(allow_nan=True) | st.integers())
def test_check_number_is_a_range(value: float) -> None:
    """Exactly the finite numbers in the range pass, whatever number comes."""
    accepted = math.isfinite(value) and -3 <= value <= 7
    try:
        check_number("x", value, -3, 7, whole=False)
    except InvalidArgument:
        assert not accepted
    else:
        assert accepted


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", ""),
        ("kind", None),
        ("params", 7),
        ("params", "a=1"),
        ("pre", "normalize"),
        ("post", [1]),
        ("priority", 1001),
        ("priority", 0.5),
        ("deadline", -1),
        ("deadline", math.nan),
        ("capacity", 0),
        ("trace", None),
        ("trace", {"traceparent": ""}),
    ],
)
def test_bad_task(field: str, value: object) -> None:
    """A task names the field that is wrong."""
    values: dict[str, Any] = {"kind": "generate", field: value}
    with pytest.raises(InvalidArgument) as caught:
        Task(**values)

    assert field == caught.value.fields["field"]


def test_task_takes_lists() -> None:
    """Lists of processors are frozen, in order; no deadline is none."""
    task = Task("generate", pre=["a", "b"], deadline=0.5)

    assert (("a", "b"), 0.5, None) == (task.pre, task.deadline, Task("call").deadline)


def test_names_are_checked() -> None:
    """Empty names, and one string where a list belongs, are refused."""
    languages: Any = "en"
    for make in (lambda: Model(""), lambda: Credentials(tenant=""), lambda: Auto(languages=languages)):
        with pytest.raises(InvalidArgument):
            make()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("path", 7),
        ("aliases", "abc"),
        ("kinds", [7]),
        ("options", []),
        ("context", -1),
        ("license", None),
    ],
)
def test_bad_model_specification(field: str, value: object) -> None:
    """A model's specification is checked whole, since it may come from a file."""
    values: dict[str, Any] = {"name": "m", "backend": "echo", field: value}
    with pytest.raises(InvalidArgument) as caught:
        ModelSpec(**values)

    assert field == caught.value.fields["field"]


def test_rights_are_distinct_bits() -> None:
    """No right implies another."""
    bits = [right.value for right in Right]

    assert sum(bits) == (1 << len(bits)) - 1


def test_each_kind_has_a_hook_and_a_version() -> None:
    """The table of kinds, the hooks and the versions speak of the same kinds."""
    specified = {name for name in vars(hookspecs) if name.startswith("llmos_")}

    assert list(API) == list(hookspecs.HOOKS)
    assert specified == {*hookspecs.HOOKS.values(), "llmos_metrics"}  # an observer may have this one as well


def test_hooks_are_only_specifications() -> None:
    """Calling a specification itself does nothing."""
    for kind, hook in hookspecs.HOOKS.items():
        arguments = () if kind in {"command", "model"} else (None,)
        assert None is getattr(hookspecs, hook)(*arguments)


class Shout(Processor):
    """A processor that needs no filter of its own."""

    def process(self, value: Any, params: Mapping[str, Any]) -> Any:
        """Return it louder."""
        return str(value).upper() + str(params.get("mark", ""))


def test_processor_waits_for_the_whole_text() -> None:
    """Without a filter of its own a processor sees the output once, whole, at the end."""
    text = Shout().filter({"mark": "!"})

    assert ("", "", "ABC!") == (text.feed("a"), text.feed("bc"), text.end())


def concrete(kind: type) -> Any:
    """Return an instance of an abstract class whose abstract methods do nothing."""
    return type("Concrete", (kind,), dict.fromkeys(kind.__abstractmethods__, lambda *_: None))()  # type: ignore[attr-defined]


def test_what_a_plugin_need_not_write() -> None:
    """Optional methods are harmless by default: no facts, nothing to close, a short step, everything kept."""
    executor = concrete(contracts.StepExecutor)

    assert ({}, {}) == (executor.describe(), concrete(contracts.Backend).doctor())
    assert (None, None, None) == (executor.close(), executor.preempt(1, "keep"), executor.interrupt())
    with pytest.raises(InvalidArgument, match="this model keeps no contexts"):
        executor.open_context(1, 100)
