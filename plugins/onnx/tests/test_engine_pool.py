"""The KV pool as a state machine: whatever happens, slots are dense and every sequence keeps what it wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmos_kernel.errors import KernelBug
from llmos_onnx.pool import KvPool, PoolSize, token_bytes
from llmos_onnx.shape import Rope, Shape

SLOTS, CONTEXT = 5, 12


def shape() -> Shape:
    """Return the shape of a very small decoder."""
    return Shape(
        architecture="llama", vocab=10, hidden=8, layers=2, heads=2, kv_heads=2, head_dim=4, mlp=8, context=CONTEXT,
        norm_eps=1e-6, rope=Rope(), tied=True, qk_norm=False, qkv_bias=False, out_bias=False, mlp_bias=False, window=0,
    )  # fmt: skip


def pool() -> KvPool:
    """Return an empty pool."""
    return KvPool(shape(), PoolSize(SLOTS, CONTEXT, SLOTS * CONTEXT * token_bytes(shape())))


class PoolMachine(RuleBasedStateMachine):
    """Takes, writes, gives, saves and restores at random; a dictionary per sequence is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool()
        self.slots: dict[int, int] = {}
        self.written: dict[int, list[int]] = {}
        self.saved: dict[int, tuple[np.ndarray[Any, Any], list[int]]] = {}
        self.next = 0

    @rule()
    def take(self) -> None:
        """A new sequence gets a slot, or none when all are taken."""
        slot = self.pool.take(self.next)
        assert (slot is None) == (len(self.slots) == SLOTS)
        if slot is not None:
            self.slots[self.next], self.written[self.next] = slot, []
            self.next += 1

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        """A sequence computes a token; a filler scribbles behind every other one."""
        id = data.draw(st.sampled_from(sorted(self.slots)))
        slot = self.slots[id]
        if len(self.written[id]) == CONTEXT - 1:
            return
        value = data.draw(st.integers(1, 10_000))
        self.pool._cache[:, slot, :, len(self.written[id])] = value
        self.pool.lengths[slot] += 1
        self.pool.next_tokens[slot] = value
        self.written[id].append(value)
        for other in set(self.slots) - {id}:
            self.pool._cache[:, self.slots[other], :, len(self.written[other])] = -1

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), keep=st.booleans())
    def give(self, data: st.DataObject, keep: bool) -> None:
        """A sequence leaves, perhaps with its cache, and the last one moves into its slot."""
        id = data.draw(st.sampled_from(sorted(self.slots)))
        slot = self.slots.pop(id)
        tokens = self.written.pop(id)
        if keep:
            self.saved[id] = self.pool.save(slot), tokens
        moved = self.pool.give(slot)
        for other, place in self.slots.items():
            if place == moved:
                self.slots[other] = slot

    @precondition(lambda self: self.saved and len(self.slots) < SLOTS)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """A sequence comes back with its cache."""
        id = data.draw(st.sampled_from(sorted(self.saved)))
        cache, tokens = self.saved.pop(id)
        slot = self.pool.take(id)
        assert slot is not None
        self.pool.restore(slot, cache)
        self.pool.next_tokens[slot] = tokens[-1] if tokens else 0
        self.slots[id], self.written[id] = slot, tokens

    @invariant()
    def agrees(self) -> None:
        """Slots are dense, owners are right, and every sequence finds what it wrote."""
        self.pool.check_integrity()
        assert set(range(len(self.slots))) == set(self.slots.values())
        assert SLOTS - len(self.slots) == self.pool.free
        for id, slot in self.slots.items():
            tokens = self.written[id]
            assert id == self.pool.owner(slot)
            assert len(tokens) == self.pool.lengths[slot]
            assert (tokens[-1] if tokens else 0) == self.pool.next_tokens[slot]
            assert (self.pool._cache[:, slot, :, : len(tokens)] == np.array(tokens)[:, None]).all()


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_pointers_are_those_of_the_slots() -> None:
    """The addresses that the runtime is given are those of each slot's part of each buffer."""
    full = pool()
    expected = [full._cache[index, 3].ctypes.data for index in range(4)]

    assert expected == full.pointers(3)


def test_integrity_names_the_numbers() -> None:
    """A pool that contradicts itself says so with its numbers."""
    broken = pool()
    broken.take(1)
    broken.lengths[0] = CONTEXT + 1
    with pytest.raises(KernelBug, match="longer than its slot") as caught:
        broken.check_integrity()
    assert [CONTEXT + 1] == caught.value.fields["lengths"]

    broken = pool()
    broken.take(1)
    broken.take(1)
    with pytest.raises(KernelBug, match="a task twice"):
        broken.check_integrity()
