"""Conversations of the SDK on the engine: the same tokens as without a context, less to compute, and nothing left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos import Model, Text
from llmos_kernel import ModelSpec
from llmos_kernel.errors import InvalidArgument
from plugins.onnx.tests.served import charged, facts, served, until

QUESTIONS = ("Where does the river that we saw go to?", "And why?", "Thank you very much indeed.")
OPTIONS: dict[str, Any] = {"max_tokens": 12, "temperature": 0.9, "seed": 7, "params": {"ignore_eos": True}}
SYSTEM = "You answer in few words, and never ask anything back."


@pytest.fixture
def spec(model_folder: Callable[..., Path]) -> ModelSpec:
    """A model of two slots, each of 400 tokens."""
    path = str(model_folder("nano", "fp32"))
    return ModelSpec(name="nano", backend="onnx", path=path, options={"slots": 2, "context": 400, "threads": 1})


def without_context(model: Model) -> list[Text]:
    """Return the answers of a chat that sends everything each time."""
    said: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}]
    answers = []
    for question in QUESTIONS:
        said.append({"role": "user", "content": question})
        answers.append(model.chat(said, **OPTIONS))
        said.append({"role": "assistant", "content": str(answers[-1])})
    return answers


@pytest.fixture
def expected(spec: ModelSpec) -> list[Text]:
    """The answers, where nobody else is, and nothing is kept."""
    with served(spec) as (_, model):
        return without_context(model)


def test_same_tokens_and_less_to_compute(spec: ModelSpec, expected: list[Text]) -> None:
    """Each later turn finds the prompt of the turn before, and says what it would have said anyway."""
    with served(spec) as (client, model), model.conversation(system=SYSTEM) as talk:
        per_token = facts(model)["kv_bytes"] // 800
        assert 400 * per_token == charged(client)
        answers = [talk.say(QUESTIONS[0], **OPTIONS), talk.stream(QUESTIONS[1], **OPTIONS).result()]
        answers.append(talk.say(QUESTIONS[2], **OPTIONS))

    assert [answer.tokens for answer in expected] == [answer.tokens for answer in answers]
    assert [answer.usage.prompt for answer in expected] == [answer.usage.prompt for answer in answers]
    assert 0 == answers[0].usage.cached
    assert [answer.usage.prompt for answer in answers[:2]] == [answer.usage.cached for answer in answers[1:]]


def test_more_conversations_than_slots(spec: ModelSpec, expected: list[Text]) -> None:
    """Five idle contexts do not keep two slots from anybody: they wait in host memory and come back whole."""
    with served(spec) as (_, model):
        talks = [model.conversation(system=f"Number {number}: {SYSTEM}", tokens=380) for number in range(5)]
        first = [talk.say(QUESTIONS[0], **OPTIONS) for talk in talks]
        streams = [model.stream(f"{number} of those who wait {'and wait ' * number}", **OPTIONS) for number in range(6)]
        assert [12] * 6 == [len(stream.result().tokens) for stream in streams]
        assert 5 == facts(model)["contexts"]
        second = [talk.say(QUESTIONS[1], **OPTIONS) for talk in talks]
        for talk in talks:
            talk.close()
        until(lambda: not facts(model)["contexts"])
        again = [model.chat(talk.messages[:-1], **OPTIONS) for talk in talks]

    assert [answer.usage.prompt for answer in first] == [answer.usage.cached for answer in second]
    assert [answer.tokens for answer in again] == [answer.tokens for answer in second]


def test_two_at_once(spec: ModelSpec, expected: list[Text]) -> None:
    """Two conversations whose answers are read piece by piece in turn get what each gets alone."""
    with served(spec) as (_, model), model.conversation(system=SYSTEM) as one, model.conversation(system=SYSTEM) as two:
        for number, question in enumerate(QUESTIONS):
            streams = [talk.stream(question, **OPTIONS) for talk in (one, two)]
            for _ in zip(*streams, strict=False):
                pass
            for stream in streams:
                assert expected[number].tokens == stream.result().tokens


def test_closed_while_it_generates(spec: ModelSpec, expected: list[Text]) -> None:
    """The answer ends, the budget and the slot come back, and a neighbour is not disturbed."""
    with served(spec) as (client, model), model.conversation(system=SYSTEM, tokens=300) as other:
        before = charged(client)
        closing = model.conversation(tokens=200)
        answer = closing.stream("Talk on and on.", max_tokens=150, params={"ignore_eos": True})
        next(answer)
        stream = other.stream(QUESTIONS[0], **OPTIONS)
        next(stream)
        closing.close()
        assert before == charged(client)
        assert expected[0].tokens == stream.result().tokens
        assert expected[1].tokens == other.say(QUESTIONS[1], **OPTIONS).tokens
        until(lambda: (1, 0) == (facts(model)["contexts"], facts(model)["slots_used"]))


def test_conversation_that_outgrows_its_context(spec: ModelSpec) -> None:
    """It is refused with both lengths, and the one that goes on is shorter."""
    with served(spec) as (_, model):
        with pytest.raises(InvalidArgument, match="model's 400"):
            model.conversation(tokens=401)
        with model.conversation(tokens=60) as talk:
            assert "length" == talk.say("hello", max_tokens=10, min_tokens=10).finish
            before = talk.messages
            with pytest.raises(InvalidArgument, match="opened for 60"):
                talk.say("A long story. " * 20)
            assert before == talk.messages
            talk.clear()
            assert talk.say("hello", max_tokens=10)


def test_streams_share_their_prompt(spec: ModelSpec) -> None:
    """Five answers in pieces, on two slots: those of their seeds alone, and the prompt is computed once."""
    prompt = "It was a dark and stormy night, and nobody was in the street. " * 2
    with served(spec) as (_, model):
        before = facts(model)["steps"]["prefilled"]
        with model.stream(prompt, n=5, **OPTIONS) as streams:
            pieces = list(streams)
        computed = facts(model)["steps"]["prefilled"] - before
        expected = [model.generate_text(prompt, **{**OPTIONS, "seed": 7 + answer}) for answer in range(5)]

    assert [answer.tokens for answer in expected] == [answer.tokens for answer in streams.result()]
    assert 5 * 12 == sum(len(piece.tokens) for piece in pieces)
    assert 5 == len({answer.tokens for answer in expected})
    assert expected[0].usage.prompt <= computed <= expected[0].usage.prompt + 4
