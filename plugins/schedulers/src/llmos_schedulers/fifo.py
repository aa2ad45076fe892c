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

from llmos import read_options
from llmos_kernel.contracts import Scheduler
from llmos_kernel.hookspecs import hookimpl
from llmos_schedulers.book import Book, StepOptions

api = 1
"""The version of the scheduler contract that this module is written for."""


@attrs.define
class Fifo(Book):
    """First come, first served."""


@hookimpl
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """Return a first-come-first-served scheduler; *config* holds `StepOptions`.  Raises `ConfigError`."""
    return Fifo(options=read_options(StepOptions, config, "scheduler:fifo"))
