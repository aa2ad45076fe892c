"""A line of tasks in order of rank: the one container that every policy queues in."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TypeAlias

import attrs

Rank: TypeAlias = tuple[tuple[float, ...], int]
"""Where a task stands, and its id.  Smaller is sooner; the id decides between equals, so that no two runs differ."""


@attrs.define(eq=False)
class Line:
    """Tasks in order of rank.

    A sorted list and not a heap: a task that was refused a place stands where it stood without being pushed back, a
    cancelled one leaves from the middle, and the last in line (who yields first) is as near as the first.
    """

    _ranks: list[Rank] = attrs.field(factory=list, init=False)

    def __len__(self) -> int:
        """Return how many stand in line."""
        return len(self._ranks)

    def join(self, rank: Rank) -> None:
        """Stand in line.  A task joins once."""
        insort(self._ranks, rank)

    def leave(self, rank: Rank) -> None:
        """Leave the line; the rank is the one that the task joined with."""
        del self._ranks[bisect_left(self._ranks, rank)]

    def first(self, count: int, skip: int = 0) -> list[Rank]:
        """Return the ranks of the next *count* tasks behind the first *skip*, without changing the line."""
        return self._ranks[skip : skip + max(count, 0)]

    def last(self, count: int) -> list[Rank]:
        """Return the ranks of the last *count* tasks, the very last first, without changing the line."""
        return self._ranks[: -count - 1 : -1]
