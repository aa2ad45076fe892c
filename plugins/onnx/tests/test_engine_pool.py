"""Slots, kept prompts and contexts as a state machine: whatever happens, everybody finds what was computed for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmos_kernel.errors import KernelBug
from llmos_onnx.cache import HostCache
from llmos_onnx.places import Places
from llmos_onnx.pool import KvPool, PoolSize, token_bytes
from llmos_onnx.prefix import BLOCK, Prompt
from llmos_onnx.shape import Rope, Shape

if TYPE_CHECKING:
    import numpy.typing as npt

SLOTS, CONTEXT = 4, 3 * BLOCK
LENGTHS = st.sampled_from([1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 3, 3 * BLOCK - 4])


def shape() -> Shape:
    """Return the shape of a very small decoder."""
    return Shape(
        architecture="llama", vocab=10, hidden=8, layers=2, heads=2, kv_heads=2, head_dim=4, mlp=8, context=CONTEXT,
        norm_eps=1e-6, rope=Rope(), tied=True, qk_norm=False, qkv_bias=False, out_bias=False, mlp_bias=False, window=0,
    )  # fmt: skip


def pool() -> KvPool:
    """Return an empty pool."""
    return KvPool(shape(), PoolSize(SLOTS, CONTEXT, SLOTS * CONTEXT * token_bytes(shape())))


def memory(pool: KvPool) -> npt.NDArray[Any]:
    """Return what the pool's cache holds."""
    assert isinstance(pool._cache, HostCache)
    return pool._cache.values


@attrs.define
class Running:
    """A sequence, as the machine knows it: its cache at each position is a number that says what came before."""

    tenant: str
    prompt: Prompt
    slot: int
    outputs: int = 0

    def value(self, position: int) -> int:
        """Return what the cache holds at *position*: it depends on the tenant and on all tokens up to there."""
        if position >= len(self.prompt.tokens):
            return position - 500
        return hash((self.tenant, self.prompt.tokens[: position + 1].tobytes())) % 1_000_000


