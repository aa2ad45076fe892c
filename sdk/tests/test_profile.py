"""``llmos profile``: the terms are found that the steps were made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from llmos import StepProfile
from llmos.cli._fit import TERMS, Step, fit
from llmos.cli._profile import QUICK, Effort, measure, steps
from llmos.testing import EchoFaults, FirstCome, FirstComePlugin
from llmos_kernel import KernelConfig
from llmos_kernel.api import Task
from llmos_kernel.contracts import Admitted, Limits, NotNow, Plan, Preemption, Prepared, Result, Scheduler, StepExecutor
from llmos_kernel.errors import ExecutorCrashed, ModelUnavailable
from llmos_kernel.hookspecs import hookimpl
from sdk.tests.cli import CommandLine
from sdk.tests.token_echo import TokenBackend, TokenExecutor

TRUE = StepProfile(
    fixed=6e-3, per_row=1e-3, prompt_fixed=1e-3, per_pass=5e-3, per_prompt_token=8e-4, per_context_token=4e-6,
    per_prompt_context=5e-7,
)  # fmt: skip


@pytest.fixture
def llmos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line of somebody who has a model that is driven with tokens."""
    return CommandLine(TokenBackend(), monkeypatch, capsys)


@attrs.define
class Modelled(StepExecutor):
    """Takes as long for a step as `TRUE` says, on a clock of its own, and generates until a task has enough."""

    places: int = 8
    context: int = 2048
    cached: int = 0
    """Tokens of each prompt that are in the cache already."""
    now: float = 0.0
    left: dict[int, int] = attrs.field(factory=dict)
    """Tokens that are still to be generated, by task."""
    past: dict[int, int] = attrs.field(factory=dict)
    """Tokens in the cache, by task."""
    preempted: list[str] = attrs.field(factory=list)

    @property
    def limits(self) -> Limits:
        """What it can take."""
        return Limits(self.places, self.places - len(self.past), tokens=256, context=self.context)

    def prepare(self, id: int, task: Task, tenant: str) -> Prepared:
        """Take every task."""
        self.left[id] = task.params["max_tokens"]
        return Prepared(len(task.input), task.params["max_tokens"])

    def admit(self, id: int) -> Admitted | NotNow:
        """Cache as much as it should."""
        return Admitted(self.past.setdefault(id, self.cached))

    def preempt(self, id: int, how: Preemption) -> None:
        """Drop what was computed, where it is told to."""
        self.preempted.append(how)
        if how == "drop":
            del self.past[id]

    def step(self, plan: Plan) -> Iterable[Result]:
        """Let time pass."""
        rows = [*plan.prefill, *plan.decode]
        pairs = sum(n * self.past[id] + n * (n - 1) // 2 for id, n in plan.prefill)
        context = sum(self.past[id] for id, _ in rows)
        tokens = sum(n for _, n in plan.prefill)
        self.now += TRUE.seconds(len(rows), tokens, context, pairs, prompts=len(plan.prefill))
        for id, tokens in rows:
            self.past[id] += tokens
        yield from (Result(id) for id, _ in plan.prefill)
        for id, _ in plan.decode:
            self.left[id] -= 1
            yield Result(id, tokens=(1,), finish="" if self.left[id] else "length")

    def release(self, ids: Iterable[int]) -> None:
        """Forget them."""
        for id in ids:
            self.past.pop(id, None)
            self.left.pop(id, None)


def profiled(executor: Modelled, effort: Effort, *plugins: object) -> StepProfile:
    """Return what is measured of *executor*."""
    served = plugins or (FirstComePlugin(),)
    return measure(executor, effort, range(10), KernelConfig(), served, clock=lambda: executor.now)


@pytest.mark.parametrize("effort", [Effort(), QUICK], ids=["full", "quick"])
def test_the_terms_are_found(effort: Effort) -> None:
    """From times that are such sums, every term comes back, with the executor's limits; no task is left behind."""
    executor = Modelled()
    found = profiled(executor, effort)

    assert [getattr(TRUE, term) for term in TERMS] == pytest.approx([getattr(found, term) for term in TERMS], rel=1e-3)
    assert 1.0 == pytest.approx(found.r2)
    assert found.worst < 1e-3
    assert (8, 8, 256, 2048) == (found.places, found.rows, found.tokens, found.context)
    assert {} == executor.past == executor.left


def test_no_term_is_negative() -> None:
    """Times that fall with the number of rows are explained by what every step takes."""
    found = fit([Step(rows=rows, seconds=1.0 - 0.01 * rows) for rows in range(1, 9)])

    assert 0.0 == found.per_row
    assert 0.95 == pytest.approx(found.fixed, abs=0.01)
    assert found.r2 < 0.1 < 1 - found.r2
    assert 0.92 / 0.99 - 1 < 0 < found.worst < 0.1


def test_a_noisy_step_takes_its_mean() -> None:
    """Steps that take now this and now that long are said to take their mean, not less."""
    found = fit([Step(rows=rows, seconds=0.1 * rows * noise) for rows in (1, 2, 4, 8) for noise in (0.5, 0.8, 1.7)])

    assert 0.1 == pytest.approx(found.per_row)


def test_one_kind_of_step_says_what_it_can() -> None:
    """Terms that the steps do not tell apart are left at 0, and the sum is right where it was measured."""
    found = fit([Step(rows=4, seconds=0.5)] * 3)

    assert 0.5 == pytest.approx(found.seconds(4, 0))


def test_a_model_without_room_is_refused() -> None:
    """Neither one whose sequences are too short to be measured, nor one whose places are taken."""
    with pytest.raises(ModelUnavailable, match="places of 48 tokens"):
        profiled(Modelled(context=48), Effort())
    with pytest.raises(ModelUnavailable, match="0 free places"):
        profiled(Modelled(places=0), Effort())


class Plodding(FirstCome):
    """A plugin object too.  Takes a second for a plan, and a tenth for each row in it; only steps take time besides."""

    name = "fifo"
    api = 1

    def __init__(self, executor: Modelled) -> None:
        super().__init__()
        self._executor = executor

    def plan(self, now: float, limits: Limits) -> Plan:
        """Let time pass."""
        plan = super().plan(now, limits)
        self._executor.now += 1.0 + 0.1 * len(plan.decode)
        return plan

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> Scheduler:
        """Return itself: it serves one model."""
        return self


def test_what_passes_between_steps_counts() -> None:
    """What every step takes, and each row, while a kernel plans it and hands out what it made."""
    executor = Modelled()
    found = steps(executor, QUICK, range(10), KernelConfig(), [Plodding(executor)], clock=lambda: executor.now)
    served = [step for step in found if not step.prompt]
    after = [step.seconds - step.said(TRUE) for step in served]

    assert [1.0 + 0.1 * step.rows for step in served] == pytest.approx(after)
    assert min(step.rows for step in served) < max(step.rows for step in served)


def test_what_was_cached_is_no_part_of_a_step() -> None:
    """Prompt tokens that a prefix spared are in the cache of the rows, and computed by none of the steps."""
    found = steps(executor := Modelled(cached=5), QUICK, range(10), KernelConfig(), [FirstComePlugin()],
                  clock=lambda: executor.now)  # fmt: skip

    assert all(step.seconds == pytest.approx(step.said(TRUE)) for step in found)
    assert all(step.context >= 5 * step.rows for step in found)


class Fickle(FirstCome):
    """A plugin object too.  Preempts the first task of each tenth plan that decodes, and brings it back."""

    name = "fifo"
    api = 1

    def __init__(self) -> None:
        super().__init__()
        self._turns = 0

    def plan(self, now: float, limits: Limits) -> Plan:
        """Plan as ever, but for one task."""
        plan = super().plan(now, limits)
        self._turns += bool(plan.decode)
        if not plan.decode or self._turns % 10:
            return plan
        (id, _), *others = plan.decode
        how: Preemption = "keep" if self._turns % 20 else "drop"
        return attrs.evolve(plan, decode=tuple(others), preempt=((id, how),))

    @hookimpl
    def llmos_scheduler(self, config: Mapping[str, Any]) -> Scheduler:
        """Return itself: it serves one model."""
        return self


def test_preempted_tasks_are_followed() -> None:
    """What a task has in the cache is known when it comes back, with its place or without."""
    found = steps(executor := Modelled(), QUICK, range(10), KernelConfig(), [Fickle()], clock=lambda: executor.now)

    assert {"keep", "drop"} == set(executor.preempted)
    assert all(step.seconds == pytest.approx(step.said(TRUE)) for step in found)


def test_a_model_that_fails_while_it_is_served() -> None:
    """Its error is the command's."""
    executor = TokenExecutor(faults=EchoFaults(step=ExecutorCrashed("gone")))
    with pytest.raises(ExecutorCrashed, match="gone"):
        steps(executor, QUICK, range(10), KernelConfig(), [FirstComePlugin()])


def test_the_command_writes_a_profile(llmos: CommandLine, tmp_path: Path) -> None:
    """What it prints as JSON is what other commands read from the file."""
    path = tmp_path / "echo.json"
    done = llmos("profile", "--quick", "--json", "--out", str(path))
    printed: dict[str, Any] = json.loads(done.out)
    written = StepProfile.read(path)

    assert 0 == done.code
    assert "echo" == printed["model"] == written.model
    assert 16 == printed["places"] == written.places
    assert written.steps == printed["steps"] > 10
    assert written.machine["cores"] >= 1


def test_the_command_tells_a_person(llmos: CommandLine) -> None:
    """Each term in words, and how good the fit is."""
    done = llmos("profile", "parrot", "--quick")

    assert 0 == done.code
    assert "each prompt token" in done.out
    assert "of the variance" in done.out


def test_unknown_models_are_refused_with_the_nearest(llmos: CommandLine) -> None:
    """As every command does."""
    done = llmos("profile", "ecko", "--quick")

    assert 1 == done.code
    assert "echo" in done.err
