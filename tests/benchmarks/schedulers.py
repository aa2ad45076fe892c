"""How long a plan takes: ``python -m tests.benchmarks.schedulers``, from the root of the repository.

64 tasks run and 1,000 wait.  A turn is what the dispatcher asks of the scheduler for one step: the plan, and a charge
per row; `plan` is the plan alone, and `admitting` one that also finds places for eight tasks.  Times are of the
processor, not of the clock on the wall, and the policies take turns, so that a busy machine changes them little.
"""

from __future__ import annotations

import gc
import json
import platform
from collections.abc import Callable
from statistics import median, quantiles
from time import thread_time_ns

from llmos_kernel.contracts import Limits, Scheduler, TaskView
from plugins.schedulers.tests.policies import MODULES, policy

RUNNING, WAITING, ROUNDS, REPEATS = 64, 1000, 500, 8
FULL = Limits(RUNNING, 0, 2048)
SOME = Limits(RUNNING, 8, 2048, pools=((128, 4), (1024, 4)))


def loaded(scheduler: Scheduler, tenants: int = 7) -> Scheduler:
    """Fill a scheduler: some of the running tasks still have prompt to compute, the waiting are of two classes."""
    running = []
    for id in range(RUNNING + WAITING):
        who = (f"tenant-{id % tenants}", id % 5, 1e6 + id, float(id))
        scheduler.arrived(TaskView(id, "generate", *who, 100, 2**20, length_class=id % 2))
        if id < RUNNING:
            cached = 50 if id % 16 == 0 else 100
            running.append(TaskView(id, "generate", *who, 100, 2**20, cached, length_class=id % 2, state="running"))
    for task in running:
        scheduler.changed(task)
    return scheduler


def measure(act: Callable[[], object]) -> list[float]:
    """Return the microseconds of each call."""
    took = []
    for _ in range(ROUNDS):
        start = thread_time_ns()
        act()
        took.append((thread_time_ns() - start) / 1000)
    return took


def turn(scheduler: Scheduler) -> None:
    """Plan, and charge what was planned."""
    plan = scheduler.plan(0.0, FULL)
    for id, _ in plan.decode:
        scheduler.charged(id, 0, 1)


def main() -> None:
    """Print the figures as JSON."""
    tenants = dict.fromkeys(sorted(MODULES), 7) | {"fair, 1,000 tenants": 1000}
    options = {"edf": {"step_seconds": 1e-9}}
    made = {
        name: [loaded(policy(name.partition(",")[0], **options.get(name, {}))(), count) for _ in range(2)]
        for name, count in tenants.items()
    }
    took: dict[str, dict[str, list[float]]] = {name: {"plan": [], "admitting": [], "turn": []} for name in made}
    gc.collect()
    gc.disable()
    for _ in range(REPEATS):
        for name, (still, moving) in made.items():
            took[name]["plan"] += measure(lambda one=still: one.plan(0.0, FULL))  # type: ignore[misc]
            took[name]["admitting"] += measure(lambda one=still: one.plan(0.0, SOME))  # type: ignore[misc]
            took[name]["turn"] += measure(lambda one=moving: turn(one))  # type: ignore[misc]
    figures = {
        name: {
            what: {"median_us": round(median(all_), 1), "p99_us": round(quantiles(all_, n=100)[98], 1), "n": len(all_)}
            for what, all_ in of.items()
        }
        for name, of in took.items()
    }
    print(json.dumps({"python": platform.python_version(), "machine": platform.processor()} | figures, indent=1))


if __name__ == "__main__":
    main()
