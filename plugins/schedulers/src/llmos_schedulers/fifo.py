"""First come, first served, with continuous batching.

After every step tasks join and leave the batch (iteration-level scheduling: Yu et al., "Orca: A Distributed Serving
System for Transformer-Based Generative Models", OSDI 2022).  A step decodes every running task first and fills what
the token budget leaves with prompt tokens, a long prompt in chunks, so that no prompt makes the others wait for long
(stall-free batching: Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI
2024, arXiv 2403.02310, algorithm 3).

Nobody is preempted, and a task that reached the head of its line keeps its turn until the executor takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llmos_kernel.api import MAX_COUNT, number
from llmos_kernel.contracts import Limits, Plan, Scheduler
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book
from llmos_schedulers.options import flag, read

api = 1
"""The version of the scheduler contract that this module is written for."""


@attrs.frozen(kw_only=True)
class Options:
    """What ``fifo`` can be told."""

    chunk: int = attrs.field(default=512, validator=number(1, MAX_COUNT))
    """Most prompt tokens in one step.  Smaller: running tasks wait less for a new one.  Larger: prompts end sooner."""
    batch_prompts: bool = attrs.field(default=True, validator=flag)
    """Compute several prompts in one step where they fit into the chunk whole."""


@attrs.define
class Fifo(Book):
    """First come, first served."""

    options: Options = attrs.field(factory=Options)

    def plan(self, now: float, limits: Limits) -> Plan:
        """Decode what runs, prefill in order of arrival with the rest of the budget, and fill the free places."""
        decode = self.decodes(limits)

        prompts = min(limits.rows - len(decode), limits.chunks if self.options.batch_prompts else 1)
        prefill = self.prefills(prompts, min(self.options.chunk, limits.tokens - len(decode)))

        admit, resume = self.placements(limits)
        return Plan(admit=admit, resume=resume, prefill=prefill, decode=decode)


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a first-come-first-served scheduler; *config* holds `Options`.  Raises `ConfigError`."""
    return Fifo(options=read(Options, config, "scheduler:fifo"))
