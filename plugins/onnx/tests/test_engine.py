"""The executor's promise: the same tokens alone, batched, chunked, preempted and resumed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos_kernel.api import Task
from llmos_kernel.contracts import NotNow, Plan, Preemption
from llmos_kernel.errors import KernelBug
from llmos_onnx.executor import OnnxExecutor
from llmos_onnx.prefix import Prompt
from llmos_onnx.session import Runner
from plugins.onnx.tests.driver import Driver, load

TOKENS = 64
HOW: tuple[Preemption, ...] = ("keep", "swap", "drop")
SAMPLED = {"temperature": 1.1, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2, "frequency_penalty": 0.3}


def prompts(count: int, *, low: int = 3, high: int = 40) -> list[list[int]]:
    """Return prompts of different lengths; always the same ones."""
    chance = random.Random(7)
    return [[chance.randrange(4, 512) for _ in range(chance.randint(low, high))] for _ in range(count)]


@pytest.fixture(scope="module", params=["nano-fp32", "nano-qwen3-fp32", "nano-w8a8"])
def executor(request: pytest.FixtureRequest, model_folder: Callable[..., Path]) -> OnnxExecutor:
    """An executor of eight slots for a small model."""
    name, weights = request.param.rsplit("-", 1)
    return load(model_folder(name, weights), slots=8, context=256, threads=2)


def alone(executor: OnnxExecutor, prompt: list[int], **params: Any) -> list[int]:
    """Return what *prompt* gives when nothing else runs."""
    driver = Driver(executor)
    row = driver.add(0, prompt, **({"max_tokens": TOKENS, "ignore_eos": True} | params))
    driver.finish()
    return row.tokens


@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_ragged_batch(executor: OnnxExecutor, params: dict[str, Any]) -> None:
    """Eight requests that join and leave at different times get the tokens that each gets alone."""
    asked = prompts(12)
    expected = [alone(executor, prompt, seed=index, **params) for index, prompt in enumerate(asked)]
    driver = Driver(executor, chunk=16)
    waiting = list(enumerate(asked))
    while waiting or not all(row.ended for row in driver.rows.values()):
        for _ in range(2):
            if waiting and executor.limits.free:
                index, prompt = waiting.pop(0)
                driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True, seed=index, **params)
        driver.step()

    assert expected == [driver.rows[index].tokens for index in range(len(asked))]
    assert len(set(itertools.chain(*expected))) > 20, "the model repeats itself too much to prove anything"


@pytest.mark.parametrize("how", ["keep", "swap", "drop"])
@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_preemption(executor: OnnxExecutor, how: Preemption, params: dict[str, Any]) -> None:
    """Requests that are preempted again and again, in the prompt and after it, get the tokens that each gets alone."""
    asked = prompts(6)
    expected = [alone(executor, prompt, seed=index, **params) for index, prompt in enumerate(asked)]
    driver = Driver(executor, chunk=8)
    for index, prompt in enumerate(asked):
        driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True, seed=index, **params)
    driver.finish_preempting(how, random.Random(3))

    assert expected == [driver.rows[index].tokens for index in range(len(asked))]


@pytest.mark.parametrize("points", [60, pytest.param(1000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_many_preemptions(executor: OnnxExecutor, params: dict[str, Any], points: int) -> None:
    """At so many random moments a task is stopped, each time in any of the three ways; all get their own tokens."""
    chance, seen, done = random.Random(points), set(), 0
    asked = prompts(8)
    expected = [alone(executor, prompt, seed=index, **params) for index, prompt in enumerate(asked)]
    while done < points:
        driver = Driver(executor)
        for index, prompt in enumerate(asked):  # nobody shares a cache, so that every drop is computed again
            tenant = f"{points} {done} {index}"
            driver.add(index, prompt, tenant=tenant, max_tokens=TOKENS, ignore_eos=True, seed=index, **params)
        while not all(row.ended for row in driver.rows.values()):
            for id, row in driver.rows.items():
                if row.paused and chance.random() < 0.4:
                    driver.resume(id)
                elif not (row.ended or row.paused) and chance.random() < 0.1:
                    how = chance.choice(HOW)
                    seen.add((how, bool(row.tokens)))
                    driver.pause(id, how)
                    done += 1
            if any(not (row.ended or row.paused) for row in driver.rows.values()):
                driver.step(chunk=lambda: chance.randint(1, 16))

        assert expected == [driver.rows[index].tokens for index in range(len(asked))]
    assert {(how, begun) for how in HOW for begun in (True, False)} == seen


@pytest.mark.parametrize("room", [0, 40])
def test_swap_is_bounded(model_folder: Callable[..., Path], room: int) -> None:
    """A cache that finds no room in host memory is computed again, in steps of bounded size; statistics say so."""
    per_token = load(model_folder("nano", "fp32"), slots=1, context=10).describe()["kv_bytes"] // 10
    options = {"slots": 4, "context": 128, "threads": 1, "step_tokens": 8, "swap_bytes": room * per_token}
    executor = load(model_folder("nano", "fp32"), **options)
    asked = prompts(4, low=20, high=30)
    expected = [alone(executor, prompt) for prompt in asked]
    driver = Driver(executor, chunk=8)
    for index, prompt in enumerate(asked):
        driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True)
    for _ in range(10):
        driver.step()
    for id in driver.rows:
        driver.pause(id, "swap")
        assert executor.describe()["swap_used"] <= options["swap_bytes"]
    expected_swaps = int(room > 0)
    steps = executor.describe()["steps"]
    assert (expected_swaps, 4 - expected_swaps) == (steps["swapped"], steps["unswapped"])
    for id in driver.rows:
        driver.resume(id)
    assert 0 == executor.describe()["swap_used"]
    before = executor.describe()["steps"]["decoded"]
    driver.step()
    after = executor.describe()["steps"]["decoded"]

    assert expected_swaps == after - before
    driver.finish()
    assert expected == [driver.rows[index].tokens for index in range(len(asked))]


def test_swapped_task_that_ends(model_folder: Callable[..., Path]) -> None:
    """A task that is cancelled while it is swapped out leaves nothing in host memory."""
    executor = load(model_folder("nano", "fp32"), slots=2, context=128, threads=1)
    driver = Driver(executor)
    driver.add(1, prompts(1)[0], max_tokens=TOKENS)
    driver.step()
    driver.pause(1, "swap")
    assert executor.describe()["swap_used"] > 0
    driver.leave(1)

    assert 0 == executor.describe()["swap_used"]


def test_stalled_rows_rest(executor: OnnxExecutor) -> None:
    """Rows that a plan leaves out for a while go on as if nothing had been between."""
    asked = prompts(5)
    expected = [alone(executor, prompt) for prompt in asked]
    driver, chance = Driver(executor), random.Random(5)
    for index, prompt in enumerate(asked):
        driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True)
    while not all(row.ended for row in driver.rows.values()):
        running = [id for id, row in driver.rows.items() if not row.ended]
        driver.step(skip=tuple(chance.sample(running, chance.randrange(len(running)))))

    assert expected == [driver.rows[index].tokens for index in range(len(asked))]


@pytest.mark.parametrize("chunk", [1, 2, 7, 32])
def test_chunked_prompt(executor: OnnxExecutor, chunk: int) -> None:
    """A prompt computed in chunks gives the tokens of one computed whole."""
    prompt = prompts(1, low=90, high=100)[0]
    driver = Driver(executor, chunk=chunk)
    row = driver.add(0, prompt, max_tokens=16, ignore_eos=True)
    driver.finish()

    assert alone(executor, prompt, max_tokens=16) == row.tokens


def test_first_prompts_together(executor: OnnxExecutor) -> None:
    """First prompts of about equal length share a run and do not see each other's padding."""
    asked = [prompts(1, low=length, high=length)[0] for length in (32, 31, 30, 32)]
    driver = Driver(executor)
    for index, prompt in enumerate(asked):
        driver.add(index, prompt, max_tokens=16, ignore_eos=True)
    driver.finish()

    assert [alone(executor, prompt, max_tokens=16) for prompt in asked] == [row.tokens for row in driver.rows.values()]