class PlacesMachine(RuleBasedStateMachine):
    """Enters, computes, shares, decodes, leaves, swaps and closes holes at random."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool()
        self.places = Places(self.pool)
        self.running: dict[int, Running] = {}
        self.saved: dict[int, tuple[np.ndarray[Any, Any], Running]] = {}
        self.contexts: dict[int, str] = {}
        self.next = 1

    def number(self) -> int:
        """Return an id that was not used yet."""
        self.next += 1
        return self.next

    def length(self, id: int) -> int:
        """Return how much of a sequence is computed."""
        return int(self.pool.lengths[self.running[id].slot])

    def write(self, id: int, begin: int, end: int) -> None:
        """Compute positions of a sequence; every other one in the batch is scribbled behind."""
        one = self.running[id]
        for position in range(begin, end):
            memory(self.pool)[:, one.slot, :, position] = one.value(position)
        for other, sequence in self.running.items():
            if other != id:
                memory(self.pool)[:, sequence.slot, :, self.length(other)] = -1

    @precondition(lambda self: len(self.contexts) < 4)
    @rule(tenant=st.sampled_from("ab"))
    def open(self, tenant: str) -> None:
        """A conversation opens its place."""
        id = self.number()
        self.places.open(id, CONTEXT)
        self.contexts[id] = tenant

    @precondition(lambda self: self.contexts)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """A conversation ends, maybe while one of its tasks runs."""
        id = data.draw(st.sampled_from(sorted(self.contexts)))
        del self.contexts[id]
        self.places.close(id)

    @rule(data=st.data(), length=LENGTHS, branch=LENGTHS, story=st.integers(0, 1), tenant=st.sampled_from("ab"))
    def enter(self, data: st.DataObject, length: int, branch: int, story: int, tenant: str) -> None:
        """A task with one of a few stories that part somewhere gets a slot, or none when all are taken."""
        tokens = [1] * length if story == 0 else [1] * min(branch, length) + [2] * (length - min(branch, length))
        mine = [None, *(id for id, owner in sorted(self.contexts.items()) if owner == tenant)]
        prompt, id = Prompt.of(tokens, tenant, data.draw(st.sampled_from(mine))), self.number()
        slot = self.places.enter(id, prompt)

        assert (slot is None) == (len(self.running) == SLOTS)
        if slot is not None:
            self.running[id] = Running(tenant, prompt, slot)
            assert self.length(id) < length

    @precondition(lambda self: self.running)
    @rule(data=st.data(), most=st.integers(1, 2 * BLOCK), share=st.booleans())
    def compute(self, data: st.DataObject, most: int, share: bool) -> None:
        """A chunk of a prompt, less what others have of it, or one token of output is computed."""
        id = data.draw(st.sampled_from(sorted(self.running)))
        one, length = self.running[id], self.length(id)
        left = min(most, len(one.prompt.tokens) - length)
        if left > 0:
            left -= self.places.share(one.slot, left) if share else 0
            self.write(id, self.length(id), self.length(id) + left)
            self.places.computed(one.slot, left)
        elif length < CONTEXT - 1:
            self.write(id, length, length + 1)
            self.pool.lengths[one.slot] += 1
            self.pool.next_tokens[one.slot] = length

    @precondition(lambda self: self.running)
    @rule(data=st.data(), swap=st.booleans())
    def leave(self, data: st.DataObject, swap: bool) -> None:
        """A task ends or is preempted, perhaps with its cache."""
        id = data.draw(st.sampled_from(sorted(self.running)))
        if swap:
            self.saved[id] = self.pool.save(self.running[id].slot, self.length(id)), self.running[id]
        self.places.leave(self.running.pop(id).slot)

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """A task comes back with its cache."""
        id = data.draw(st.sampled_from(sorted(self.saved)))
        saved, one = self.saved[id]
        slot = self.places.enter(id, one.prompt, saved)
        if slot is not None:
            one.slot = slot
            self.running[id] = one
            del self.saved[id]
            assert saved.shape[2] == self.length(id)

    @rule()
    def settle(self) -> None:
        """Before a step the taken slots are the first ones."""
        by_slot = {one.slot: one for one in self.running.values()}
        for source, target in self.places.settle():
            by_slot[source].slot = target
            by_slot[target] = by_slot.pop(source)

        assert set(range(len(self.running))) == set(by_slot)

    @invariant()
    def agrees(self) -> None:
        """Nobody is lost, and every running sequence finds what was computed for it."""
        self.places.check_integrity()
        assert SLOTS - len(self.running) == self.pool.free
        assert len(self.contexts) == self.places.contexts
        for id, one in self.running.items():
            expected = [one.value(position) for position in range(self.length(id))]
            assert id == self.pool.owner(one.slot)
            assert (memory(self.pool)[:, one.slot, :, : len(expected)] == np.array(expected)[:, None]).all()


TestPlaces = PlacesMachine.TestCase
TestPlaces.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def run(places: Places, id: int, prompt: Prompt) -> int:
    """Let a task compute its prompt and end; return how much of it was cached."""
    slot = places.enter(id, prompt)
    assert slot is not None
    cached = int(places._pool.lengths[slot])
    places.computed(slot, len(prompt.tokens) - cached)
    places.leave(slot)
    places.check_integrity()
    return cached


def test_least_recently_used_prompt_is_forgotten() -> None:
    """Of more prompts than slots, those stay that were used last, whichever slot they lie in."""
    places = Places(pool())
    stories = [Prompt.of([story] * (BLOCK + 5), "a") for story in range(5)]
    for id, story in enumerate(stories[:4]):
        assert 0 == run(places, id, story)
    assert BLOCK + 4 == run(places, 10, stories[0])
    assert 0 == run(places, 11, stories[4])

    assert [BLOCK + 4] * 4 == [run(places, 20 + index, stories[index]) for index in (0, 2, 3, 4)]
    assert 0 == run(places, 30, stories[1])


def test_tenants_do_not_meet() -> None:
    """What one tenant computed is not found by another."""
    places = Places(pool())
    run(places, 1, Prompt.of([7] * 60, "a"))

    assert 0 == run(places, 2, Prompt.of([7] * 60, "b"))
    assert 59 == run(places, 3, Prompt.of([7] * 60, "a"))


def test_context_outlives_the_pool() -> None:
    """An idle context's cache moves to host memory when others need its slot, and comes back whole."""
    places = Places(pool())
    places.open(100, CONTEXT)
    run(places, 1, Prompt.of([3] * 20, "a", 100))
    slots = [places.enter(id, Prompt.of([id] * 40, "a")) for id in (5, 6, 7, 8)]
    places.check_integrity()
    context = places.context(100)

    assert context is not None
    assert context.kept is not None
    assert context.kept.saved is not None
    assert (4, *memory(places._pool).shape[2:3], 20, 4) == context.kept.saved.shape
    for slot in slots:
        assert slot is not None
        places.leave(slot)
    assert 20 == run(places, 9, Prompt.of([3] * 30, "a", 100))
    places.close(100)
    places.check_integrity()


def test_pointers_are_those_of_the_slots() -> None:
    """The addresses that the runtime is given are those of each slot's part of each buffer."""
    full = pool()
    expected = [memory(full)[index, 3].ctypes.data for index in range(4)]

    assert expected == full.pointers(3)


def test_integrity_names_the_numbers() -> None:
    """A pool that contradicts itself says so with its numbers."""
    broken = pool()
    broken.take(0, 1, CONTEXT + 1)
    with pytest.raises(KernelBug, match="longer than its slot") as caught:
        broken.check_integrity()
    assert [CONTEXT + 1, 0, 0, 0] == caught.value.fields["lengths"]

    broken = pool()
    broken.take(0, 1)
    broken.take(1, 1)
    with pytest.raises(KernelBug, match="a task twice"):
        broken.check_integrity()

    broken = pool()
    broken.lengths[2] = 1
    with pytest.raises(KernelBug, match="free slot"):
        broken.check_integrity()


def test_slots_are_not_taken_or_left_twice() -> None:
    """Whoever takes a taken slot, or moves out of a free one, has a bug."""
    places = Places(pool())
    places._pool.take(0, 1)
    with pytest.raises(KernelBug, match="is taken"):
        places._pool.take(0, 2)
    with pytest.raises(KernelBug, match="nobody holds"):
        places._pool.move(1, 2)
    with pytest.raises(KernelBug, match="nobody runs"):
        places.leave(1)
