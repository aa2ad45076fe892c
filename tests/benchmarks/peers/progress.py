"""What a worker reports of one piece of work.  Runs in every peer's environment: standard library only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol


class Progress:
    """Collects tokens as they come, and when the last request got its first one."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._begin = time.perf_counter()
        self._without = len(lengths)
        self._first = 0.0
        self._early = 0
        self._tokens: list[list[int]] = [[] for _ in lengths]

    def add(self, request: int, token: int) -> bool:
        """Note a token of a request and return whether it wants more; what is beyond its length is not counted."""
        tokens = self._tokens[request]
        if len(tokens) == self._lengths[request]:
            return False
        if not tokens:
            self._without -= 1
        tokens.append(token)
        return len(tokens) < self._lengths[request]

    def step(self) -> None:
        """Note that a step has ended, and with it perhaps the time until every request had its first token."""
        if not self._without and not self._first:
            self._first = time.perf_counter() - self._begin
            self._early = sum(map(len, self._tokens))

    def report(self) -> dict[str, Any]:
        """Return seconds in all, seconds until every request had a token, tokens after that, and the tokens."""
        seconds = time.perf_counter() - self._begin
        count = sum(map(len, self._tokens))
        return {
            "seconds": seconds, "first": self._first, "count": count, "after": count - self._early,
            "tokens": self._tokens,
        }  # fmt: skip


class Engine(Protocol):
    """A loaded model.  Greedy, and it does not stop at an end token."""

    def generate(self, prompts: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        """Continue each prompt by exactly so many tokens, as many at once as it can; return `Progress.report`."""