def test_full_pool_answers_not_now(executor: OnnxExecutor) -> None:
    """Without a free slot admission answers NotNow, and a released task makes room."""
    driver = Driver(executor)
    for id in range(8):
        driver.add(id, [5, 6, 7])
    executor.prepare(8, Task("generate", None, [5, 6]))

    assert 0 == executor.limits.free
    assert NotNow() == executor.admit(8)

    driver.leave(3)

    assert NotNow() != executor.admit(8)
    executor.release(range(9))
    assert 8 == executor.limits.free


def test_client_that_leaves_frees_its_slot(executor: OnnxExecutor) -> None:
    """Releasing a running task moves another into its slot, which goes on undisturbed."""
    asked = prompts(3)
    expected = alone(executor, asked[2])
    driver = Driver(executor)
    rows = [driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True) for index, prompt in enumerate(asked)]
    for _ in range(5):
        driver.step()
    driver.leave(0)

    assert 2 == executor.describe()["slots_used"]
    driver.finish()
    assert expected == rows[2].tokens
    assert 8 == executor.limits.free


def test_interrupted_step_is_repeated(executor: OnnxExecutor) -> None:
    """A step that is cut short answers without tokens, and planning its rows again loses nothing."""
    prompt = prompts(1)[0]
    expected = alone(executor, prompt)
    driver = Driver(executor)
    row = driver.add(0, prompt, max_tokens=TOKENS, ignore_eos=True)
    executor.interrupt()
    results = driver.step()

    assert [()] == [result.tokens for result in results]
    for turn in range(10):
        if turn % 3 == 0:
            executor.interrupt()
        driver.step()
    driver.finish()
    assert expected == row.tokens


