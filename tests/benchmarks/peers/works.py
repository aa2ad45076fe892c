"""What every engine is asked to do: prompts of random tokens, lengths, and the figure that comes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs

Requests = tuple[list[list[int]], list[int]]
"""Prompts, and how many tokens each is continued by."""
_PROMPT = 128
_SPECIAL = 3
"""Tokens below this may mean something to a tokenizer."""


@attrs.frozen(kw_only=True)
class Effort:
    """How much is done."""

    rounds: int
    long_rounds: int
    """Rounds of what takes long."""
    new: int
    """Tokens that each stream generates."""
    requests: int
    """Requests of the mixed work."""
    some: int
    """Of them, how many the engines get that run batch after batch: they need too long for all."""


FULL = Effort(rounds=3, long_rounds=2, new=64, requests=64, some=8)
QUICK = Effort(rounds=1, long_rounds=1, new=24, requests=16, some=4)


@attrs.frozen(kw_only=True)
class Work:
    """One thing to do."""

    name: str
    title: str
    requests: Callable[[random.Random, int], Requests]
    """Makes the requests for a vocabulary of so many tokens."""
    figure: Callable[[dict[str, Any], Requests], float]
    """Tokens per second, from a worker's report."""


def prompt(rng: random.Random, vocab: int, length: int) -> list[int]:
    """Return *length* random tokens."""
    return [rng.randrange(_SPECIAL, vocab) for _ in range(length)]


def decode(streams: int, new: int) -> Work:
    """*streams* prompts of 128 tokens at once; the figure counts what comes after each has its first token."""

    def requests(rng: random.Random, vocab: int) -> Requests:
        return [prompt(rng, vocab, _PROMPT) for _ in range(streams)], [new + 1] * streams

    name = "1 stream" if streams == 1 else f"{streams} streams"
    return Work(name=f"decode-{streams}", title=f"decode, {name}", requests=requests, figure=_decoded)


def prefill(length: int) -> Work:
    """One prompt of *length* tokens and one new token."""
    return Work(
        name=f"prefill-{length}", title=f"prefill of {length:,} tokens",
        requests=lambda rng, vocab: ([prompt(rng, vocab, length)], [1]),
        figure=lambda report, requests: float(length / report["seconds"]),
    )  # fmt: skip


def mixed(count: int) -> Work:
    """*count* requests at once, inputs and outputs of 32 to 256 tokens; the figure is output tokens per second."""

    def requests(rng: random.Random, vocab: int) -> Requests:
        sizes = [(rng.randint(32, 256), rng.randint(32, 256)) for _ in range(count)]
        return [prompt(rng, vocab, length) for length, _ in sizes], [new for _, new in sizes]

    return Work(
        name="requests", title=f"{count} requests of 32–256 in and out", requests=requests,
        figure=lambda report, requests: float(report["count"] / report["seconds"]),
    )  # fmt: skip


def _decoded(report: dict[str, Any], requests: Requests) -> float:
    return float(report["after"] / (report["seconds"] - report["first"]))
