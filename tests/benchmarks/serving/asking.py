"""Ways to ask a model for texts, and how long each answer took: in this process, and over HTTP."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs

from llmos import AsyncModel

WORDS = "one two red bird hill river stone cloud house green seven small night morning letter garden".split()


@attrs.frozen
class Answered:
    """How an answer came.  Times are in seconds."""

    began: float
    """When it was asked for, on the clock of its process."""
    first: float
    """From then to the first piece of text."""
    total: float
    """From then to the end."""
    tokens: int
    error: str = ""


LAST = b"0\r\n"
"""What ends a body in chunks, before an empty line (RFC 9112, section 7.1)."""

KEPT = 1.0
"""Seconds for which a connection that nothing goes through is kept: fewer than servers do."""

Ask = Callable[[str, int], Coroutine[Any, Any, Answered]]
"""Asks for so many tokens after a prompt."""


Wish = tuple[str, int]
"""A prompt, and how many tokens are asked for after it."""


def wishes(count: int, words: int, tokens: int, seed: int) -> list[Wish]:
    """Return prompts that begin differently, so that no prefix is shared; half to one and a half times *tokens* each.

    Answers of one length would end together, and the clients of a closed loop go in step from then on.
    """
    rng = random.Random(seed)
    return [(" ".join(rng.choices(WORDS, k=words)), rng.randint(tokens // 2, tokens * 3 // 2)) for _ in range(count)]


def embedded(model: AsyncModel, pace: float) -> Ask:
    """Return what asks *model* for pieces at a *pace*."""

    async def ask(prompt: str, tokens: int) -> Answered:
        began = time.perf_counter()
        first = 0.0
        known = {"ignore_eos": True}
        async with model.stream(prompt, max_tokens=tokens, temperature=0.0, pace=pace, params=known) as stream:
            async for piece in stream:
                if piece and not first:
                    first = time.perf_counter() - began
            whole = await stream.result()
        return Answered(began, first, time.perf_counter() - began, whole.usage.generated)

    return ask


@asynccontextmanager
async def over_http(host: str, port: int, model: str) -> AsyncIterator[Ask]:
    """Yield what asks a server for completions, without a library that costs time of its own.

    As the clients of people's programs do, it keeps its connections: an answer that is whole leaves one for the next,
    as long as servers keep them.
    """
    idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(prompt: str, tokens: int) -> Answered:
        wish = {
            "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0.0, "stream": True,
            "stream_options": {"include_usage": True}, "ignore_eos": True,
        }  # fmt: skip
        body = json.dumps(wish).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        began = time.perf_counter()
        while idle and idle[-1][0] < began - KEPT:
            idle.pop()[2].close()
        _, reader, writer = idle.pop() if idle else (began, *await asyncio.open_connection(host, port))
        try:
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answered = await _answer(reader, began)
        except BaseException:
            writer.close()
            raise
        if answered.error or reader.at_eof():
            writer.close()
        else:
            idle.append((time.perf_counter(), reader, writer))
        return answered

    try:
        yield ask
    finally:
        for _, _, writer in idle:
            writer.close()
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, began: float) -> Answered:
    """Read the events; whatever is between them is the transfer's.

    A server that does not say how many tokens it used sends a piece for each.
    """
    first, generated, pieces = 0.0, 0, 0
    status = (await reader.readline()).split()[1:2]
    if status != [b"200"]:
        return Answered(began, 0.0, time.perf_counter() - began, 0, b" ".join(status).decode() or "cut off")
    async for line in reader:
        if line == LAST:
            await reader.readline()
            break
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        pieces += bool(event["choices"])
        if not first and event["choices"] and event["choices"][0]["text"]:
            first = time.perf_counter() - began
        if event.get("usage"):
            generated = event["usage"]["completion_tokens"]
    generated = generated or pieces
    return Answered(began, first, time.perf_counter() - began, generated, "" if generated else "cut off")


# --- who asks when -----------------------------------------------------------------------------------------------


async def closed(ask: Ask, clients: int, asked: Sequence[Wish]) -> list[Answered]:
    """Ask for everything, with so many clients each of which asks again when it was answered."""
    waiting, found = iter(asked), list[Answered]()

    async def client() -> None:
        for text, tokens in waiting:
            found.append(await ask(text, tokens))

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return found


async def arriving(ask: Ask, rate: float, asked: Sequence[Wish], seed: int) -> list[Answered]:
    """Ask for everything at random times, *rate* a second, however many are not answered yet."""
    rng, loop, at, asking = random.Random(seed), asyncio.get_running_loop(), 0.0, list[asyncio.Task[Answered]]()
    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        for text, tokens in asked:
            at += rng.expovariate(rate)
            await asyncio.sleep(begun + at - loop.time())
            asking.append(group.create_task(ask(text, tokens)))
    return [one.result() for one in asking]
