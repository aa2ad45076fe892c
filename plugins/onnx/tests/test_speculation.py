"""Guessing tokens: the same output in fewer runs, and no guesses where they do not pay."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_kernel.contracts import Preemption
from llmos_kernel.errors import KernelBug, ModelUnavailable
from llmos_onnx.executor import OnnxExecutor
from llmos_onnx.batch import Rows
from llmos_onnx.speculation import Speculation, Trust, look_up
from plugins.onnx.tests.driver import Driver, Row, load
from plugins.onnx.tests.plain_loop import PlainLoop

TOKENS, WIDTH = 48, 8
SAMPLED: dict[str, Any] = {
    "temperature": 1.1,
    "top_k": 40,
    "top_p": 0.95,
    "repetition_penalty": 1.2,
    "frequency_penalty": 0.3,
}
PROMPT = [random.Random(7).randrange(4, 512) for _ in range(40)]


def look_up_plainly(tokens: list[int], most: int) -> list[int]:
    """Try three tokens, then two; take the last place that gives enough, or the first one if none does."""
    for length in (3, 2):
        places = [at for at in range(len(tokens) - length) if tokens[at : at + length] == tokens[-length:]]
        enough = [at for at in places if at + length + most <= len(tokens)]
        if places:
            begin = (enough[-1] if enough else places[0]) + length
            return tokens[begin : begin + most]
    return []


def decode_plainly(loop: PlainLoop, prompt: list[int], count: int, most: int) -> tuple[list[int], int]:
    """Greedy prompt-lookup decoding with onnxruntime alone; return *count* tokens and the runs after the prompt's."""
    tokens = [*prompt, int(loop.run([prompt], [len(prompt)], wanted=[len(prompt) - 1])[0].argmax())]
    runs = 0
    while len(tokens) < len(prompt) + count:
        left = len(prompt) + count - len(tokens)
        # The engine's first run has no guess: it wants to know what one token costs.
        guess = look_up_plainly(tokens, min(most, left - 1)) if runs else []
        block = [tokens[-1], *guess]
        logits = loop.run([block], [len(tokens) + len(guess)], wanted=list(range(len(block))))
        runs += 1
        for row, guessed in zip(logits, [*guess, -1], strict=True):
            tokens.append(int(row.argmax()))
            if tokens[-1] != guessed:
                break
    return tokens[len(prompt) :], runs


@given(tokens=st.lists(st.integers(0, 3), min_size=1, max_size=60), most=st.integers(0, 10))
def test_look_up(tokens: list[int], most: int) -> None:
    """What is guessed stood after the same tokens before."""
    assert look_up_plainly(tokens, most) == look_up(np.array(tokens), most).tolist()


# --- the same output --------------------------------------------------------------------------------------------


@attrs.define
class Script(Speculation):
    """Guesses what a test says: *answer* is what the sequence will say, *flaws* what is changed of it each time."""

    answer: Sequence[int] = ()
    prompt: int = 0
    flaws: Sequence[tuple[int, int]] = ()
    """(tokens of the guess, the first of them that is wrong) in turn."""
    turn: int = 0

    def guess(self, trust: Trust, tokens: Any, most: int) -> Any:
        """Return the next tokens of the answer, wrong from one of them on."""
        length, wrong = self.flaws[self.turn % len(self.flaws)]
        self.turn += 1
        at = len(tokens) - self.prompt
        coming = np.array(self.answer[at : at + min(length, most)], np.int64)
        coming[wrong:] = (coming[wrong:] + 1) % 512
        return coming


@pytest.fixture(scope="module")
def executor(model_folder: Callable[..., Path]) -> OnnxExecutor:
    """An executor that guesses up to eight tokens."""
    return load(model_folder("nano", "fp32"), slots=4, context=256, threads=1, speculate=WIDTH)


def answer(executor: OnnxExecutor, prompt: Any, *, speculation: Speculation | None = None, **params: Any) -> Row:
    """Return what *prompt* gives alone; guessed by *speculation*, not at all without one."""
    parts = executor._parts
    executor._parts = attrs.evolve(parts, speculation=speculation or Speculation(0))
    try:
        driver = Driver(executor, burst=TOKENS)
        row = driver.add(0, prompt, **{"max_tokens": TOKENS, "ignore_eos": True, "seed": 3, **params})
        driver.finish()
    finally:
        executor._parts = parts
    return row


