"""Several answers side by side, in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Iterator

import attrs
import pytest

from llmos import AsyncClient, AsyncModel, Client, Model, Piece
from llmos.testing import EchoBackend
from llmos_kernel import Kernel, Plan
from llmos_kernel.errors import DeadlineExceeded, InvalidArgument, KernelError, PortClosed


@pytest.fixture
def echo() -> EchoBackend:
    """The backend of the `kernel` fixture: two rows."""
    return EchoBackend(rows=2)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Readers end with their streams."""
    yield
    gc.collect()
    for thread in readers():
        thread.join(10)
    assert [] == readers()


def by_answer(pieces: list[Piece]) -> dict[int, list[str]]:
    """Return the pieces of each answer."""
    return {index: [str(piece) for piece in pieces if piece.answer == index] for index in range(4)}


def test_pieces_say_whose_they_are(model: Model) -> None:
    """Four answers, more than the model has rows: the pieces of each come in order, and together they are the whole."""
    with model.stream("a b c", n=4, max_tokens=2) as streams:
        pieces = list(streams)

    assert {answer: ["a", " b"] for answer in range(4)} == by_answer(pieces)
    assert ["a b"] * 4 == streams.result() == streams.texts == streams.texts_so_far
    assert [("length", 3, 2)] * 4 == [
        (text.finish, text.usage.prompt, text.usage.generated) for text in streams.result()
    ]
    assert 4 == len({text.task for text in streams.result()})


def test_seeds_count_up(model: Model, echo: EchoBackend) -> None:
    """As those of answers that come whole."""
    model.stream("a", n=3, seed=5).result()

    assert [5, 6, 7] == sorted(task.params["seed"] for task in echo.executors[0].tasks)


def test_one_is_a_list_of_one(model: Model) -> None:
    """And none is refused."""
    assert ["a b"] == model.stream("a b", n=1).result()
    with pytest.raises(InvalidArgument, match="n must be"):
        model.stream("a", n=0)


def test_chat_streams_too(model: Model) -> None:
    """A conversation has several answers as well."""
    assert ["hi there"] * 2 == model.chat_stream("hi there", n=2).result()


def readers() -> list[threading.Thread]:
    """Return the threads that read for streams."""
    return [thread for thread in threading.enumerate() if thread.name == "llmos-stream"]


def test_whole_answers_are_there_before_the_last(model: Model, echo: EchoBackend) -> None:
    """While one answer goes on, others have their finish and usage."""
    executor = echo.executors[0]
    executor._limits = attrs.evolve(executor._limits, rows=1)  # one after the other

    def hold(number: int, plan: Plan) -> None:
        if plan.decode and len(executor.known) == 1 and len(executor.tasks) == 3:
            echo.gate.shut()

    echo.faults.on_step = hold
    with model.stream("a b", n=3) as streams:
        echo.gate.wait_for_visitor()
        pieces = [next(streams) for _ in range(5)]
        while len(alive := readers()) > 1:
            alive[0].join(0.01)
        echo.faults.on_step = None
        echo.gate.open()
        pieces.append(next(streams))

        assert 2 == sum(text is not None for text in streams.texts)
    assert ["a b", "a b", "a b"] == streams.texts_so_far
    assert " b" == pieces[-1]


def test_leaving_cancels_all(model: Model, client: Client, echo: EchoBackend) -> None:
    """What was read stays; no task goes on; the whole is never there."""
    echo.faults.on_step = lambda number, plan: echo.gate.shut() if number == 2 else None
    with model.stream("a b c", n=3) as streams:
        next(streams)
        echo.gate.wait_for_visitor()
    tasks = client.control("Stats")["tasks"]
    echo.gate.open()

    assert {} == tasks
    assert [] == list(streams)
    with pytest.raises(PortClosed):
        streams.result()


def test_dropping_cancels_all(model: Model, client: Client, echo: EchoBackend) -> None:
    """Streams that nobody holds any more do not go on: the next use of the client ends their tasks."""
    echo.gate.shut()
    streams = model.stream("a b c", n=3)
    echo.gate.wait_for_visitor()
    del streams
    gc.collect()
    tasks = client.control("Stats")["tasks"]
    echo.gate.open()

    assert {} == tasks


