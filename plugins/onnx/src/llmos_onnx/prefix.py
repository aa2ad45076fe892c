"""Which cached prompts begin like a new one: hash chains over full blocks, as in vLLM's automatic prefix caching.

(Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", SOSP 2023.)

A prompt's chain has one digest per full block of `BLOCK` tokens, and each digest covers everything before it.  The
chain begins with the tenant's name: prompts of two tenants never meet, so nobody learns from the clock, or from the
count of cached tokens, what another tenant asked.  A digest only finds a candidate; the tokens themselves are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from llmos_kernel.errors import KernelBug

if TYPE_CHECKING:
    import numpy.typing as npt

BLOCK = 32
"""Tokens of one block: the shortest prefix that is shared."""


@attrs.frozen(eq=False)
class Prompt:
    """What the cache of a task's prompt is found by."""

    tokens: npt.NDArray[np.int64]
    chain: tuple[bytes, ...]
    """One digest per full block."""
    context: int | None = None
    """The context that the task runs in."""

    @classmethod
    def of(cls, tokens: Sequence[int], tenant: str, context: int | None = None, *, shared: bool = True) -> Prompt:
        """Return the prompt of *tokens* that a task of *tenant* brings; one that is not *shared* is never found."""
        ids = np.array(tokens, np.int64)
        if not shared:
            return cls(ids, (), context)
        digest, chain = hashlib.blake2b(tenant.encode(), digest_size=16).digest(), []
        for begin in range(0, len(ids) - BLOCK + 1, BLOCK):
            digest = hashlib.blake2b(digest + ids[begin : begin + BLOCK].tobytes(), digest_size=16).digest()
            chain.append(digest)
        return cls(ids, tuple(chain), context)


@attrs.define(eq=False)
class Kept:
    """The computed cache of a prompt's beginning: in a slot, or in host memory.  One place keeps one of them."""

    prompt: Prompt
    length: int = 0
    """Tokens of the prompt that are computed."""
    slot: int | None = None
    saved: npt.NDArray[np.generic] | None = None
    """The cache itself, where it was moved to host memory."""
    used: int = 0
    """When it was used last, counted in admissions."""
    context: int | None = None
    """The context whose conversation it is the newest cache of."""

    def common(self, prompt: Prompt) -> int:
        """Return how many tokens of *prompt* this cache spares: the last one is always computed, for its logits."""
        most = min(self.length, len(prompt.tokens) - 1)
        differing = np.flatnonzero(self.prompt.tokens[:most] != prompt.tokens[:most])
        return int(differing[0]) if len(differing) else most

    def holds(self, other: Kept) -> bool:
        """Return whether nothing would be lost without *other*."""
        return other.length <= self.length and other.within(self.prompt)

    def within(self, prompt: Prompt) -> bool:
        """Return whether *prompt* begins with all that is computed here."""
        return np.array_equal(self.prompt.tokens[: self.length], prompt.tokens[: self.length])


class PrefixIndex:
    """Finds caches by the blocks that they begin with."""

    def __init__(self) -> None:
        self._places: dict[bytes, list[Kept]] = {}

    def add(self, kept: Kept) -> None:
        """Let *kept* be found from now on, as far as it is computed."""
        for digest in kept.prompt.chain:
            self._places.setdefault(digest, []).append(kept)

    def remove(self, kept: Kept) -> None:
        """Let *kept* be found no longer."""
        for digest in kept.prompt.chain:
            places = self._places[digest]
            places.remove(kept)
            if not places:
                del self._places[digest]

    def find(self, prompt: Prompt, *, but: Kept | None = None) -> tuple[Kept | None, int]:
        """Return the cache that spares most tokens of *prompt*, and how many; *but* is not looked at."""
        for blocks in range(len(prompt.chain), 0, -1):
            found = [
                (kept.common(prompt), kept)
                for kept in self._places.get(prompt.chain[blocks - 1], ())
                if kept is not but and kept.length >= blocks * BLOCK
            ]
            tokens, kept = max(found, key=lambda candidate: candidate[0], default=(0, None))
            if tokens:
                return kept, tokens
        return None, 0

    def check_integrity(self, everyone: Sequence[Kept]) -> None:
        """Raise `KernelBug` unless exactly *everyone* is found, under each of their digests once."""
        expected = sorted((digest, id(kept)) for kept in everyone for digest in kept.prompt.chain)
        found = sorted((digest, id(kept)) for digest, places in self._places.items() for kept in places)
        if expected != found:
            raise KernelBug("the prefix index and the caches disagree", expected=len(expected), found=len(found))