def test_unknown_task_cannot_be_released_twice(executor: OnnxExecutor) -> None:
    """Releasing an unknown id is no error, as the contract says."""
    executor.release([99])

    assert 8 == executor.limits.free


def test_row_without_finite_logits_fails_alone(executor: OnnxExecutor) -> None:
    """A row whose every token is forbidden fails with a typed error, and its neighbour goes on."""
    driver = Driver(executor)
    every = list(range(512))
    bad = driver.add(0, [5, 6, 7], min_tokens=4, max_tokens=8, stop_token_ids=every)
    good = driver.add(1, [5, 6, 7], max_tokens=8, ignore_eos=True)
    driver.finish()

    assert "logits" in str(bad.error)
    assert 8 == len(good.tokens)


def test_impossible_plans_are_told_apart(executor: OnnxExecutor) -> None:
    """A plan with a task that was never prepared, or never admitted, is somebody's bug and not a crash."""
    with pytest.raises(KernelBug, match="not prepared"):
        executor.step(Plan(decode=((77, 1),)))
    with pytest.raises(KernelBug, match="not prepared"):
        executor.admit(77)
    executor.prepare(0, Task("generate", None, [5, 6]))
    with pytest.raises(KernelBug, match="no slot"):
        executor.step(Plan(prefill=((0, 2),)))
    executor.release([0])


def test_lengths_are_checked_before_the_runtime_sees_them(executor: OnnxExecutor) -> None:
    """A length beyond the slot, or an empty batch, never reaches the runtime, which would read elsewhere or die."""
    runner = executor._runner
    batch = runner.batch(0, 1, 1)
    batch.lengths[0] = executor.limits.context
    with pytest.raises(KernelBug, match="do not fit"):
        runner.run(batch)
    for first, rows, tokens in ((0, 0, 1), (0, 1, 0), (7, 2, 1)):
        with pytest.raises(KernelBug, match="impossible batch"):
            runner.batch(first, rows, tokens)


def test_failure_of_the_runtime_is_raised(executor: OnnxExecutor) -> None:
    """What the runtime raises by itself fails the step, and is not taken for an interruption."""
    driver = Driver(executor)
    driver.add(0, [5, 6], max_tokens=4)
    executor._sequences[0].tokens[0] = 10**6
    with pytest.raises(Exception, match="out of"):
        driver.step()
    executor.release([0])


def test_many_lengths_of_prompt(executor: OnnxExecutor) -> None:
    """Bindings of more shapes than are kept are made anew, and the tokens stay the same."""
    prompt = prompts(1, low=140, high=140)[0]
    expected = alone(executor, prompt[:5], max_tokens=4)
    for length in range(1, 140):
        alone(executor, prompt[:length], max_tokens=1)

    assert expected == alone(executor, prompt[:5], max_tokens=4)
    assert isinstance(executor._runner, Runner)
    assert len(executor._runner._batches) <= 128


def test_integrity_check_finds_a_lost_slot(executor: OnnxExecutor) -> None:
    """A slot that no sequence knows of is found, with both sides' accounts."""
    slot = executor._places.enter(55, Prompt.of([5, 6], "local"))
    assert slot is not None
    with pytest.raises(KernelBug, match="disagree") as caught:
        executor.check_integrity()
    executor._places.leave(slot)

    assert [[0, 55]] == caught.value.fields["owners"]


def test_close_forgets_everything(model_folder: Callable[..., Path]) -> None:
    """After close no task holds a slot."""
    executor = load(model_folder("nano", "fp32"), slots=2, context=32)
    Driver(executor).add(0, [5, 6], max_tokens=4)
    executor.close()

    assert 2 == executor.limits.free


def test_plan_without_progress_answers_every_row(executor: OnnxExecutor) -> None:
    """A chunk that does not complete its prompt answers without tokens."""
    executor.prepare(0, Task("generate", None, [5] * 20))
    executor.admit(0)
    results = list(executor.step(Plan(prefill=((0, 10),))))
    executor.release([0])

    assert [(0, ())] == [(result.id, result.tokens) for result in results]


def test_steps_are_counted(model_folder: Callable[..., Path]) -> None:
    """What the executor has done is told in numbers: steps, runs and their times, tokens by what became of them."""
    executor = load(model_folder("nano", "fp32"), slots=2, context=64)
    driver = Driver(executor, chunk=8)
    driver.add(0, prompts(1, low=17, high=17)[0], max_tokens=4, ignore_eos=True)
    driver.add(1, [5], max_tokens=2, ignore_eos=True)
    driver.finish()
    counts = executor.describe()["steps"]

    assert (18, 6) == (counts["prefilled"], counts["decoded"])
    assert (6, 8) == (counts["steps"], counts["runs"])
    assert 0 < counts["run_seconds"] < counts["step_seconds"]
    assert (0, 0) == (counts["cached"], counts["replayed"])
