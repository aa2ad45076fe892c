"""One side of the comparison, in a process of its own: it asks, and prints how the answers came as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import attrs

from llmos import AsyncClient, load_settings
from llmos_server.options import ServerOptions
from tests.benchmarks.serving.asking import Answered, Ask, arriving, closed, embedded, over_http, wishes

MODEL = "measured"
WARM, SEED = 16, 1_000_000
"""Requests before it is measured, or a quarter of those that are: a place's memory is given to a process at its first
use, and Python makes quicker what it has run often.  And their seed."""


async def _ask(stack: AsyncExitStack, options: argparse.Namespace) -> Ask:
    """Return what asks the server, or a kernel of this process."""
    if options.url:
        parts = urlsplit(options.url)
        return await stack.enter_async_context(over_http(parts.hostname or "", parts.port or 0, MODEL))
    client = await stack.enter_async_context(AsyncClient(config=load_settings(options.settings)))
    pace = ServerOptions().pace_of(options.clients)  # as it is over HTTP
    return embedded(await client.load_model(MODEL), pace)


async def _run(options: argparse.Namespace) -> list[Answered]:
    async with AsyncExitStack() as stack:
        ask = await _ask(stack, options)
        warm = wishes(max(WARM, options.requests // 4), 2 * options.words, options.tokens, SEED + options.seed)
        await closed(ask, WARM, warm)
        asked = wishes(options.requests, options.words, options.tokens, options.seed)
        if options.rate:
            return await arriving(ask, options.rate, asked, options.seed)
        return await closed(ask, options.clients, asked)


def main() -> None:
    """Do as told."""
    parser = argparse.ArgumentParser(description="Ask a model, and tell how the answers came.")
    parser.add_argument("--settings", help="a file of settings: ask a kernel of this process")
    parser.add_argument("--url", default="", help="ask this server instead")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second, instead of clients that wait")
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--words", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=128, help="on average; as many as vLLM's benchmark asks for")
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps([attrs.asdict(one) for one in asyncio.run(_run(parser.parse_args()))]))


if __name__ == "__main__":
    main()
