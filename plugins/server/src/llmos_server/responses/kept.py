"""Responses that were answered, for those who go on from them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import attrs


@attrs.frozen
class Turn:
    """A response, and the whole conversation up to its end, without instructions."""

    response: dict[str, Any]
    said: tuple[dict[str, str], ...]

    @property
    def size(self) -> int:
        """Characters of the conversation."""
        return sum(len(message["content"]) for message in self.said)


class Kept:
    """The latest responses of one holder of a key, in memory: at most *count*, of at most *size* characters together.

    A conversation that goes on is kept whole with each of its responses; the oldest ones are forgotten first.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count, self._most = count, size
        self._turns: OrderedDict[str, Turn] = OrderedDict()
        self._size = 0

    def keep(self, response: dict[str, Any], said: Sequence[dict[str, str]]) -> None:
        """Keep *response*, which *said* leads up to, its own text included."""
        turn = Turn(response, tuple(said))
        self._turns[response["id"]] = turn
        self._size += turn.size
        while self._turns and (len(self._turns) > self._count or self._size > self._most):
            self.forget(next(iter(self._turns)))

    def find(self, id: str) -> Turn | None:
        """Return the response of that id, if it is still kept."""
        return self._turns.get(id)

    def forget(self, id: str) -> bool:
        """Forget the response of that id; return whether there was one."""
        turn = self._turns.pop(id, None)
        self._size -= 0 if turn is None else turn.size
        return turn is not None
