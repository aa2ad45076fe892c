"""Conversations, over an echo model that keeps contexts of ten bytes a token."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

from llmos import AsyncClient, Client, Conversation, Model
from llmos.testing import EchoBackend
from llmos_kernel import Budget, Credentials, Kernel
from llmos_kernel.errors import (
    BudgetExceeded, DeadlineExceeded, HandleRevoked, InvalidArgument, KernelError, PortClosed,
)  # fmt: skip

TURN = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "a b"}]


@pytest.fixture
def echo() -> EchoBackend:
    """The backend of the `kernel` fixture: 64 tokens of context, and contexts are kept."""
    return EchoBackend(kept=10, context=64)


@pytest.fixture
def client(kernel: Kernel) -> Iterator[Client]:
    """A client that may hold 1,000 bytes: one context of the model's length, not two."""
    with Client(kernel=kernel, credentials=Credentials(budget=Budget(nbytes=1000))) as made:
        yield made


@pytest.fixture
def talk(model: Model) -> Iterator[Conversation]:
    """A conversation with the model."""
    with model.conversation() as made:
        yield made


def held(client: Client) -> int:
    """Return the bytes that the client is charged for."""
    return int(client.process._seat.account.nbytes)


def test_each_turn_has_all_that_was_said(talk: Conversation, echo: EchoBackend) -> None:
    """The second question comes with the first one and its answer, and both run in the context."""
    answers = [talk.say("a b"), talk.say("c")]
    first, second = echo.executors[0].tasks

    assert ["a b", "c"] == answers
    assert ("echo", "stop") == (answers[0].model, answers[0].finish)
    assert TURN[:1] == first.input
    assert [*TURN, {"role": "user", "content": "c"}] == second.input
    assert isinstance(first.target, int)
    assert first.target == second.target
    assert [*TURN, {"role": "user", "content": "c"}, {"role": "assistant", "content": "c"}] == talk.messages


def test_options_are_those_of_a_turn(talk: Conversation) -> None:
    """Each turn has its own parameters, and a wrong one is its error alone."""
    assert "a" == talk.say("a b", max_tokens=1)
    with pytest.raises(InvalidArgument, match="warmth"):
        talk.say("c", params={"warmth": 1})
    assert "c d" == talk.say("c d")
    assert 4 == len(talk.messages)


def test_streamed_turn(talk: Conversation) -> None:
    """A turn may come in pieces."""
    with talk.stream("a b") as stream:
        pieces = list(stream)

    assert ["a", " b"] == pieces
    assert "a b" == stream.result()
    assert TURN == talk.messages


def test_going_on_with_what_was_said_earlier(model: Model, client: Client) -> None:
    """`messages` of one conversation begin another, which forgets them but not what the model was told."""
    told = {"role": "system", "content": "be brief"}
    with model.conversation(system="be brief") as talk:
        talk.say("a b")
    with model.conversation(messages=talk.messages) as again:
        assert [told, *TURN] == again.messages
        again.clear()
        assert [told] == again.messages
        again.say("a b")
        assert [told, *TURN] == again.messages
        again.messages.clear()
        assert 3 == len(again.messages)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"system": 7}, "system"),
        ({"messages": 7}, "messages"),
        ({"messages": "hello"}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"tokens": -1}, "tokens"),
        ({"tokens": 1.5}, "tokens"),
    ],
)
def test_broken_beginnings_are_named(model: Model, given: dict[str, object], field: str) -> None:
    """Each mistake is an error that says where it is."""
    with pytest.raises(InvalidArgument) as caught:
        model.conversation(**given)  # type: ignore[arg-type]

    assert field == caught.value.fields["field"]


def test_context_is_charged_until_it_is_closed(model: Model, client: Client) -> None:
    """A context is as long as the model's unless told; what the budget does not allow is refused, and comes back."""
    first = model.conversation()
    assert 640 == held(client)
    with pytest.raises(BudgetExceeded):
        model.conversation()
    with model.conversation(tokens=36) as second:
        assert 1000 == held(client)
        assert "a" == second.say("a")
    first.close()
    first.close()

    assert 0 == held(client)
    with model.conversation() as third:
        assert "b" == third.say("b")