FORMS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": SAMPLED,
    "nucleus": {"temperature": 0.8, "top_p": 0.9, "min_p": 0.01, "presence_penalty": 0.5},
    "short": {"max_tokens": 5},
    "logprobs": {"logprobs": 3, "temperature": 1.0},
    "regex": {"regex": "[a-z ]{10,30}", "temperature": 1.0, "ignore_eos": False},
    "biased": {"logit_bias": {7: 4.0, 9: 4.0}, "temperature": 1.0},
}


@pytest.fixture(scope="module")
def plain(executor: OnnxExecutor) -> Callable[[str], tuple[dict[str, Any], Row]]:
    """Return what each of `FORMS` gives without guesses; stops are taken from that."""

    @cache
    def found(form: str) -> tuple[dict[str, Any], Row]:
        params = dict(FORMS.get(form, SAMPLED))
        whole = answer(executor, PROMPT, **params)
        if form == "stop ids":
            params |= {"stop_token_ids": [whole.tokens[17]]}
        if form == "stop string":
            params |= {"stop": whole.text[20:24]}
        if form == "held back":
            params |= {"stop_token_ids": [whole.tokens[9]], "min_tokens": 20}
        return params, answer(executor, PROMPT, **params)

    return found


@pytest.mark.parametrize("form", [*FORMS, "stop ids", "stop string", "held back"])
@settings(max_examples=15)
@given(data=st.data())
def test_any_guess_gives_the_same_output(
    executor: OnnxExecutor, plain: Callable[[str], tuple[dict[str, Any], Row]], form: str, data: st.DataObject
) -> None:
    """Whatever is guessed, right or wrong, tokens, text, end and log probabilities are those of plain decoding."""
    params, expected = plain(form)
    flaws = data.draw(st.lists(st.tuples(st.integers(0, WIDTH), st.integers(0, WIDTH)), min_size=1, max_size=6))
    script = Script(WIDTH, answer=expected.tokens, prompt=len(PROMPT), flaws=flaws)
    row = answer(executor, PROMPT, speculation=script, **params)

    assert (expected.tokens, expected.text, expected.finish) == (row.tokens, row.text, row.finish)
    assert [entry["id"] for entry in expected.logprobs] == [entry["id"] for entry in row.logprobs]
    values = [[entry["logprob"] for entry in found.logprobs] for found in (expected, row)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)


@pytest.mark.parametrize("name", ["nano-fp32", "nano-qwen3-fp32", "nano-w8a8"])
def test_engine_and_reference_agree(model_folder: Callable[..., Path], name: str) -> None:
    """Tokens and number of runs are those of a plain loop that looks up guesses in lists."""
    folder = model_folder(*name.rsplit("-", 1))
    executor = load(folder, slots=2, context=256, threads=1, speculate=4)
    clock(executor, lambda tokens: 1.0)
    prompt = PROMPT[:6] * 5
    expected, runs = decode_plainly(PlainLoop(folder, room=256), prompt, TOKENS, 4)
    driver = Driver(executor, burst=TOKENS)
    row = driver.add(0, prompt, max_tokens=TOKENS, ignore_eos=True)
    executor._sequences[0].trust.width = 4
    driver.finish()

    assert expected == row.tokens
    assert runs + 1 == executor.describe()["steps"]["runs"]
    assert runs < TOKENS / 2


# --- among others -----------------------------------------------------------------------------------------------


def half_right(row: Row, prompt: list[int]) -> Script:
    """Guess four tokens, in turn all of them right, one wrong, and all wrong."""
    return Script(WIDTH, answer=row.tokens, prompt=len(prompt), flaws=[(4, 9), (4, 3), (4, 0), (8, 9)])


