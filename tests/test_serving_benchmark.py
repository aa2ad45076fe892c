"""The benchmark of serving: what it makes of answers, and its judgement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.benchmarks.serving.__main__ import Figures
from tests.benchmarks.serving.asking import Answered, closed, over_http, wishes
from tests.benchmarks.serving.report import goals, markdown

EVENTS = (
    b'data: {"choices": [{"text": ""}]}\n\n', b'data: {"choices": [{"text": "a"}]}\n\n',
    b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\n', b"data: [DONE]\n\n",
)  # fmt: skip


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def ask_two_at_once(serve: Serve, count: int) -> list[Answered]:
    """Have two clients ask a server *count* times together."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with over_http(host, port, "m") as ask:
            return await closed(ask, 2, wishes(count, 4, 7, 0))


def test_figures_are_of_the_answers_that_came() -> None:
    """Rates are over the time from the first question to the last answer; failures are counted and left out."""
    answers = [
        Answered(began=0.0, first=0.5, total=2.5, tokens=5), Answered(began=1.0, first=1.0, total=3.0, tokens=3),
        Answered(began=1.0, first=0.0, total=0.1, tokens=0, error="429"),
    ]  # fmt: skip
    found = Figures.of(answers)

    assert (3, 1, 2.0, 0.5) == (found.n, found.failed, found.tokens_per_second, found.requests_per_second)
    assert (0.75, 0.75) == (found.first_p50, found.between_p50)


@pytest.mark.parametrize(("status", "error"), [(b"200 OK", ""), (b"429 Too Many Requests", "429")])
def test_an_answer_is_read_from_its_events(status: bytes, error: str) -> None:
    """The tokens are those that the server counts, and a refusal is an error with its status."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines([b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n", *EVENTS])
        writer.close()

    found = asyncio.run(ask_two_at_once(serve, 3))

    assert [error] * 3 == [one.error for one in found]
    assert all(one.tokens == (0 if error else 7) for one in found)


def test_connections_are_kept() -> None:
    """Each client asks through one of its own, as long as answers say where they end."""
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while b"POST" in await reader.readline():
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
            chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS]
            writer.writelines([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n"])
        writer.close()

    found = asyncio.run(ask_two_at_once(serve, 8))

    assert [""] * 8 == [one.error for one in found]
    assert [7] * 8 == [one.tokens for one in found]
    assert 2 == opened


def test_wishes() -> None:
    """The same again for the same seed; half to one and a half times as many tokens as are told."""
    found = wishes(50, 4, 10, 1)

    assert wishes(50, 4, 10, 1) == found
    assert wishes(50, 4, 10, 2) != found
    assert {4} == {len(text.split()) for text, _ in found}
    assert (5, 15) == (min(tokens for _, tokens in found), max(tokens for _, tokens in found))


def test_what_serving_costs_is_judged() -> None:
    """Medians of the rounds, each side beside the other of the same round."""
    way = {"n": 1, "failed": 0, "requests_per_second": 1.0, "first_p95": 0.2, "between_p50": 0.01}

    def both(served: float, first: float) -> dict[str, Any]:
        return {
            "embedded": {**way, "tokens_per_second": 100.0, "first_p50": 0.1},
            "served": {**way, "tokens_per_second": served, "first_p50": first},
        }

    one = {"closed": both(96.0, 0.105), "open": both(90.0, 0.101), "short": both(80.0, 0.1)}
    odd = {"closed": both(10.0, 0.9), "open": both(10.0, 0.9), "short": both(10.0, 0.9)}
    run: dict[str, Any] = {
        "model": "m", "threads": 1, "rounds": [one, odd, one], "idle": {"streams": 1000, "bytes": 3e8},
        "machine": {"cpu": "a processor", "cores": 2, "python": "3.11", "date": "2026-01-02"},
        "crowds": [{**way, "clients": 4, "tokens_per_second": 90.0, "first_p50": 0.1}], "loads": [], "peers": {},
    }  # fmt: skip
    met = {name for name, (_, met) in goals(run).items() if met}
    table = markdown([run])

    assert {"cost", "added, open"} == met
    assert "| throughput that serving costs (≤ 5%) | 4.0% met |" in table
    assert "| the same, of answers of 8 tokens | 20.0% |" in table
    assert "| first token later by (≤ 2 ms), requests come by themselves | 1.0 ms met |" in table
    assert "| first token later by (≤ 2 ms), 16 clients in a closed loop | 5.0 ms missed |" in table
    assert "| memory of 1,000 streams that wait (≤ 200 MB) | 300 MB missed |" in table