def test_context_that_is_too_small(model: Model) -> None:
    """A turn that does not fit is refused with the lengths and leaves no trace; a shorter one goes on."""
    with model.conversation(tokens=4) as talk:
        with pytest.raises(InvalidArgument, match="context of 4") as caught:
            talk.say("one two three four five")
        answer = talk.say("one two")

    assert "input" == caught.value.fields["field"]
    assert "one two" == answer
    assert 2 == len(talk.messages)


def test_model_without_contexts(kernel: Kernel, echo: EchoBackend, client: Client) -> None:
    """Such a model says so where a context is asked for, and converses without one where none is."""
    model = client.load_model("echo")
    assert (True, 64) == (model.info().keeps_contexts, model.info().longest_context)
    echo.executors[0]._kept = 0
    assert not model.info().keeps_contexts
    with pytest.raises(InvalidArgument, match="tokens=0"):
        model.conversation()
    with pytest.raises(InvalidArgument, match="keeps no contexts"):
        model.conversation(tokens=10)
    with model.conversation(tokens=0) as talk:
        talk.say("a b")
        assert (0, TURN) == (held(client), talk.messages)
    with pytest.raises(HandleRevoked):
        talk.say("c")


def test_conversation_loads_its_model(model: Model, client: Client, echo: EchoBackend) -> None:
    """A model that was unloaded meanwhile comes back, and then stays for as long as the context."""
    client.control("UnloadModel", "echo")
    with model.conversation() as talk:
        with pytest.raises(KernelError, match="contexts"):
            client.control("UnloadModel", "echo")
        model.close()

        assert "a" == talk.say("a")
    assert 2 == len(echo.executors)


def test_one_turn_at_a_time(talk: Conversation, echo: EchoBackend) -> None:
    """A turn beside another is refused, and nothing is forgotten meanwhile."""
    echo.gate.shut()
    with talk.stream("a b") as stream:
        for attempt in (lambda: talk.say("c"), lambda: talk.stream("c"), talk.clear):
            with pytest.raises(InvalidArgument, match="one turn after the other"):
                attempt()
        echo.gate.open()
        list(stream)

    assert "c" == talk.say("c")
    assert 4 == len(talk.messages)


def test_what_was_read_of_an_answer_counts(talk: Conversation, client: Client, echo: EchoBackend) -> None:
    """A stream that is left early ends its task, and the conversation goes on from what was read."""
    echo.faults.on_step = lambda number, plan: echo.gate.shut() if number == 2 else None
    with talk.stream("a b c") as stream:
        assert "a" == next(stream)
        echo.gate.wait_for_visitor()
    echo.gate.open()

    assert {} == client.control("Stats")["tasks"]
    assert [{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "a"}] == talk.messages


def test_turn_that_fails_leaves_no_trace(talk: Conversation, echo: EchoBackend) -> None:
    """Neither one whose task failed nor one whose caller waited in vain."""
    echo.faults.row = (1, KernelError("broken row"))
    with pytest.raises(KernelError, match="broken row"), talk.stream("a b") as stream:
        list(stream)
    with pytest.raises(KernelError, match="broken row"):
        talk.say("a b")
    echo.faults.row = None
    echo.gate.shut()
    with pytest.raises(DeadlineExceeded), talk.stream("a b", timeout=0.05) as stream:
        list(stream)
    with pytest.raises(DeadlineExceeded):
        talk.say("a b", timeout=0.05)
    echo.gate.open()

    assert [] == talk.messages
    assert "a b" == talk.say("a b")


def test_dropped_turn_counts_as_not_asked(talk: Conversation, client: Client, echo: EchoBackend) -> None:
    """Nobody holds its stream any more: its task ends, and the next turn may begin."""
    echo.gate.shut()
    stream = talk.stream("a b")
    echo.gate.wait_for_visitor()
    del stream
    gc.collect()
    tasks = client.control("Stats")["tasks"]
    echo.gate.open()

    assert {} == tasks
    assert "c" == talk.say("c")
    assert 2 == len(talk.messages)


def test_dropped_conversation_gives_its_context_back(model: Model, client: Client) -> None:
    """With the next use of the client."""
    talk = model.conversation()
    del talk
    gc.collect()
    client.models()

    assert 0 == held(client)