@pytest.mark.parametrize("how", ["keep", "swap", "drop"])
def test_preemption_between_guesses(executor: OnnxExecutor, how: Preemption) -> None:
    """What a wrong guess left in the cache is nobody's: a task that is preempted after it goes on as it would have."""
    expected = answer(executor, PROMPT, **SAMPLED)
    executor._parts = attrs.evolve(executor._parts, speculation=half_right(expected, PROMPT))
    driver = Driver(executor, burst=TOKENS)
    row = driver.add(0, PROMPT, max_tokens=TOKENS, ignore_eos=True, seed=3, **SAMPLED)
    while not row.ended:
        driver.step()
        if not row.ended:
            driver.pause(0, how)
            driver.resume(0)

    assert expected.tokens == row.tokens


def test_others_join_and_leave(executor: OnnxExecutor) -> None:
    """Guesses stop while another task runs, and neither notices."""
    expected, other = answer(executor, PROMPT, **SAMPLED), answer(executor, PROMPT[::-1], max_tokens=6)
    script = half_right(expected, PROMPT)
    executor._parts = attrs.evolve(executor._parts, speculation=script)
    driver = Driver(executor, burst=TOKENS)
    row = driver.add(0, PROMPT, max_tokens=TOKENS, ignore_eos=True, seed=3, **SAMPLED)
    for _ in range(4):
        driver.step()
    beside, turns = driver.add(1, PROMPT[::-1], max_tokens=6, ignore_eos=True, seed=3), script.turn
    while not beside.ended:
        driver.step()
    assert turns == script.turn
    driver.finish()

    assert script.turn > turns
    assert (expected.tokens, other.tokens) == (row.tokens, beside.tokens)


def test_interrupted_guess_is_repeated(executor: OnnxExecutor) -> None:
    """A run that is cut short leaves nothing behind but a cache that is written again."""
    expected = answer(executor, PROMPT, **SAMPLED)
    executor._parts = attrs.evolve(executor._parts, speculation=half_right(expected, PROMPT))
    driver = Driver(executor, burst=TOKENS)
    row = driver.add(0, PROMPT, max_tokens=TOKENS, ignore_eos=True, seed=3, **SAMPLED)
    for turn in range(100):
        if row.ended:
            break
        if turn % 2:
            executor.interrupt()
        before = list(row.tokens)
        driver.step()
        assert not turn % 2 or before == row.tokens

    assert expected.tokens == row.tokens


def test_prefixes_and_conversations(executor: OnnxExecutor) -> None:
    """A next turn begins with the cache of the prompt before it, in which no guess is."""
    first = answer(executor, PROMPT, tenant="a")
    turn = [*PROMPT, *first.tokens, 5, 6, 7]
    expected = answer(executor, turn, tenant="b")
    executor.open_context(900, 256)
    found = []
    for prompt, plain in ((PROMPT, first), (turn, expected)):
        found.append(answer(executor, prompt, speculation=half_right(plain, prompt), tenant="c", context=900))
    executor.release([900])

    assert [first.tokens, expected.tokens] == [row.tokens for row in found]
    assert len(PROMPT) == found[1].cached


# --- whether it pays --------------------------------------------------------------------------------------------


def clock(executor: OnnxExecutor, cost: Callable[[int], float]) -> None:
    """Let runs of so many tokens take what *cost* says."""
    runner = executor._runner
    run = runner.run

    def timed(batch: Rows) -> bool:
        done = run(batch)
        runner.seconds = cost(batch.ids.size)
        return done

    runner.run = timed  # type: ignore[method-assign]


def counted(folder: Path, prompt: list[int], cost: Callable[[int], float], **params: Any) -> dict[str, int]:
    """Return the counts of a new executor after 200 tokens of *prompt*."""
    executor = load(folder, slots=1, context=512, threads=1, speculate=WIDTH)
    clock(executor, cost)
    driver = Driver(executor, burst=200)
    driver.add(0, prompt, max_tokens=200, ignore_eos=True, seed=1, **params)
    driver.finish()
    return dict(executor.describe()["steps"])


def test_text_that_repeats_itself_takes_fewer_steps(model_folder: Callable[..., Path]) -> None:
    """Where guesses are right, far fewer steps give the same number of tokens."""
    counts = counted(model_folder("nano", "fp32"), PROMPT[:6] * 5, lambda tokens: 1 + tokens / 10)

    assert 200 == counts["decoded"]
    assert counts["steps"] < 70
    assert counts["right"] > 130
    assert counts["right"] / counts["guessed"] > 0.8


