"""Requests that join and leave at random, through the kernel: nobody is lost, and nothing is left behind."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from plugins.onnx.tests.crowd import Alone, Crowd, Wish

STEMS = tuple(tuple(random.Random(seed).randrange(4, 512) for _ in range(90)) for seed in range(2))
SEATS = st.integers(0, 1)
PICKS = st.integers(0, 59)
WISHES = st.builds(
    lambda stem, kept, tail, most, seed: Wish((*STEMS[stem][:kept], *tail), most, seed),
    st.integers(0, 1),
    st.sampled_from((0, 1, 31, 32, 33, 64, 90)),
    st.lists(st.integers(4, 511), min_size=1, max_size=4).map(tuple),
    st.sampled_from((1, 3, 8, 20)),
    st.one_of(st.none(), st.integers(0, 99)),
)


@pytest.fixture(scope="module")
def folder(model_folder: Callable[..., Path]) -> Path:
    """The model."""
    return model_folder("nano", "fp32")


@pytest.fixture(scope="module")
def small_folder(model_folder: Callable[..., Path]) -> Path:
    """The model in 8 bits, cache included."""
    return model_folder("nano", "w8a8", kv="int8")


@pytest.fixture(scope="module")
def alone(folder: Path) -> Alone:
    """What each request gives alone."""
    return Alone(folder)


T = TypeVar("T")


def picked(some: list[T], pick: int) -> list[T]:
    """Return one of *some*, or nothing where there is none."""
    return [some[pick % len(some)]] if some else []


class CrowdMachine(RuleBasedStateMachine):
    """What clients do, in any order."""

    def __init__(self, folder: Path, alone: Alone, asked: list[int]) -> None:
        super().__init__()
        self._folder, self._alone, self._asked = folder, alone, asked
        self.crowd: Crowd

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """A kernel starts."""
        self.crowd = Crowd(self._folder, self._alone, seed)

    @rule(wishes=st.lists(st.tuples(WISHES, SEATS, st.booleans()), min_size=1, max_size=5))
    def ask(self, wishes: list[tuple[Wish, int, bool]]) -> None:
        """Tasks arrive together."""
        for wish, seat, stream in wishes:
            self.crowd.ask(wish, seat, stream=stream)

    @rule(wish=WISHES, seat=SEATS, deadline=st.sampled_from((0.0, 0.001, 0.005)), stream=st.booleans())
    def hurry(self, wish: Wish, seat: int, deadline: float, stream: bool) -> None:
        """A task arrives that has hardly any time."""
        self.crowd.ask(wish, seat, stream=stream, deadline=deadline)

    # What is drawn must not depend on how far the threads are: so any number picks one, if there is one.

    @rule(pick=PICKS, times=st.integers(1, 8))
    def read(self, pick: int, times: int) -> None:
        """Somebody reads a few events."""
        for asked in picked(self.crowd.asked, pick):
            for _ in range(times):
                if asked in self.crowd.asked:
                    self.crowd.read(asked)

    @rule(pick=PICKS, drop=st.booleans())
    def leave(self, pick: int, drop: bool) -> None:
        """Somebody cancels a task, or forgets it."""
        for asked in picked(self.crowd.asked, pick):
            self.crowd.leave(asked, drop=drop and not asked.tokens and asked.wish.most <= 3)

    @rule(seat=SEATS, tokens=st.sampled_from((40, 120, 160)))
    def open(self, seat: int, tokens: int) -> None:
        """A conversation begins."""
        self.crowd.open(seat, tokens)

    @rule(pick=PICKS, wish=WISHES, stream=st.booleans())
    def say(self, pick: int, wish: Wish, stream: bool) -> None:
        """A conversation goes on, maybe before its last turn has ended."""
        for talk in picked(self.crowd.talks, pick):
            self.crowd.say(talk, wish, stream=stream)

    @rule(pick=PICKS)
    def close(self, pick: int) -> None:
        """A conversation ends."""
        for talk in picked(self.crowd.talks, pick):
            self.crowd.close(talk)

    @rule(seat=SEATS, really=st.integers(0, 5))
    def walk_out(self, seat: int, really: int) -> None:
        """Once in a while a client goes away with all that it has."""
        if not really:
            self.crowd.walk_out(seat)

    @invariant()
    def agrees(self) -> None:
        """The books agree."""
        if hasattr(self, "crowd"):
            self.crowd.check()

    def teardown(self) -> None:
        """Everything comes to an end."""
        if hasattr(self, "crowd"):
            try:
                self.crowd.rest()
                self._asked.append(self.crowd.tally.asked)
            finally:
                self.crowd.stop()


def run_machine(folder: Path, alone: Alone, examples: int, steps: int) -> int:
    """Run *examples* of up to *steps* things that happen; return how many requests there were."""
    asked: list[int] = []
    how = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # threads run in it: an example need not fail again
    )  # fmt: skip

    def machine() -> CrowdMachine:
        return CrowdMachine(folder, alone, asked)

    run_state_machine_as_test(machine, settings=how)  # type: ignore[arg-type]  # any callable that makes one
    print(f"{sum(asked)} requests in {len(asked)} examples")
    return sum(asked)


def test_few_come_and_go(folder: Path, alone: Alone) -> None:
    """Whatever clients do, the books of kernel and engine agree, and each request gets the tokens it gets alone."""
    assert run_machine(folder, alone, 12, 30) > 0


@pytest.mark.nightly
def test_many_come_and_go(folder: Path, alone: Alone) -> None:
    """The same with more than five hundred requests."""
    assert run_machine(folder, alone, 60, 60) > 500


@pytest.mark.nightly
def test_many_come_and_go_in_8_bits(small_folder: Path) -> None:
    """Quantised products and a quantised cache keep the promise too."""
    assert run_machine(small_folder, Alone(small_folder), 60, 60) > 500


def resident() -> int:
    """Return the bytes of memory that this process holds; 0 where nobody can tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.fixture
