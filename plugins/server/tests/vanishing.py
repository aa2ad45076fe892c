"""Clients that go away at any moment of a request, and what a server has left of them."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from typing import Any

RESET = struct.pack("ii", 1, 0)
"""Of SO_LINGER: a connection that is closed is reset, as that of a program that was killed may be."""
MOMENTS = ("connected", "head", "half a head", "half a body", "asked", "answered", "between tokens", "end")
"""When clients go; the last one stays to the end."""
WORDS = 60
MESSAGES = [{"role": "user", "content": " ".join(["word"] * WORDS)}]
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True, "n": 4}),
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/completions", {"prompt": ["a b c"] * 4, "n": 2}),
    ("/v1/responses", {"input": MESSAGES, "stream": True, "store": False}),
    ("/v1/embeddings", {"input": ["a b"] * 8}),
    ("/api/chat", {"messages": MESSAGES}),
    ("/api/generate", {"prompt": "a b c"}),
)


def request(path: str, body: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return head and body of a request, after whose answer the connection is done with."""
    content = json.dumps({"model": "toy", **body}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode(), content


async def vanish(address: tuple[str, int], chance: random.Random) -> str:
    """Be one client, and return when it went."""
    moment = chance.choice(MOMENTS)
    head, body = request(*chance.choice(ASKED))
    reset = chance.random() < 0.5
    part = {
        "connected": b"", "head": head, "half a head": head[: chance.randrange(1, len(head))],
        "half a body": head + body[: chance.randrange(len(body))],
    }.get(moment, head + body)  # fmt: skip
    pieces = chance.randrange(1, 40)
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(part)
        await writer.drain()
        if moment == "answered":
            await reader.read(16)
        elif moment == "between tokens":
            for _ in range(pieces):
                if not await reader.read(200):
                    break
        elif moment == "end":
            await reader.read(-1)
    finally:
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    return moment


async def vanish_all(address: tuple[str, int], count: int, seed: int, at_once: int = 32) -> Counter[str]:
    """Be *count* clients, *at_once* at the same time; return how many went when."""
    chance, left, went = random.Random(seed), iter(range(count)), Counter[str]()

    async def some() -> None:
        for _ in left:
            went[await vanish(address, chance)] += 1

    await asyncio.gather(*(some() for _ in range(at_once)))
    return went
