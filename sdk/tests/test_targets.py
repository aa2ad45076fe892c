"""What is tried, in which order and for how long: without a kernel."""

from __future__ import annotations

import pytest

from llmos._requests import Request
from llmos._targets import AUTO, Target, Tries, affinity
from llmos_kernel.api import Auto, Task
from llmos_kernel.errors import (
    Cancelled, DeadlineExceeded, ExecutorCrashed, InvalidArgument, KernelError, KernelStopped, ModelUnavailable,
    Overloaded, PluginFailed,
)  # fmt: skip


def tries(*names: str, clock: list[float] | None = None, timeout: float | None = None, deadline: float | None = None,
          want: Auto | None = None) -> Tries:  # fmt: skip
    """The way of a request over models of these names; ``auto`` is *want*."""
    targets = tuple(Target(name, (want or Auto()) if name == AUTO else name) for name in names)
    request = Request(Task("generate", input="text", deadline=deadline), timeout).aimed(targets)
    return Tries(request, (lambda: clock[0]) if clock else lambda: 0.0)


CRASH = ExecutorCrashed("it crashed", model="big", cause="bug")


@pytest.mark.parametrize("error", [CRASH, PluginFailed("p"), Overloaded("o"), ModelUnavailable("m")], ids=repr)
def test_faults_of_others_are_tried_again(error: KernelError) -> None:
    """What the machine or a plugin is to blame for, another model may do."""
    way = tries("big", "small")

    assert way.again(error)
    assert ("small", "small") == (way.name, way.request.task.target)
    assert not way.again(error)


@pytest.mark.parametrize(
    "error", [InvalidArgument("i"), Cancelled("c"), DeadlineExceeded("d"), KernelStopped("k")], ids=repr
)
def test_faults_of_the_caller_are_not(error: KernelError) -> None:
    """A wrong question stays wrong, and where the kernel has stopped nobody answers."""
    assert not tries("big", "small").again(error)


def test_never_twice() -> None:
    """A model that failed is not tried again, whatever stands in the list."""
    way = tries("big", "small", "big", "tiny")

    assert ["small", "tiny"] == [way.name for _ in range(5) if way.again(CRASH)]


def test_router_avoids_what_failed() -> None:
    """A router as a fallback is told what was tried, and keeps what it was told before."""
    way = tries("big", "small", AUTO, want=Auto(languages=("en",), avoid=("slow",)))
    way.again(CRASH)
    way.again(CRASH)
    want = way.request.task.target

    assert (("en",), ("slow", "big", "small")) == (want.languages, want.avoid)


def test_model_that_a_router_chose() -> None:
    """It is known from the kernel or from the error; where it is not, nothing more is tried: it might be the same."""
    told, said, unknown = tries(AUTO, "small"), tries(AUTO, "small"), tries(AUTO, "small")
    told.name = "small"

    assert not told.again(PluginFailed("p"))
    assert said.again(CRASH)
    assert not unknown.again(PluginFailed("p"))


def test_time_covers_all_tries() -> None:
    """Each try has what the ones before have left of the deadline and of the timeout."""
    clock = [100.0]
    way = tries("a", "b", "c", clock=clock, timeout=10.0, deadline=8.0)
    clock[0] += 5.0

    assert way.again(CRASH)
    assert (5.0, 3.0) == (way.request.timeout, way.request.task.deadline)
    clock[0] += 3.0
    assert not way.again(CRASH)


def test_last_error_tells_the_chain() -> None:
    """It is the last one's own error, with what failed before it, for people and for programs."""
    way, end = tries("big", "small"), PluginFailed("no luck", plugin="backend:x")
    way.again(CRASH)
    way.again(end)
    error = way.last(end)

    assert PluginFailed is type(error)
    assert "no luck ('big' failed before it: it crashed)" == str(error)
    tried = error.fields["tried"]
    assert isinstance(tried, list)
    assert [("big", "ExecutorCrashed"), ("small", "PluginFailed")] == [(one["model"], one["error"]) for one in tried]
    assert error.__cause__ is CRASH


def test_same_error_twice() -> None:
    """A backend may raise one object again and again: each time counts."""
    way = tries("big", "small")
    way.again(CRASH)
    way.again(CRASH)

    assert "it crashed ('big' failed before it: it crashed)" == str(way.last(CRASH))


def test_only_error_is_left_as_it_is() -> None:
    """Where nothing else was tried there is nothing to tell."""
    way = tries("big")
    way.again(CRASH)

    assert way.last(CRASH) is CRASH


def test_affinity_is_that_of_the_beginning() -> None:
    """Texts that begin alike have the same word; a word says nothing of the text, and no text has none."""
    long = "a" * 512

    assert affinity(long + "b") == affinity(long + "c")
    assert affinity("one") != affinity("two")
    assert 16 == len(affinity("secret"))
    assert "" == affinity("") == affinity([]) == affinity([1, 2]) == affinity(None)


def test_turns_of_a_conversation_share_a_word() -> None:
    """What is said later does not change it; what the model was told first does."""
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    later = [*first, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Why?"}]

    assert affinity(first) == affinity(later)
    assert affinity(first) != affinity(first[1:])
