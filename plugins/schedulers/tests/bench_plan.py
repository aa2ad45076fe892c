"""How long a plan takes: ``python -m plugins.schedulers.tests.bench_plan``, from the root of the repository.

64 tasks run and 1,000 wait.  A turn is what the dispatcher asks of the scheduler for one step: the plan, and a charge
per row; `plan` is the plan alone, and `admitting` one that also finds places for eight tasks.
"""

from __future__ import annotations

import gc
import json
import platform
from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter_ns

from llmos_kernel.contracts import Limits, Scheduler, TaskView
from llmos_schedulers import fifo

RUNNING, WAITING, ROUNDS = 64, 1000, 5000


def loaded(scheduler: Scheduler) -> Scheduler:
    """Fill a scheduler: some of the running tasks still have prompt to compute, the waiting are of two classes."""
    for id in range(RUNNING + WAITING):
        task = TaskView(id, "generate", f"tenant-{id % 7}", 0, None, float(id), 100, 2**30, length_class=id % 2)
        scheduler.arrived(task)
    for id in range(RUNNING):
        cached = 50 if id % 16 == 0 else 100
        scheduler.changed(TaskView(id, "generate", "t", 0, None, float(id), 100, 2**30, cached, state="running"))
    return scheduler


def measure(act: Callable[[], object]) -> dict[str, float]:
    """Return microseconds per call."""
    gc.collect()
    gc.disable()
    took = []
    for _ in range(ROUNDS):
        start = perf_counter_ns()
        act()
        took.append((perf_counter_ns() - start) / 1000)
    gc.enable()
    return {"median_us": round(median(took), 1), "p99_us": round(quantiles(took, n=100)[98], 1), "n": ROUNDS}


def main() -> None:
    """Print the figures as JSON."""
    scheduler = loaded(fifo.llmos_scheduler({}))
    full = Limits(RUNNING, 0, 2048)
    some = Limits(RUNNING, 8, 2048, pools=((128, 4), (1024, 4)))

    def turn() -> None:
        plan = scheduler.plan(0.0, full)
        for id, _ in plan.decode:
            scheduler.charged(id, 0, 1)

    figures = {
        "plan": measure(lambda: scheduler.plan(0.0, full)),
        "admitting": measure(lambda: scheduler.plan(0.0, some)),
        "turn": measure(turn),
    }
    print(json.dumps({"python": platform.python_version(), "machine": platform.processor(), "fifo": figures}, indent=1))


if __name__ == "__main__":
    main()
