"""What an executor has done since it was loaded, in numbers that only grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.define
class Counts:
    """Counted by the thread that steps; any thread may read."""

    steps: int = 0
    runs: int = 0
    """Runs of the decoder graph."""
    run_seconds: float = 0.0
    """Time inside those runs."""
    step_seconds: float = 0.0
    """Time inside `step`, the runs included: what is left is the engine's own."""
    prefilled: int = 0
    """Prompt tokens computed."""
    decoded: int = 0
    """Tokens of output."""
    cached: int = 0
    """Prompt tokens that needed no prefill."""
    hits: int = 0
    """How often that was so: once for a task, and again where others had computed more of its prompt meanwhile."""
    replayed: int = 0
    """Tokens of output computed again after their cache was dropped."""
    guessed: int = 0
    """Tokens of output that were guessed and computed together with the one before them."""
    right: int = 0
    """How many of those were right; `decoded` counts them too."""

    swapped: int = 0
    """Caches of preempted tasks that were copied to host memory."""
    unswapped: int = 0
    """Those that found no room there and were dropped instead."""

    def spare(self, tokens: int) -> None:
        """Count *tokens* of a prompt that were found computed."""
        self.cached += tokens
        self.hits += tokens > 0

    def report(self) -> Mapping[str, Any]:
        """Return all counts by name, times in seconds."""
        return attrs.asdict(self)
