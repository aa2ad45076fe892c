"""Tasks with the same affinity go to the same model, as long as it is not much busier than the others.

Who shares a prefix, or a session, finds its cache where the last task left it.  Models are ranked for each word by
rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on
Networking 1998): the largest hash of word and name wins, so a model that comes or goes moves only its own words.  A
model takes no more than `bound` times its share of the unfinished tasks (Mirrokni, Thorup and Zadimoghaddam,
"Consistent Hashing with Bounded Loads", SODA 2018): with *n* models and *m* tasks, this one included,

    capacity = ceil(bound * m / n)

and what is beyond goes to the next in the word's own order.  Somebody has room always, because `bound` is at least 1.
A task without a word goes where the line is shortest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import Auto, number
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Candidate, Router
from llmos_routers.choosing import Choosing, Options, awake

api = 1
"""The version of the router contract that this module is written for."""


@attrs.frozen(kw_only=True)
class AffinityOptions(Options):
    """What ``prefix-affinity`` can be told."""

    bound: float = attrs.field(default=1.25, validator=number(1, 1e6, whole=False))
    """How many times its share of the unfinished tasks a model may have; larger keeps more words where they were."""


class PrefixAffinity(Choosing[AffinityOptions]):
    """The same model for the same word."""

    def pick(self, kind: str, want: Auto, ready: Sequence[Candidate], now: float) -> Candidate:
        """Return the first in the order of the word that has room."""
        ready = awake(ready)
        if not want.affinity:
            return min(ready, key=lambda one: (one.unfinished, *self.turn(one)))
        tasks = 1 + sum(candidate.unfinished for candidate in ready)
        capacity = math.ceil(self.options.bound * tasks / len(ready))
        room = [candidate for candidate in ready if candidate.unfinished < capacity]
        return max(room, key=lambda one: (weight(want.affinity, one.spec.name), one.spec.name))


def weight(word: str, name: str) -> int:
    """Return the hash of *word* and *name* by which models are ranked: 64 bits, the same everywhere."""
    text = f"{len(word)}:{word}{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


@hookimpl
def llmos_router(config: Mapping[str, Any]) -> Router:
    """Return a router by affinity; *config* holds `AffinityOptions`.  Raises `ConfigError`."""
    return PrefixAffinity(read_options(AffinityOptions, config, "router:prefix-affinity"))
