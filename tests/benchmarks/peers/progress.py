"""What a worker reports of one piece of work.  Runs in every peer's environment: standard library only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol


class Progress:
    """Collects tokens as they come."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._begin = time.perf_counter()
        self._tokens: list[list[int]] = [[] for _ in lengths]

    def add(self, request: int, token: int) -> bool:
        """Note a token of a request and return whether it wants more; what is beyond its length is not counted."""
        tokens = self._tokens[request]
        if len(tokens) == self._lengths[request]:
            return False
        tokens.append(token)
        return len(tokens) < self._lengths[request]

    def report(self) -> dict[str, Any]:
        """Return the seconds that it took, and the tokens."""
        return {"seconds": time.perf_counter() - self._begin, "tokens": self._tokens}


class Engine(Protocol):
    """A loaded model.  Greedy, and it does not stop at an end token."""

    def generate(self, prompts: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        """Continue each prompt by exactly so many tokens, as many at once as it can; return `Progress.report`."""
