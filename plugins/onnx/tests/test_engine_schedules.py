"""Whatever a schedule does, each request gets the tokens that it gets alone.

A schedule is drawn from a seed: requests with shared beginnings, of several tenants, single ones and turns of
conversations, arrive, are computed in chunks of any length, rest, are preempted each way, are cut short, or leave.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from llmos_kernel.api import Task
from llmos_onnx.executor import OnnxExecutor
from llmos_onnx.speculation import Speculation, Trust, look_up
from plugins.onnx.tests.driver import Driver, load

MODELS = ("nano-fp32", "nano-w8a8", "nano-qwen3-fp32", "nano-qwen3-w8a8")
SLOTS, CONTEXT, TURNS = 4, 256, 3
SAMPLED = {"temperature": 1.1, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2}


@attrs.frozen
class Request:
    """One task, and what it gives alone."""

    prompt: tuple[int, ...]
    tenant: str
    params: dict[str, Any]
    expected: tuple[int, ...]
    conversation: int | None = None


class Bench:
    """Two executors of one model: one runs schedules, the other each request alone and nothing before it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.executor = load(folder, slots=SLOTS, context=CONTEXT, threads=1, **options)
        self._lonely = load(folder, slots=1, context=CONTEXT, threads=1)
        self.burst = 10 if options.get("speculate") else 1
        """Tokens that a plan lets a task produce alone."""
        self._strangers = 0
        chance = random.Random(1)
        self._stems = [[chance.randrange(4, 512) for _ in range(120)] for _ in range(2)]

    def request(self, chance: random.Random, *, before: Request | None = None) -> Request:
        """Return a new request; one that has a *before* is the next turn of its conversation."""
        tail = [chance.randrange(4, 512) for _ in range(chance.choice((1, 2, 5, 20)))]
        if before is None:
            stem = chance.choice(self._stems)
            prompt = [*stem[: chance.choice((0, 1, 31, 32, 33, 70, 96, 119))], *tail]
        else:
            prompt = [*before.prompt, *before.expected, *tail]
        params: dict[str, Any] = {
            "max_tokens": chance.choice((1, 4, 10)),
            "ignore_eos": True,
            "seed": chance.randrange(1000),
        }
        params |= SAMPLED if chance.random() < 0.5 else {}
        tenant = chance.choice("ab") if before is None else before.tenant
        return Request(tuple(prompt), tenant, params, self.alone(prompt, params))

    def alone(self, prompt: list[int], params: dict[str, Any]) -> tuple[int, ...]:
        """Return what *prompt* gives where nobody ran before: to a tenant of its own nothing is cached."""
        self._strangers += 1
        driver = Driver(self._lonely)
        row = driver.add(1, prompt, tenant=f"stranger {self._strangers}", **params)
        driver.finish()
        assert 0 == row.cached
        return tuple(row.tokens)


class Schedule:
    """One random schedule."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench, self._chance = bench, random.Random(seed)
        self._driver = Driver(bench.executor, burst=bench.burst)
        self._waiting = self._requests()
        self._asked: dict[int, Request] = {}
        self._contexts: dict[int, int] = {}
        self._next = 1
        self.cached = self.ended = 0

    def _requests(self) -> list[Request]:
        """Return single requests and conversations of a few turns, in order of arrival."""
        chance, requests = self._chance, [self._bench.request(self._chance) for _ in range(5)]
        for conversation in range(2):
            turn = self._bench.request(chance)
            for number in range(TURNS):
                turn = turn if not number else self._bench.request(chance, before=turn)
                requests.append(attrs.evolve(turn, conversation=conversation))
        return requests

    def run(self) -> None:
        """Let everything happen until nobody is left; each request that was not cancelled got its own tokens."""
        while self._waiting or self._asked:
            self._arrive()
            self._disturb()
            running = [id for id in self._asked if not self._driver.rows[id].paused]
            resting = [id for id in running if self._chance.random() < 0.2]
            if len(resting) < len(running):
                self._driver.step(skip=resting, chunk=lambda: self._chance.choice((1, 2, 3, 31, 32, 40, 200)))
            self._collect()
        self._bench.executor.release(self._contexts.values())
        self._bench.executor.check_integrity()

        assert SLOTS == self._bench.executor.limits.free

    def _id(self) -> int:
        self._next += 1
        return self._next

    def _arrive(self) -> None:
        while self._waiting and self._bench.executor.limits.free and self._chance.random() < 0.5:
            place = self._chance.randrange(len(self._waiting))
            request, context = self._waiting.pop(place), None
            if request.conversation is not None:
                if request.conversation not in self._contexts:
                    self._contexts[request.conversation] = self._id()
                    self._bench.executor.open_context(self._contexts[request.conversation], CONTEXT)
                context = self._contexts[request.conversation]
            id = self._id()
            row = self._driver.add(id, list(request.prompt), tenant=request.tenant, context=context, **request.params)
            self.cached += row.cached
            self._asked[id] = request

    def _disturb(self) -> None:
        """Preempt, resume, cancel, close a conversation's context, or cut the next step short."""
        chance, driver, executor = self._chance, self._driver, self._bench.executor
        for id, row in list(driver.rows.items()):
            if row.paused:
                if (executor.limits.free or executor._sequences[id].slot is not None) and chance.random() < 0.5:
                    driver.resume(id)
            elif chance.random() < 0.1:
                driver.pause(id, chance.choice(("keep", "swap", "drop")))
            elif chance.random() < 0.03:
                driver.leave(id)
                del self._asked[id]
        if self._contexts and chance.random() < 0.03:
            executor.release([self._contexts.pop(chance.choice(list(self._contexts)))])
        if chance.random() < 0.1:
            executor.interrupt()

    def _collect(self) -> None:
        for id, request in list(self._asked.items()):
            row = self._driver.rows[id]
            if row.ended:
                del self._asked[id], self._driver.rows[id]
                self.ended += 1

                assert list(request.expected) == row.tokens


