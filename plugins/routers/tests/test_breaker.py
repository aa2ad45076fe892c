"""The circuit breaker is the state machine that its docstring draws."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmos_routers.breaker import Breaker

FAILURES, COOL_DOWN, LONGEST = 3, 4.0, 10.0


def opened() -> Breaker:
    """A breaker that opened at time 0."""
    breaker = Breaker(FAILURES, COOL_DOWN, LONGEST)
    for _ in range(FAILURES):
        breaker.failed(0.0)
    return breaker


def test_opens_after_failures_in_a_row() -> None:
    """One success in between begins the count anew."""
    breaker = Breaker(FAILURES, COOL_DOWN, LONGEST)
    breaker.failed(0.0)
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)
    breaker.failed(0.0)

    assert "closed" == breaker.state(0.0)
    breaker.failed(1.0)
    assert ("open", COOL_DOWN) == (breaker.state(1.0), breaker.wait(1.0))


def test_one_probe() -> None:
    """After the cool-down one task passes, and the next one waits for what becomes of it."""
    breaker = opened()

    assert ("half-open", 0.0) == (breaker.state(4.0), breaker.wait(4.0))
    breaker.passed(4.0)
    assert ("half-open", COOL_DOWN) == (breaker.state(4.0), breaker.wait(4.0))
    breaker.succeeded()
    assert ("closed", 0.0) == (breaker.state(4.0), breaker.wait(4.0))


def test_cool_down_doubles() -> None:
    """Each failed probe doubles the cool-down, up to the longest; a success begins anew."""
    breaker, now, waits = opened(), 0.0, []
    for _ in range(3):
        waits.append(breaker.wait(now))
        now += breaker.wait(now)
        breaker.passed(now)
        breaker.failed(now)

    assert [4.0, 8.0, 10.0] == waits
    breaker.passed(now + LONGEST)
    breaker.succeeded()
    breaker.failed(now, at_once=True)
    assert COOL_DOWN == breaker.wait(now)


def test_probe_that_says_nothing() -> None:
    """A probe that was cancelled makes room for the next at once; one that is lost, after another cool-down."""
    breaker = opened()
    breaker.passed(4.0)
    assert 3.0 == breaker.wait(5.0)
    breaker.said_nothing(5.0)
    assert 0.0 == breaker.wait(5.0)

    breaker.passed(5.0)
    assert 0.0 == breaker.wait(5.0 + COOL_DOWN)


def test_late_news_of_old_tasks() -> None:
    """What ends while it is open was begun before, and changes nothing."""
    breaker = opened()
    breaker.succeeded()
    breaker.failed(1.0)

    assert ("open", 3.0) == (breaker.state(1.0), breaker.wait(1.0))


class Machine(RuleBasedStateMachine):
    """Against a model that is a tuple: name of the state, failures in a row, until when, how long."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(FAILURES, COOL_DOWN, LONGEST)
        self.now = 0.0
        self.state, self.row, self.until, self.seconds = "closed", 0, 0.0, 0.0

    def trip(self, seconds: float) -> None:
        """Open for *seconds*, at most the longest."""
        self.seconds = min(seconds, LONGEST)
        self.state, self.until = "open", self.now + self.seconds

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0, 7.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def ask(self) -> None:
        """Somebody wants to pass, and does if nothing is in the way."""
        if self.breaker.wait(self.now) == 0.0:
            assert self.state == "closed" or self.now >= self.until
            self.breaker.passed(self.now)
            if self.state != "closed":
                self.state, self.until = "probing", self.now + self.seconds
        else:
            assert self.state != "closed"
            assert self.now < self.until

    @rule()
    def succeed(self) -> None:
        """A task ends well."""
        self.breaker.succeeded()
        if self.state != "open":
            self.state, self.row = "closed", 0

    @rule(at_once=st.booleans())
    def fail(self, *, at_once: bool) -> None:
        """A task fails."""
        self.breaker.failed(self.now, at_once=at_once)
        self.row += 1
        if self.state == "probing":
            self.trip(self.seconds * 2)
        elif self.state == "closed" and (at_once or self.row >= FAILURES):
            self.trip(COOL_DOWN)

    @rule()
    def cancel(self) -> None:
        """A task is cancelled."""
        self.breaker.said_nothing(self.now)
        if self.state == "probing":
            self.state, self.until = "open", self.now

    @invariant()
    def same(self) -> None:
        """Both say the same, and nobody waits longer than the longest cool-down."""
        shown = (
            "half-open" if self.state == "probing" or (self.state == "open" and self.now >= self.until) else self.state
        )
        assert shown == self.breaker.state(self.now)
        assert 0.0 <= self.breaker.wait(self.now) <= LONGEST


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