def crowd(folder: Path, alone: Alone) -> Iterator[Crowd]:
    """A crowd at a kernel of its own."""
    made = Crowd(folder, alone, 7)
    yield made
    made.stop()


def churn(crowd: Crowd, chance: random.Random, count: int) -> None:
    """Let *count* requests come and go, and wait until all have ended."""
    wishes = [
        Wish((*STEMS[number % 2][: 30 + 20 * (number % 4)], 4 + number), 1 + number % 9, number) for number in range(24)
    ]
    until = crowd.tally.asked + count
    while crowd.tally.asked < until:
        draw = chance.random()
        if draw < 0.45 or not crowd.asked:
            deadline = 0.002 if chance.random() < 0.1 else None
            crowd.ask(chance.choice(wishes), chance.randrange(2), stream=chance.random() < 0.5, deadline=deadline)
        elif draw < 0.75:
            crowd.read(chance.choice(crowd.asked))
        elif draw < 0.85:
            crowd.leave(chance.choice(crowd.asked), drop=False)
        elif draw < 0.9:
            crowd.open(chance.randrange(2), 120)
        elif draw < 0.98 and crowd.talks:
            crowd.say(chance.choice(crowd.talks), chance.choice(wishes))
        elif draw < 0.99 and crowd.talks:
            crowd.close(chance.choice(crowd.talks))
        elif draw > 0.997:
            crowd.walk_out(chance.randrange(2))
        crowd.check()
    crowd.rest()


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.nightly)])
def test_memory_is_flat(crowd: Crowd, count: int) -> None:
    """After as many requests again, the process holds no more memory than a little."""
    chance = random.Random(11)
    churn(crowd, chance, count)
    before = resident()
    churn(crowd, chance, count)
    after = resident()

    print(
        f"resident: {before >> 10} KiB, then {after >> 10} KiB; {crowd.tally}; {crowd.executor.describe()['steps']}; "
        f"{crowd.scheduler.made[-1].preempted} preempted"
    )
    assert after - before < 8 << 20
    assert crowd.tally.done > crowd.tally.asked // 5
    assert crowd.tally.cached > 0