@pytest.fixture(scope="module")
def bench(model_folder: Callable[[str, str], Path]) -> Callable[[str], Bench]:
    """Return the bench of a model, made once."""
    return cache(lambda name: Bench(model_folder(*name.rsplit("-", 1))))


def run_schedules(bench: Bench, seeds: range) -> None:
    """Run one schedule per seed; together they must have used the prefix cache."""
    schedules = [Schedule(bench, seed) for seed in seeds]
    for schedule in schedules:
        schedule.run()

    assert sum(schedule.cached for schedule in schedules) > 100 * len(seeds)
    assert sum(schedule.ended for schedule in schedules) > 5 * len(seeds)


@pytest.mark.parametrize("model", MODELS)
def test_random_schedules(bench: Callable[[str], Bench], model: str) -> None:
    """In a few random schedules each request gets the tokens that it gets alone."""
    run_schedules(bench(model), range(5))


@attrs.define
class Eager(Speculation):
    """Guesses wherever it can, and never asks whether it pays."""

    turn: int = 0

    def guess(self, trust: Trust, tokens: Any, most: int) -> Any:
        """Return what was said before, or the last tokens again; every third guess ends with a token of no reason."""
        self.turn += 1
        found = look_up(tokens, min(most, self.most))
        found = found if len(found) else tokens[-min(most, self.most) :][: max(most, 0)]
        return found if self.turn % 3 else np.append(found[:-1], 7)[: len(found)]


def run_with_guesses(folder: Path, seeds: range) -> None:
    """Run schedules in which whoever is alone has tokens guessed, right and wrong."""
    bench = Bench(folder, speculate=6)
    bench.executor._parts = attrs.evolve(bench.executor._parts, speculation=Eager(6))
    run_schedules(bench, seeds)
    counts = bench.executor.describe()["steps"]

    assert counts["guessed"] > 3 * len(seeds)


def test_random_schedules_with_guesses(model_folder: Callable[..., Path]) -> None:
    """Guesses between preemptions, interruptions, neighbours and turns of conversations change nobody's tokens."""
    run_with_guesses(model_folder("nano", "fp32"), range(10))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["nano", "nano-qwen3"])
def test_many_random_schedules_with_guesses(model_folder: Callable[..., Path], name: str) -> None:
    """The same in two hundred schedules."""
    run_with_guesses(model_folder(name, "fp32"), range(2000, 2200))


@pytest.mark.nightly
@pytest.mark.parametrize("model", MODELS)
def test_many_random_schedules(bench: Callable[[str], Bench], model: str) -> None:
    """In two hundred random schedules each request gets the tokens that it gets alone."""
    run_schedules(bench(model), range(1000, 1200))


def churn(executor: OnnxExecutor, chance: random.Random, count: int) -> None:
    """Let *count* requests join and leave at random; slots and caches are checked after each step."""
    driver, joined = Driver(executor), 0
    while joined < count or driver.rows:
        while joined < count and executor.limits.free and chance.random() < 0.6:
            joined += 1
            prompt = [chance.randrange(4, 8)] * chance.choice((1, 33, 70)) + [chance.randrange(4, 512)]
            driver.add(joined, prompt, tenant=chance.choice("ab"), max_tokens=chance.randint(1, 6), ignore_eos=True)
        for id in list(driver.rows):
            if driver.rows[id].ended:
                del driver.rows[id]
            elif chance.random() < 0.1:
                driver.leave(id)
        if driver.rows:
            driver.step(chunk=lambda: chance.choice((32, 200)))

    assert SLOTS == executor.limits.free


def test_requests_come_and_go(bench: Callable[[str], Bench]) -> None:
    """Five hundred requests join and leave at random: no slot is lost, and memory does not grow."""
    executor, chance = bench("nano-fp32").executor, random.Random(4)
    churn(executor, chance, 250)
    tracemalloc.start()
    try:
        churn(executor, chance, 25)
        before = tracemalloc.get_traced_memory()[0]
        churn(executor, chance, 225)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert after - before < 100_000
    assert len(executor._sequences) == 0


def test_prepared_tasks_that_never_run_are_forgotten(bench: Callable[[str], Bench]) -> None:
    """A task that ends before it was admitted leaves nothing behind."""
    executor = bench("nano-fp32").executor
    for id in range(50):
        executor.prepare(id, Task("generate", None, [5] * 40))
    executor.release(range(50))
    executor.check_integrity()

    assert {} == executor._sequences
