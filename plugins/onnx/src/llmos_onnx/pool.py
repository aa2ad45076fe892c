"""The key and value cache: one buffer, one place (slot) per running sequence.

A batch of the decoder must lie in adjacent slots, because each layer's cache is bound by one pointer.  Two rules keep
it so, and they are the whole design:

- **Taken slots are always 0 … n - 1.**  Freeing a slot moves the last sequence into the hole.  That reads and writes
  one sequence's cache once, about what attention itself reads of it in two steps, and happens at most once per ended
  sequence; in return a step never carries empty rows.
- **A sequence that rests inside the batch is carried along as a filler.**  A stalled or preempted row, or one whose
  prompt is still being computed, may lie between two that decode.  A row costs a few percent of a step, a second run
  costs a whole one.  A filler is given its own committed length, so attention writes its key and value at the first
  position *after* what is committed, where the next real token will overwrite it; nothing that counts is touched.

A position is written before it is ever read, so slots are not cleared between sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from llmos_kernel.errors import KernelBug

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.shape import Shape


def token_bytes(shape: Shape, kv: str = "float32") -> int:
    """Return the bytes of cache that one token takes: keys and values of every layer, each of the numpy type *kv*."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * np.dtype(kv).itemsize


@attrs.frozen
class PoolSize:
    """How many sequences of how many tokens fit."""

    slots: int
    context: int
    """Longest sequence in tokens."""
    nbytes: int


class KvPool:
    """Slots for ``size.slots`` sequences of up to ``size.context`` tokens, and who holds them.

    *kv* is the numpy type of the cache, as the manifest says.  Memory is taken from the system as it is first written,
    not when the pool is made.
    """

    def __init__(self, shape: Shape, size: PoolSize, kv: str = "float32") -> None:
        self.size = size
        self.row_shape = (shape.kv_heads, size.context, shape.head_dim)
        self.dtype: np.dtype[Any] = np.dtype(kv)
        """Type of the cache's elements."""
        self.lengths = np.zeros(size.slots, np.int32)
        """Committed tokens per slot."""
        self.next_tokens = np.zeros(size.slots, np.int64)
        """Token that each slot's next decode step reads."""
        self._owners: list[int] = []
        self._cache = np.zeros((2 * shape.layers, size.slots, *self.row_shape), self.dtype)

    @property
    def used(self) -> int:
        """Number of taken slots; they are 0 … used - 1."""
        return len(self._owners)

    @property
    def free(self) -> int:
        """Number of slots that could be taken now."""
        return self.size.slots - len(self._owners)

    def owner(self, slot: int) -> int:
        """Return the task that holds *slot*."""
        return self._owners[slot]

    def pointers(self, slot: int) -> list[int]:
        """Return the addresses of *slot* in each buffer: layer 0 keys, layer 0 values, layer 1 keys, ..."""
        strides = self._cache.strides
        first = self._cache.ctypes.data + slot * strides[1]
        return [first + index * strides[0] for index in range(len(self._cache))]

    def take(self, owner: int) -> int | None:
        """Return a slot of length 0 for the task *owner*, or None when all are taken."""
        if not self.free:
            return None
        slot = len(self._owners)
        self._owners.append(owner)
        self.lengths[slot] = 0
        self.next_tokens[slot] = 0
        return slot

    def give(self, slot: int) -> int | None:
        """Free *slot*; return the slot whose sequence moved into it, or None if none had to move."""
        last = len(self._owners) - 1
        owner = self._owners.pop()
        if slot == last:
            return None
        length = int(self.lengths[last])
        self._cache[:, slot, :, :length] = self._cache[:, last, :, :length]
        self._owners[slot] = owner
        self.lengths[slot] = length
        self.next_tokens[slot] = self.next_tokens[last]
        return last

    def save(self, slot: int) -> npt.NDArray[Any]:
        """Return a copy of the committed cache of *slot*: ``[2 * layers, kv_heads, length, head_dim]``."""
        return self._cache[:, slot, :, : int(self.lengths[slot])].copy()

    def restore(self, slot: int, saved: npt.NDArray[Any]) -> None:
        """Put back what `save` returned and set the slot's length."""
        length = saved.shape[2]
        self._cache[:, slot, :, :length] = saved
        self.lengths[slot] = length

    def check_integrity(self) -> None:
        """Raise `KernelBug` with the numbers unless every slot is free or held by exactly one task, within its size."""
        lengths = self.lengths[: self.used]
        facts = {"slots": self.size.slots, "owners": list(self._owners), "lengths": lengths.tolist()}
        if self.used > self.size.slots or len(set(self._owners)) != self.used:
            raise KernelBug("the KV pool holds a task twice, or more tasks than slots", **facts)
        if self.used and not 0 <= int(lengths.min()) <= int(lengths.max()) <= self.size.context:
            raise KernelBug("a sequence of the KV pool is longer than its slot", **facts)
