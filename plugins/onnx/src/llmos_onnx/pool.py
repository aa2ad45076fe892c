"""The key and value cache: one buffer, one place (slot) per running sequence.

A batch of the decoder must lie in adjacent slots, because each layer's cache is bound by one pointer.  Two rules keep
it so:

- **Before a step the taken slots are 0 … n - 1.**  Ended sequences leave holes; new ones fill them, and what is still a
  hole when the next step begins gets the last sequence (`llmos_onnx.places`).  That reads and writes one sequence's
  cache once, about what attention itself reads of it in two steps; in return a step never carries empty rows.
- **A sequence that rests inside the batch is carried along as a filler.**  A stalled or preempted row, or one whose
  prompt is still being computed, may lie between two that decode.  A row costs a few percent of a step, a second run
  costs a whole one.  A filler is given its own committed length, so attention writes its key and value at the first
  position *after* what is committed, where the next real token will overwrite it; nothing that counts is touched.

A position is written before it is ever read, so slots are not cleared between sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np

from llmos_kernel.errors import KernelBug
from llmos_onnx.cache import Cache, HostCache

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt


class CacheShape(Protocol):
    """The sizes of a decoder's key and value cache."""

    @property
    def layers(self) -> int:
        """Layers with keys and values of their own."""

    @property
    def kv_heads(self) -> int:
        """Heads of keys, and of values."""

    @property
    def head_dim(self) -> int:
        """Numbers per head and position."""


def token_bytes(shape: CacheShape, kv: str = "float32") -> int:
    """Return the bytes of cache that one token takes: keys and values of every layer, each of the numpy type *kv*."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * np.dtype(kv).itemsize


@attrs.frozen
class PoolSize:
    """How many sequences of how many tokens fit."""

    slots: int
    context: int
    """Longest sequence in tokens."""
    nbytes: int
    swap: int = 0
    """Bytes of host memory beside it, for caches that lost their slots."""

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's cache."""
        return self.nbytes // (self.slots * self.context)


class KvPool:
    """Slots for ``size.slots`` sequences of up to ``size.context`` tokens, and who holds them.

    *kv* is the numpy type of the cache, as the manifest says.  Memory is taken from the system as it is first written,
    not when the pool is made.
    """

    def __init__(
        self, shape: CacheShape, size: PoolSize, kv: str = "float32", make: Callable[..., Cache] = HostCache
    ) -> None:
        """Take memory by *make*, which is given the cache's shape and type."""
        self.size = size
        self.row_shape = (shape.kv_heads, size.context, shape.head_dim)
        self.dtype: np.dtype[Any] = np.dtype(kv)
        """Type of the cache's elements."""
        self.lengths = np.zeros(size.slots, np.int32)
        """Committed tokens per slot; 0 where nobody holds it."""
        self.next_tokens = np.zeros(size.slots, np.int64)
        """Token that each slot's next decode step reads."""
        self._owners: list[int | None] = [None] * size.slots
        self._cache = make((2 * shape.layers, size.slots, *self.row_shape), self.dtype)
        self.device = self._cache.device
        """What the runtime calls the kind of memory that the cache lies in."""

    @property
    def used(self) -> int:
        """Number of taken slots."""
        return self.size.slots - self.free

    @property
    def free(self) -> int:
        """Number of slots that could be taken now."""
        return self._owners.count(None)

    def owner(self, slot: int) -> int | None:
        """Return the task that holds *slot*."""
        return self._owners[slot]

    def first_free(self) -> int | None:
        """Return the lowest free slot, or None when all are taken."""
        return self._owners.index(None) if None in self._owners else None

    def last_taken(self) -> int:
        """Return the highest taken slot, or -1 when all are free."""
        return next((slot for slot in reversed(range(self.size.slots)) if self._owners[slot] is not None), -1)

    def pointers(self, slot: int) -> list[int]:
        """Return the addresses of *slot* in each buffer: layer 0 keys, layer 0 values, layer 1 keys, ..."""
        return self._cache.pointers(slot)

    def take(self, slot: int, owner: int, length: int = 0) -> None:
        """Give the free *slot*, of whose content *length* tokens are its own, to the task *owner*."""
        if self._owners[slot] is not None:
            raise KernelBug("the slot is taken", slot=slot, owner=self._owners[slot], task=owner)
        self._owners[slot] = owner
        self.lengths[slot] = length
        self.next_tokens[slot] = 0

    def give(self, slot: int) -> None:
        """Free *slot*; its content stays until it is taken again."""
        self._owners[slot] = None
        self.lengths[slot] = 0

    def move(self, source: int, target: int) -> None:
        """Let the sequence in *source* go on in the free slot *target*."""
        owner, length = self._owners[source], int(self.lengths[source])
        if owner is None:
            raise KernelBug("nobody holds the slot", slot=source)
        self.take(target, owner, length)
        self.copy(source, target, 0, length)
        self.next_tokens[target] = self.next_tokens[source]
        self.give(source)

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        """Copy the cache of the positions from *begin* to *end* between slots."""
        self._cache.copy(source, target, begin, end)

    def save(self, slot: int, length: int) -> npt.NDArray[Any]:
        """Return a copy of the first *length* tokens' cache: ``[2 * layers, kv_heads, length, head_dim]``."""
        return self._cache.read(slot, 0, length)

    def restore(self, slot: int, saved: npt.NDArray[Any], begin: int, end: int) -> None:
        """Put the positions from *begin* to *end* of what `save` returned into *slot*."""
        self._cache.write(slot, begin, saved[:, :, begin:end])

    def write(self, slot: int, begin: int, parts: Iterable[npt.NDArray[Any]]) -> None:
        """Put *parts* (keys of layer 0, its values, ...), ``[kv_heads, tokens, head_dim]``, at *begin* of *slot*."""
        self._cache.write(slot, begin, parts)

    def close(self) -> None:
        """Give the cache's memory back."""
        self._cache.close()

    def check_integrity(self) -> None:
        """Raise `KernelBug` with the numbers unless every slot is free or held by exactly one task, within its size."""
        owners = [owner for owner in self._owners if owner is not None]
        facts = {"slots": self.size.slots, "owners": list(self._owners), "lengths": self.lengths.tolist()}
        if len(set(owners)) != len(owners):
            raise KernelBug("the KV pool holds a task twice", **facts)
        if not 0 <= int(self.lengths.min()) <= int(self.lengths.max()) <= self.size.context:
            raise KernelBug("a sequence of the KV pool is longer than its slot", **facts)
        if any(length and owner is None for owner, length in zip(self._owners, self.lengths, strict=True)):
            raise KernelBug("a free slot of the KV pool has a length", **facts)
