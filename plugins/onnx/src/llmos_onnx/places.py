"""Who runs in which slot, and what stays in slots that nobody runs in.

**A free slot keeps what was computed in it until somebody needs the slot.**  So the memory of the prefix cache is the
KV pool's own, and it shrinks as more tasks run.  When a task takes a slot, what lies there moves to the slot whose
content was used least recently, in place of that content.

**Only prompts are kept, not outputs.**  Attention over several tokens rounds differently from attention over one, so
the cache of a token that was decoded is not, bit for bit, the one that a prompt with the same text gets.  A task that
began on the decoded one might answer differently than it does alone.

A **context** is a conversation's claim to its last prompt's cache.  It takes no place from anybody: it lies in a free
slot like others, and where others are forgotten, it is copied to host memory, which its owner's budget has paid for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from llmos_kernel.errors import KernelBug
from llmos_onnx.prefix import Kept, PrefixIndex, Prompt

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.pool import KvPool

_LEAST_SHARED = 8
"""Fewer tokens are computed about as fast as their cache is copied."""


@attrs.define(eq=False)
class Context:
    """The place of a conversation."""

    tokens: int
    """Most tokens of prompt and output of one of its tasks."""
    kept: Kept | None = None
    """The cache of its last prompt."""


class Places:
    """Slots, kept prompts and contexts of one executor.  One thread, except where a method says so."""

    def __init__(self, pool: KvPool) -> None:
        self._pool = pool
        self._index = PrefixIndex()
        self._kept: list[Kept | None] = [None] * pool.size.slots
        """What lies in each slot: of a running sequence, or left by one that ended."""
        self._contexts: dict[int, Context] = {}
        self._admissions = 0

    # --- contexts ------------------------------------------------------------------------------------------------

    @property
    def contexts(self) -> int:
        """Number of open contexts.  Any thread."""
        return len(self._contexts)

    def open(self, id: int, tokens: int) -> None:
        """Open a context for tasks of up to *tokens*.  Any thread."""
        self._contexts[id] = Context(tokens)

    def context(self, id: int) -> Context | None:
        """Return the context *id*, or None where it is closed.  Any thread."""
        return self._contexts.get(id)

    def close(self, id: int) -> None:
        """Close the context *id*, if it is one; its cache stays in its slot as any other's does."""
        context = self._contexts.pop(id, None)
        if context is not None and context.kept is not None:
            self._disown(context.kept)

    # --- sequences -----------------------------------------------------------------------------------------------

    def enter(self, owner: int, prompt: Prompt, saved: npt.NDArray[Any] | None = None) -> int | None:
        """Give the task *owner* a slot with its own *saved* cache, or with what others have computed of its *prompt*.

        Returns the slot, whose length says how much that is; None when all are taken.
        """
        slot = self._pool.first_free()
        if slot is None:
            return None
        self._admissions += 1
        donor, length = (None, 0) if saved is not None else self._find(prompt)
        kept = Kept(prompt, length, slot, used=self._admissions)
        if donor is not None:
            self._begin_with(donor, kept, slot)
        else:
            self._clear(slot)
        if saved is not None:
            length = saved.shape[2]
            kept.length = min(length, len(prompt.tokens))
            self._pool.restore(slot, saved, 0, length)
        self._pool.take(slot, owner, length)
        self._kept[slot] = kept
        self._index.add(kept)
        return slot

    def computed(self, slot: int, tokens: int) -> None:
        """Note that *tokens* more of the prompt in *slot* are computed."""
        self._pool.lengths[slot] += tokens
        self._running(slot).length += tokens

    def share(self, slot: int, tokens: int) -> int:
        """Copy what others have computed meanwhile of the next *tokens* of the prompt in *slot*; return how many."""
        kept = self._running(slot)
        donor, length = self._index.find(kept.prompt, but=kept)
        shared = min(length, kept.length + tokens) - kept.length
        if donor is None or shared < _LEAST_SHARED:
            return 0
        self._fetch(donor, slot, kept.length, kept.length + shared)
        self.computed(slot, shared)
        return shared

    def leave(self, slot: int) -> None:
        """Free *slot*; what is computed of the prompt stays there."""
        kept = self._running(slot)
        self._pool.give(slot)
        context = self._contexts.get(kept.prompt.context) if kept.prompt.context is not None else None
        if context is not None:
            self._claim(context, kept)
        twin, _ = self._index.find(kept.prompt, but=kept)
        if twin is not None and self._idle(twin) and twin.context is None and kept.holds(twin):
            self._forget(twin)

    def settle(self) -> list[tuple[int, int]]:
        """Close the holes between taken slots; return who moved, as pairs of old and new slot, in order."""
        moves: list[tuple[int, int]] = []
        while (hole := self._pool.first_free()) is not None and hole < (last := self._pool.last_taken()):
            resting, moving = self._kept[hole], self._running(last)
            saved = None if resting is None else self._pool.save(hole, resting.length)
            self._pool.move(last, hole)
            self._kept[hole], moving.slot = moving, hole
            self._kept[last] = resting
            if resting is not None and saved is not None:
                self._pool.restore(last, saved, 0, resting.length)
                resting.slot = last
            moves.append((last, hole))
        return moves

    # --- what is kept --------------------------------------------------------------------------------------------

    def _running(self, slot: int) -> Kept:
        kept = self._kept[slot]
        if kept is None or self._pool.owner(slot) is None:
            raise KernelBug("nobody runs in the slot", slot=slot)
        return kept

    def _idle(self, kept: Kept) -> bool:
        return kept.slot is None or self._pool.owner(kept.slot) is None

    def _find(self, prompt: Prompt) -> tuple[Kept | None, int]:
        """Return the cache that spares most of *prompt*, and how many tokens."""
        donor, length = self._index.find(prompt)
        context = self._contexts.get(prompt.context) if prompt.context is not None else None
        if context is not None and context.kept is not None and context.kept is not donor:
            common = context.kept.common(prompt)
            if common > length:
                return context.kept, common
        return donor, length

    def _fetch(self, donor: Kept, slot: int, begin: int, end: int) -> None:
        """Copy positions of *donor*'s cache into *slot*."""
        if donor.slot is not None:
            self._pool.copy(donor.slot, slot, begin, end)
        elif donor.saved is not None:
            self._pool.restore(slot, donor.saved, begin, end)
        else:
            raise KernelBug("a kept cache is nowhere", length=donor.length)

    def _begin_with(self, donor: Kept, coming: Kept, slot: int) -> None:
        """Let the free *slot* of *coming* begin with what *donor* has."""
        mine = donor.context in (None, coming.prompt.context)
        if donor.slot is not None and mine and self._idle(donor) and donor.within(coming.prompt):
            self._exchange(slot, donor.slot)  # all of it lives on here, and what rested here keeps a place
            if donor.context is not None:
                self._contexts[donor.context].kept = coming
            coming.context, donor.context = donor.context, None
            self._forget(donor)
            return
        donor.used, here = self._admissions, donor.slot == slot
        self._clear(slot, donor)
        if not here:
            self._fetch(donor, slot, 0, coming.length)

    def _exchange(self, slot: int, other: int) -> None:
        """Exchange what lies in two free slots."""
        first, second = self._kept[slot], self._kept[other]
        if slot == other or second is None:
            return
        saved = None if first is None else self._pool.save(slot, first.length)
        self._pool.copy(other, slot, 0, second.length)
        self._kept[slot], self._kept[other], second.slot = second, first, slot
        if first is not None and saved is not None:
            self._pool.restore(other, saved, 0, first.length)
            first.slot = other

    def _clear(self, slot: int, donor: Kept | None = None) -> None:
        """Make a free *slot* ready: what rests there takes the place of what was used least recently.

        The *donor* keeps its place, unless that is *slot*.
        """
        resting = self._kept[slot]
        if resting is None:
            return
        victim = self._oldest(slot, donor)
        if victim is None or self._age(victim) > resting.used:
            self._evict(resting)
            return
        other = self._kept[victim]
        if other is not None:
            self._evict(other)
        self._pool.copy(slot, victim, 0, resting.length)
        self._kept[slot], self._kept[victim], resting.slot = None, resting, victim

    def _oldest(self, taken: int, donor: Kept | None) -> int | None:
        """Return the free slot, other than *taken* and the *donor*'s, whose content was used least recently."""
        free = (slot for slot in range(self._pool.size.slots) if self._pool.owner(slot) is None and slot != taken)
        return min((slot for slot in free if donor is None or slot != donor.slot), key=self._age, default=None)

    def _age(self, slot: int) -> int:
        kept = self._kept[slot]
        return -1 if kept is None else kept.used

    def _evict(self, kept: Kept) -> None:
        """Take *kept* out of its slot: a context's goes to host memory, another is forgotten."""
        if kept.context is None or kept.slot is None:
            self._forget(kept)
            return
        kept.saved = self._pool.save(kept.slot, kept.length)
        self._kept[kept.slot], kept.slot = None, None

    def _forget(self, kept: Kept) -> None:
        """Forget what nobody runs on and no context claims."""
        self._index.remove(kept)
        if kept.slot is not None:
            self._kept[kept.slot] = None
        kept.slot = kept.saved = None

    def _claim(self, context: Context, kept: Kept) -> None:
        """Let *kept* be the cache of *context*, unless that has one that spares more."""
        before = context.kept
        if before is kept or (before is not None and before.length > kept.length < len(kept.prompt.tokens)):
            return
        context.kept, kept.context = kept, kept.prompt.context
        if before is not None:
            self._disown(before)

    def _disown(self, kept: Kept) -> None:
        """Treat *kept* as no context's."""
        kept.context = None
        if kept.slot is None:
            self._forget(kept)

    # --- integrity -----------------------------------------------------------------------------------------------

    def check_integrity(self) -> None:
        """Raise `KernelBug` unless slots, kept prompts, contexts and the index agree; for tests."""
        self._pool.check_integrity()
        here = [kept for kept in self._kept if kept is not None]
        away = [context.kept for context in self._contexts.values() if context.kept and context.kept.slot is None]
        self._index.check_integrity([*here, *away])
        for slot, kept in enumerate(self._kept):
            owner = self._pool.owner(slot)
            if kept is None:
                _demand(owner is None, "a taken slot has no prompt", slot=slot, owner=owner)
                continue
            computed = min(int(self._pool.lengths[slot]), len(kept.prompt.tokens))
            facts = {"slot": slot, "owner": owner, "length": kept.length, "computed": computed, "said": kept.slot}
            _demand(kept.slot == slot and kept.saved is None, "a prompt lies where it does not know", **facts)
            _demand(owner is None or kept.length == computed, "a prompt is computed otherwise than kept", **facts)
            _demand(kept.length <= len(kept.prompt.tokens), "more is kept than the prompt has", **facts)
        self._check_contexts([*here, *away])

    def _check_contexts(self, everyone: Iterable[Kept]) -> None:
        claimed = {kept.context: kept for kept in everyone if kept.context is not None}
        owned = {id: context.kept for id, context in self._contexts.items() if context.kept is not None}
        _demand(claimed == owned, "contexts and kept prompts disagree", claimed=list(claimed), owned=list(owned))
        for id, context in self._contexts.items():
            kept = context.kept
            if kept is not None and kept.slot is None:
                saved = -1 if kept.saved is None else kept.saved.shape[2]
                _demand(saved == kept.length <= context.tokens, "a context holds another length", id=id, saved=saved)


def _demand(holds: object, what: str, **facts: Any) -> None:  # noqa: ANN401 - the numbers of the error
    if not holds:
        raise KernelBug(what, **facts)