def test_answer_that_fails_ends_all(model: Model, client: Client, echo: EchoBackend) -> None:
    """The error is raised once it is reached, and again instead of the whole."""
    echo.faults.row = (1, KernelError("broken row"))
    streams = model.stream("a b c", n=3)
    with pytest.raises(KernelError, match="broken row"):
        list(streams)
    with pytest.raises(KernelError, match="broken row"):
        streams.result()

    assert {} == client.control("Stats")["tasks"]


def test_a_wait_that_ends_early_can_be_repeated(model: Model, echo: EchoBackend) -> None:
    """`DeadlineExceeded` of one wait leaves the streams alone; it is raised when no answer had a piece."""
    echo.gate.shut()
    streams = model.stream("a b", n=3, timeout=0.05)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            next(streams)
    echo.gate.open()

    while True:
        with contextlib.suppress(DeadlineExceeded):  # a busy machine may be slow again
            assert ["a b"] * 3 == streams.result()
            break


def test_task_that_misses_its_deadline(model: Model, echo: EchoBackend) -> None:
    """Its error is not taken for a wait that can be repeated."""
    echo.faults.row = (0, DeadlineExceeded("did not end in time"))
    streams = model.stream("a b", n=2)
    for read in (streams.__next__, streams.result):
        with pytest.raises(DeadlineExceeded, match="did not end"):
            read()


# --- asyncio -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def aclient(kernel: Kernel) -> AsyncIterator[AsyncClient]:
    """A client of the echo kernel."""
    async with AsyncClient(kernel=kernel) as made:
        yield made


@pytest.fixture
async def amodel(aclient: AsyncClient) -> AsyncModel:
    """The echo model."""
    return await aclient.load_model("echo")


async def test_async_pieces(amodel: AsyncModel) -> None:
    """By ``async for``; the whole by `result`."""
    streams = amodel.stream("a b c", n=4, max_tokens=2)
    pieces = [piece async for piece in streams]

    assert {answer: ["a", " b"] for answer in range(4)} == by_answer(pieces)
    assert ["a b"] * 4 == await streams.result() == streams.texts == streams.texts_so_far
    assert ["hi"] * 2 == await amodel.chat_stream("hi", n=2).result()


async def test_async_leaving_cancels_all(amodel: AsyncModel, aclient: AsyncClient, echo: EchoBackend) -> None:
    """The tasks end with the block."""
    echo.faults.on_step = lambda number, plan: echo.gate.shut() if number == 2 else None
    async with amodel.stream("a b c", n=3) as streams:
        await anext(streams)
        await asyncio.to_thread(echo.gate.wait_for_visitor)
    tasks = (await aclient.control("Stats"))["tasks"]
    echo.gate.open()

    assert {} == tasks
    with pytest.raises(PortClosed):
        await streams.result()


async def test_async_dropping_cancels_all(amodel: AsyncModel, aclient: AsyncClient, echo: EchoBackend) -> None:
    """Streams that nobody holds any more do not go on."""
    echo.faults.on_step = lambda number, plan: echo.gate.shut() if number == 2 else None
    streams = amodel.stream("a b c", n=3)
    await anext(streams)
    await asyncio.to_thread(echo.gate.wait_for_visitor)
    del streams
    gc.collect()
    tasks = (await aclient.control("Stats"))["tasks"]
    echo.gate.open()

    assert {} == tasks


async def test_async_closing_from_outside(amodel: AsyncModel, echo: EchoBackend) -> None:
    """A reader that waits hears the end when somebody else closes the streams."""
    echo.gate.shut()
    streams = amodel.stream("a b", n=2)
    reading = asyncio.ensure_future(anext(streams))
    await asyncio.to_thread(echo.gate.wait_for_visitor)
    streams.close()
    with pytest.raises(StopAsyncIteration):
        await reading
    echo.gate.open()


async def test_async_failures(amodel: AsyncModel, aclient: AsyncClient, echo: EchoBackend) -> None:
    """A wait that ends early can be repeated; a task that fails ends all."""
    echo.gate.shut()
    streams = amodel.stream("a b", n=3, timeout=0.05)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await anext(streams)
    echo.gate.open()
    while True:
        with contextlib.suppress(DeadlineExceeded):  # a busy machine may be slow again
            assert ["a b"] * 3 == await streams.result()
            break

    echo.faults.row = (1, KernelError("broken row"))
    streams = amodel.stream("a b c", n=3)
    with pytest.raises(KernelError, match="broken row"):
        await streams.result()
    with pytest.raises(KernelError, match="broken row"):
        await streams.result()
    assert {} == (await aclient.control("Stats"))["tasks"]
