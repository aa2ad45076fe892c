"""Arrivals and outcomes refuse what cannot be, and say which field is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from llmos_kernel.errors import InvalidArgument
from llmos_simulator import Arrival, Outcome

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("at", value) for value in (NAN, INFINITE, -1.0, "soon", None, True)],
        *[("prompt", value) for value in (0, -1, 1.5, NAN, None)],
        *[("output", value) for value in (0, -1, 1.5, NAN, None)],
        *[("max_tokens", value) for value in (0, 4, 5.5, NAN)],
        *[("deadline", value) for value in (NAN, INFINITE, -1.0, "soon")],
        *[("service", value) for value in (NAN, INFINITE, -1.0, "long")],
        *[("priority", value) for value in (1001, 0.5, NAN)],
        *[("tenant", value) for value in ("", None, 3)],
        *[("kind", value) for value in ("", None, 3)],
        ("model", None),
    ],
)
def test_an_impossible_arrival_is_refused(field: str, value: Any) -> None:
    """The error names the field, the value and what would be right."""
    with pytest.raises(InvalidArgument) as caught:
        Arrival(**{"at": 0.0, "output": 5, **({} if field == "output" else {"max_tokens": 5}), field: value})

    assert (field, True) == (caught.value.fields["field"], bool(caught.value.fields["expected"]))
    assert repr(value) in str(caught.value)


def test_an_arrival_needs_only_its_time() -> None:
    """The rest has defaults: one tenant, one token of prompt and one of output."""
    arrival = Arrival(2.5)

    assert ("tenant", "generate", 1, 1) == (arrival.tenant, arrival.kind, arrival.prompt, arrival.output)
    assert arrival.max_tokens is arrival.deadline is arrival.service is None


@pytest.mark.parametrize(
    ("field", "times"),
    [
        ("admitted", {"admitted": 0.5, "ended": 3.0}),
        ("first", {"admitted": 2.0, "first": 1.5, "ended": 3.0}),
        ("ended", {"admitted": 2.0, "first": 2.5, "ended": 2.25}),
        ("ended", {"ended": NAN}),
        ("ended", {"ended": INFINITE}),
        ("first", {"first": NAN, "ended": 3.0}),
    ],
)
def test_an_outcome_out_of_order_is_refused(field: str, times: dict[str, Any]) -> None:
    """Nothing happens before what leads to it."""
    with pytest.raises(InvalidArgument) as caught:
        Outcome(Arrival(1.0), **times)

    assert field == caught.value.fields["field"]


def test_an_outcome_of_a_refused_task_has_no_times() -> None:
    """What never came is None."""
    outcome = Outcome(Arrival(1.0), ended=1.0, error="Overloaded")

    assert outcome.id is outcome.admitted is outcome.first is None


def test_an_outcome_belongs_to_an_arrival() -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidArgument, match="arrival"):
        Outcome("arrival", ended=1.0)  # type: ignore[arg-type]