def test_closing_stops_the_turn(model: Model, client: Client, echo: EchoBackend) -> None:
    """A conversation that is closed while it answers ends the answer and gives the context back."""
    talk = model.conversation()
    echo.faults.on_step = lambda number, plan: echo.gate.shut() if number == 2 else None
    stream = talk.stream("a b c")
    assert "a" == next(stream)
    echo.gate.wait_for_visitor()
    talk.close()
    tasks, charged = client.control("Stats")["tasks"], held(client)
    echo.gate.open()

    assert ({}, 0) == (tasks, charged)
    with pytest.raises(PortClosed):
        stream.result()
    with pytest.raises(HandleRevoked, match="closed"):
        talk.say("more")
    assert "a" == talk.messages[-1]["content"]


def test_closing_from_another_thread(model: Model, client: Client, echo: EchoBackend) -> None:
    """Whoever waits for an answer then gets one typed error."""
    talk, errors = model.conversation(), []
    echo.gate.shut()

    def ask() -> None:
        try:
            talk.say("a b")
        except KernelError as error:
            errors.append(type(error))

    asking = threading.Thread(target=ask)
    asking.start()
    echo.gate.wait_for_visitor()
    talk.close()
    asking.join(10)
    echo.gate.open()

    assert ([HandleRevoked], 0) == (errors, held(client))


# --- asyncio -----------------------------------------------------------------------------------------------------


async def test_async_turns(kernel: Kernel, echo: EchoBackend) -> None:
    """The same for asyncio: answers, pieces, what was said, and the budget."""
    async with AsyncClient(kernel=kernel) as client:
        model = await client.load_model("echo")
        async with model.conversation(system="be brief") as talk:
            assert 640 == client.process._seat.account.nbytes
            assert "a b" == await talk.say("a b")
            async with talk.stream("c d") as stream:
                assert ["c", " d"] == [piece async for piece in stream]
        assert 0 == client.process._seat.account.nbytes
        with pytest.raises(HandleRevoked, match="closed"):
            await talk.say("more")

    assert ["system", "user", "assistant", "user", "assistant"] == [message["role"] for message in talk.messages]


async def test_async_conversations_side_by_side(kernel: Kernel) -> None:
    """Without ``async with`` the first turn opens the context; the conversations know nothing of each other."""
    async with AsyncClient(kernel=kernel) as client:
        model = await client.load_model("echo")
        talks = [model.conversation(tokens=20) for _ in range(5)]
        for turn in range(2):
            said = [f"{turn} {number}" for number in range(5)]
            assert said == await asyncio.gather(*(talk.say(text) for talk, text in zip(talks, said, strict=True)))
        assert 5 * 200 == client.process._seat.account.nbytes
        for talk in talks:
            talk.close()
        assert 0 == client.process._seat.account.nbytes

    assert [4] * 5 == [len(talk.messages) for talk in talks]


async def test_async_turn_that_is_cancelled(kernel: Kernel, echo: EchoBackend) -> None:
    """A cancelled coroutine takes its turn along, and the conversation goes on."""
    async with AsyncClient(kernel=kernel) as client:
        model = await client.load_model("echo")
        async with model.conversation() as talk:
            echo.gate.shut()
            asking = asyncio.ensure_future(talk.say("a b"))
            await asyncio.to_thread(echo.gate.wait_for_visitor)
            with pytest.raises(InvalidArgument, match="one turn after the other"):
                await talk.say("c")
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            echo.gate.open()

            assert "c" == await talk.say("c")
            assert 2 == len(talk.messages)


async def test_async_conversation_that_is_closed_while_it_opens(kernel: Kernel) -> None:
    """It gives back what it gets too late."""
    async with AsyncClient(kernel=kernel) as client:
        model = await client.load_model("echo")
        talk = model.conversation()
        asking = asyncio.ensure_future(talk.say("a"))
        await asyncio.sleep(0)  # it has begun, and waits for the control port's answer
        talk.close()
        with pytest.raises(HandleRevoked):
            await asking

        assert 0 == client.process._seat.account.nbytes


async def test_async_model_without_contexts(kernel: Kernel, echo: EchoBackend) -> None:
    """It says so, and converses without one."""
    async with AsyncClient(kernel=kernel) as client:
        model = await client.load_model("echo")
        echo.executors[0]._kept = 0
        with pytest.raises(InvalidArgument, match="tokens=0"):
            await model.conversation().say("a")
        async with model.conversation(tokens=0) as talk:
            assert "a b" == await talk.say("a b")
            assert TURN == talk.messages
