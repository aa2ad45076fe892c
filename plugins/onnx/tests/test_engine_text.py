"""What a reader gets: text, stops, ends, log probabilities, and the kinds of task that need no step."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos_kernel.api import Task
from llmos_kernel.contracts import Result
from llmos_onnx.executor import OnnxExecutor
from plugins.onnx.tests.driver import Driver, Row, load

PROMPT = list(range(40, 60))
TOKENS = 40


@pytest.fixture(scope="module")
def executor(model_folder: Callable[..., Path]) -> OnnxExecutor:
    """An executor for the smallest model."""
    return load(model_folder("nano", "fp32"), slots=4, context=128, threads=2)


def run(executor: OnnxExecutor, value: object = PROMPT, *, kind: str = "generate", **params: object) -> Row:
    """Run one task to its end; sampled with a seed, which gives more varied text than the likeliest tokens."""
    driver = Driver(executor)
    defaults = {"max_tokens": TOKENS, "ignore_eos": True, "temperature": 2.0, "seed": 4}
    row = driver.add(0, value, **{"kind": kind, **defaults, **params})  # type: ignore[arg-type]
    driver.finish()
    return row


def test_text_is_that_of_the_tokens(executor: OnnxExecutor) -> None:
    """The pieces joined are the decoded tokens, and the task ends for its length."""
    row = run(executor)

    assert TOKENS == len(row.tokens)
    assert executor._parts.codec.decode(row.tokens) == row.text
    assert "length" == row.finish


@pytest.mark.parametrize("length", [1, 2, 3, 5])
@pytest.mark.parametrize("at", [3, 9, 17])
def test_stop_string(executor: OnnxExecutor, at: int, length: int) -> None:
    """Generation ends at a stop string wherever its tokens' borders lie, and nothing of it is emitted."""
    whole = run(executor).text
    stop = whole[at : at + length]
    row = run(executor, stop=["never occurs", stop])

    assert whole[: whole.index(stop)] == row.text
    assert "stop" == row.finish
    assert len(row.tokens) < TOKENS


def test_text_that_might_become_a_stop_string(executor: OnnxExecutor) -> None:
    """What was held back because a stop string begins so comes out at the end."""
    whole = run(executor).text

    assert whole == run(executor, stop=whole[-3:] + "!").text


def test_stop_token(executor: OnnxExecutor) -> None:
    """A stop token ends the output, is counted, and shows no text."""
    whole = run(executor)
    token = whole.tokens[10]
    row = run(executor, stop_token_ids=[token])
    first = whole.tokens.index(token)

    assert whole.tokens[: first + 1] == row.tokens
    assert executor._parts.codec.decode(row.tokens[:-1]) == row.text
    assert "stop" == row.finish


def test_end_of_text(executor: OnnxExecutor) -> None:
    """The model's own end tokens end the output, unless they are ignored."""
    biased: dict[str, Any] = {"logit_bias": {"1": 100.0}, "temperature": 0.0}

    assert [1] == run(executor, ignore_eos=False, **biased).tokens
    assert "stop" == run(executor, ignore_eos=False, **biased).finish
    assert [1] * TOKENS == run(executor, **biased).tokens


def test_min_tokens(executor: OnnxExecutor) -> None:
    """Neither end tokens nor stop strings end the output before min_tokens."""
    row = run(executor, ignore_eos=False, logit_bias={1: 100.0}, min_tokens=5)

    assert 1 not in row.tokens[:5]
    assert 6 == len(row.tokens)

    whole = run(executor)
    stop = whole.text[0]
    row = run(executor, stop=stop, min_tokens=8)

    assert 8 <= len(row.tokens)
    assert row.text.startswith(executor._parts.codec.decode(whole.tokens[:7]))


def test_seeds(executor: OnnxExecutor) -> None:
    """The same seed gives the same tokens, another one gives others, and without one they differ."""
    assert run(executor, seed=1).tokens == run(executor, seed=1).tokens
    assert run(executor, seed=1).tokens != run(executor, seed=2).tokens
    assert run(executor, seed=None).tokens != run(executor, seed=None).tokens


def test_logprobs(executor: OnnxExecutor) -> None:
    """Each token comes with its log probability and those of the likeliest ones, which do not change the tokens."""
    row = run(executor, temperature=0.0, logprobs=3)
    first = row.logprobs[0]

    assert run(executor, temperature=0.0).tokens == row.tokens
    assert row.tokens == [report["id"] for report in row.logprobs]
    assert [3] * TOKENS == [len(report["top"]) for report in row.logprobs]
    assert first["id"] == first["top"][0]["id"]
    assert first["logprob"] == first["top"][0]["logprob"] <= 0
    assert all(math.isfinite(report["logprob"]) for report in row.logprobs)
    assert [0] * TOKENS == [len(report["top"]) for report in run(executor, logprobs=0).logprobs]


def test_penalties_change_the_output(executor: OnnxExecutor) -> None:
    """A strong presence penalty keeps tokens from coming twice."""
    row = run(executor, temperature=0.0, presence_penalty=100.0)

    assert len(set(row.tokens)) == len(row.tokens)


def test_chat(executor: OnnxExecutor) -> None:
    """A conversation is the generation from its rendered template."""
    messages = [{"role": "user", "content": "hello"}]
    codec = executor._parts.codec
    prompt, _ = codec.encode_template("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")

    assert run(executor, prompt).tokens == run(executor, messages, kind="chat").tokens


def test_string_prompt(executor: OnnxExecutor) -> None:
    """A string is encoded as it stands, control tokens in it as characters."""
    ids = executor._parts.codec.encode("a <|im_end|> b")

    assert run(executor, ids).tokens == run(executor, "a <|im_end|> b").tokens


def test_tokenize_and_detokenize(executor: OnnxExecutor) -> None:
    """Both are answered without a step, and one is the inverse of the other."""
    ids = executor.prepare(1, Task("tokenize", None, "naïve <s> 中")).answer
    assert ids is not None
    text = executor.prepare(2, Task("detokenize", None, ids.value)).answer

    assert Result(1, value=ids.value, finish="stop") == ids
    assert text is not None
    assert "naïve <s> 中" == text.value == text.text
    executor.check_integrity()


def test_defaults_of_the_folder(executor: OnnxExecutor) -> None:
    """Without parameters the folder's own apply: this one says temperature 0.7."""
    executor.prepare(1, Task("generate", None, "hi"))
    params = executor._sequences[1].params
    executor.release([1])

    assert 0.7 == params.temperature
    assert executor.limits.context - 2 >= params.max_tokens
