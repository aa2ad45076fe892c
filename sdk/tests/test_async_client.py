"""The client for asyncio: the same answers and errors."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmos import AsyncClient, AsyncModel, call_async
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig, control
from llmos_kernel.errors import (
    HandleRevoked, InvalidArgument, KernelError, ModelUnavailable, NotFound, PortClosed, TaskFailed,
)  # fmt: skip


@pytest.fixture
async def client(kernel: Kernel) -> AsyncIterator[AsyncClient]:
    """A client of the echo kernel."""
    async with AsyncClient(kernel=kernel) as made:
        yield made


@pytest.fixture
async def model(client: AsyncClient) -> AsyncModel:
    """The echo model."""
    return await client.load_model("echo")


async def test_text(model: AsyncModel) -> None:
    """One answer, or a list of them."""
    assert "a b" == await model.generate_text("a b c", max_length=2)
    assert ["a b"] * 3 == await model.generate_text("a b", n=3)


async def test_many_at_once(model: AsyncModel) -> None:
    """Concurrent callers get their own answers."""
    answers = await asyncio.gather(*(model.generate_text(f"it is {number}") for number in range(32)))

    assert [f"it is {number}" for number in range(32)] == answers


async def test_chat_embed_and_tokens(model: AsyncModel) -> None:
    """The other task kinds."""
    assert ("hello", [2.0, 3.0]) == (await model.chat("hello"), await model.embed("a b"))
    assert "a b" == await model.detokenize(await model.tokenize("a b"))


async def test_stream(model: AsyncModel) -> None:
    """Pieces by ``async for``, the whole by `result`."""
    stream = model.stream("a b c")

    assert ["a", " b", " c"] == [piece async for piece in stream]
    assert "a b c" == await stream.result()
    assert "hi there" == await model.chat_stream("hi there").result()


async def test_leaving_the_stream_cancels(model: AsyncModel, client: AsyncClient, echo: EchoBackend) -> None:
    """The task ends with the block, and its whole is never there."""
    echo.gate.shut()
    async with model.stream("a b c") as stream:
        assert 1 == sum((await client.control("Stats"))["tasks"].values())
    tasks = (await client.control("Stats"))["tasks"]
    echo.gate.open()

    assert {} == tasks
    with pytest.raises(PortClosed):
        await stream.result()


async def test_dropping_the_stream_cancels(model: AsyncModel, client: AsyncClient, echo: EchoBackend) -> None:
    """A stream that nobody holds any more does not go on."""
    echo.faults.on_step = lambda number, plan: echo.gate.shut() if number == 2 else None
    stream = model.stream("a b c")
    await anext(stream)
    await asyncio.to_thread(echo.gate.wait_for_visitor)
    del stream
    gc.collect()
    tasks = (await client.control("Stats"))["tasks"]
    echo.gate.open()

    assert {} == tasks


async def test_cancelling_the_caller_cancels_the_task(
    model: AsyncModel, client: AsyncClient, echo: EchoBackend
) -> None:
    """A cancelled coroutine takes its task along."""
    echo.gate.shut()
    waiting = asyncio.ensure_future(model.generate_text("a b"))
    await asyncio.to_thread(echo.gate.wait_for_visitor)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    tasks = (await client.control("Stats"))["tasks"]
    echo.gate.open()

    assert {} == tasks


async def test_failures_are_the_same(client: AsyncClient, model: AsyncModel, echo: EchoBackend) -> None:
    """Unknown models, bad options, failing rows and failing functions are the errors that threads get."""
    with pytest.raises(NotFound):
        await client.load_model("ecko")
    with pytest.raises(InvalidArgument, match="max_tokens"):
        await model.generate_text("a", max_tokens=0)
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        await client.call(lambda: 1 / 0)
    echo.faults.row = (0, KernelError("broken row"))
    with pytest.raises(KernelError, match="broken row"):
        await model.generate_text("a")


async def test_call_takes_coroutine_functions(client: AsyncClient) -> None:
    """They run on the kernel's own event loop."""

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    assert 42 == await client.call(double, 21)
    assert 42 == await client.result(await client.submit(double, 21))


async def test_models_and_control(client: AsyncClient, model: AsyncModel) -> None:
    """What the kernel knows, through messages."""
    assert {"echo", "echo-2"} == {info.name for info in await client.models()}
    assert "loaded" == (await model.info()).state
    assert "running" == (await call_async(client.process, client.process.control, control.Stats()))["state"]


async def test_a_closed_model_is_closed(client: AsyncClient) -> None:
    """Its handle is gone."""
    async with await client.load_model("echo") as model:
        pass

    with pytest.raises(HandleRevoked):
        await model.generate_text("a")


async def test_a_name_that_looks_like_a_path() -> None:
    """A model that is offered under it is meant, where there is no such folder."""
    config = KernelConfig(models=(echo_spec("org/model"),))
    with Kernel(config, plugins=[EchoBackend(), FirstComePlugin()]) as kernel:
        async with AsyncClient(kernel=kernel) as client:
            assert "org/model" == (await client.load_model("org/model")).name
            with pytest.raises(ModelUnavailable, match="org/absent is no model folder"):
                await client.load_model("org/absent")


async def test_a_folder_that_is_none(client: AsyncClient, tmp_path: Path) -> None:
    """A path that is no model folder is refused by name."""
    with pytest.raises(KernelError, match=r"llmos\.json"):
        await client.load_model(tmp_path)