def test_text_of_chance_turns_it_off(model_folder: Callable[..., Path]) -> None:
    """Where guesses are mostly wrong, a few are tried and then fewer and fewer."""
    alphabet = {str(token): 100.0 for token in (5, 6, 7, 8)}
    chance: dict[str, Any] = {"temperature": 100.0, "logit_bias": alphabet, "top_k": 4}
    prompt = [random.Random(1).choice((5, 6, 7, 8)) for _ in range(60)]
    cheap, dear = (
        counted(model_folder("nano", "fp32"), prompt, cost, **chance)
        for cost in (lambda tokens: 1 + tokens / 100, float)
    )

    assert 200 == cheap["decoded"] == dear["decoded"]
    assert cheap["guessed"] > 3 * dear["guessed"]
    assert dear["steps"] >= 180


def test_trust_ends_and_comes_back() -> None:
    """A trial of four guesses decides; a rest is twice as long each time; what was trusted is dropped below no gain."""
    trust, rests = Trust(), []
    for _ in range(7):
        for _ in range(4):
            assert 0 == trust.resting
            trust.checked(4, 0, seconds=2.0, plain=1.0)
        rests.append(trust.resting)
        for _ in range(trust.resting):
            trust.decoded()
    assert [16, 32, 64, 128, 256, 512, 512] == rests

    for _ in range(8):
        trust.checked(4, 4, seconds=2.0, plain=1.0)
    assert 6 == trust.width
    steps = 0
    while not trust.resting:
        trust.checked(4, 0, seconds=2.0, plain=1.0)
        steps += 1
    assert 4 < steps < 16
    assert 16 == trust.resting


def test_small_gain_is_kept_but_not_begun() -> None:
    """What gains 5 % goes on, and does not begin: the decision does not swing with every step."""
    begun, going = Trust(), Trust()
    for _ in range(4):
        begun.checked(4, 1, seconds=2.0, plain=1.05)
        going.checked(4, 3, seconds=2.0, plain=1.05)
    for _ in range(50):
        going.checked(4, 1, seconds=2.0, plain=1.05)

    assert 16 == begun.resting
    assert 0 == going.resting


def test_nothing_is_guessed_before_a_token_was_timed() -> None:
    """The first token is decoded alone: without its time there is nothing to compare with."""
    speculation, tokens = Speculation(WIDTH), np.array([5, 6, 7, 5, 6, 7])
    assert [] == speculation.guess(Trust(), tokens, 20).tolist()
    speculation.decoded(Trust(), 1.0)

    assert [5, 6, 7] == speculation.guess(Trust(), tokens, 20).tolist()
    assert [5] == speculation.guess(Trust(), tokens, 1).tolist()
    assert [] == Speculation(0).guess(Trust(), tokens, 20).tolist()


# --- what is said of it -----------------------------------------------------------------------------------------


def test_described(executor: OnnxExecutor, model_folder: Callable[..., Path]) -> None:
    """Whoever asks learns how far is guessed, and that tokens may then depend on the batch; by default nothing is."""
    usual = load(model_folder("nano", "fp32"), slots=1, context=32).describe()

    assert (WIDTH, False) == tuple(executor.describe()[key] for key in ("speculate", "batch_invariant"))
    assert (0, True) == tuple(usual[key] for key in ("speculate", "batch_invariant"))


@pytest.mark.parametrize("value", [-1, 65, 1.5, "yes", True])
def test_option_is_checked(model_folder: Callable[..., Path], value: object) -> None:
    """Anything but a whole number in range is refused by name."""
    with pytest.raises(ModelUnavailable, match="speculate"):
        load(model_folder("nano", "fp32"), speculate=value)


def test_no_run_writes_more_logits_than_there_is_room_for(executor: OnnxExecutor) -> None:
    """A run that wants more positions than the option allows never reaches the runtime."""
    with pytest.raises(KernelBug, match="no room"):
        executor._runner.batch(0, 1, WIDTH + 2, every=True)
