"""The policies by name, as configuration names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from llmos_kernel.contracts import Scheduler
from llmos_schedulers import edf, fair, fifo, mlfq, priority, round_robin, sjf

MODULES: Mapping[str, ModuleType] = {
    "edf": edf, "fair": fair, "fifo": fifo, "mlfq": mlfq, "priority": priority, "round-robin": round_robin, "sjf": sjf,
}  # fmt: skip


def policy(name: str, **options: Any) -> Callable[[], Scheduler]:
    """Return a function that makes schedulers of the policy *name*."""
    module = MODULES[name]

    def make() -> Scheduler:
        made: Scheduler = module.llmos_scheduler(options)
        return made

    return make
