"""Host memory for the caches of tasks that lost their slots: bounded, and told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt


class Swap:
    """Caches by task, of *most* bytes together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._caches: dict[int, npt.NDArray[Any]] = {}

    @property
    def used(self) -> int:
        """Bytes that lie here."""
        return sum(cache.nbytes for cache in list(self._caches.values()))

    def fits(self, nbytes: int) -> bool:
        """Return whether *nbytes* more may be put here."""
        return self.used + nbytes <= self.most

    def put(self, id: int, cache: npt.NDArray[Any]) -> None:
        """Keep the *cache* of the task *id*."""
        self._caches[id] = cache

    def get(self, id: int) -> npt.NDArray[Any] | None:
        """Return the cache of the task *id*, or None where it has none here."""
        return self._caches.get(id)

    def forget(self, id: int) -> None:
        """Give up the cache of the task *id*, if it has one here."""
        self._caches.pop(id, None)
