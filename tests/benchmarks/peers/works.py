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
    requests: Callable[[random.Random, int], list[Requests]]
    """Makes the requests for a vocabulary of so many tokens: one set, or a smaller one and a larger one."""
    tokens: Callable[[Requests], int]
    """What of a set is counted."""

    def figure(self, asked: list[Requests], reports: list[dict[str, Any]]) -> float:
        """Return tokens per second from a worker's reports; of two sets, of what the larger has more."""
        counts = [self.tokens(requests) for requests in asked]
        seconds = [float(report["seconds"]) for report in reports]
        if len(asked) == 1:
            return counts[0] / seconds[0]
        return (counts[1] - counts[0]) / (seconds[1] - seconds[0])


def answered(requests: Requests) -> int:
    """Return the tokens that the answers have."""
    return sum(requests[1])


def prompt(rng: random.Random, vocab: int, length: int) -> list[int]:
    """Return *length* random tokens."""
    return [rng.randrange(_SPECIAL, vocab) for _ in range(length)]


def decode(new: int) -> Work:
    """One prompt of 128 tokens; the figure is what *new* more tokens cost: the difference of two runs."""

    def requests(rng: random.Random, vocab: int) -> list[Requests]:
        return [([prompt(rng, vocab, _PROMPT)], [length]) for length in (1, 1 + new)]

    return Work(name="decode-1", title="decode, 1 stream", requests=requests, tokens=answered)


def streams(count: int, new: int) -> Work:
    """*count* prompts of 128 tokens at once, each answered by *new*; the figure is all answers over all the time.

    How much of it is reading cannot be told apart: an engine may answer some while it still reads others.
    """
    return Work(
        name=f"streams-{count}", title=f"{count} streams, {_PROMPT} tokens in and {new} out",
        requests=lambda rng, vocab: [([prompt(rng, vocab, _PROMPT) for _ in range(count)], [new] * count)],
        tokens=answered,
    )  # fmt: skip


def prefill(length: int) -> Work:
    """One prompt of *length* tokens and one new token."""
    return Work(
        name=f"prefill-{length}", title=f"prefill of {length:,} tokens",
        requests=lambda rng, vocab: [([prompt(rng, vocab, length)], [1])], tokens=lambda requests: length,
    )  # fmt: skip


def mixed(count: int) -> Work:
    """*count* requests at once, inputs and outputs of 32 to 256 tokens; the figure is output tokens per second."""

    def requests(rng: random.Random, vocab: int) -> list[Requests]:
        sizes = [(rng.randint(32, 256), rng.randint(32, 256)) for _ in range(count)]
        return [([prompt(rng, vocab, length) for length, _ in sizes], [new for _, new in sizes])]

    return Work(
        name="requests", title=f"{count} requests of 32–256 in and out", requests=requests,
        tokens=answered,
    )  # fmt: skip
