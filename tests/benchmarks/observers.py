"""What observers cost: ``python -m tests.benchmarks.observers``, from the root of the repository.

Tasks are as small as they come (one word in, one out, on the echo model, whose step does nothing), so that the kernel
and the observers are all that there is to measure; then tasks of 256 tokens, 64 at once, whose steps are told row by
row.  Times are of the processor, all threads together, and each figure is the median of rounds that take turns, so that
a busy machine changes them little.  No event may be dropped: what is not heard costs nothing.
"""

from __future__ import annotations

import io
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

import llmos
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig, Task
from llmos_observability.log import Log
from llmos_observability.metrics import Metrics
from llmos_observability.spans import Spans
from llmos_observability.traces import Traces

ROUNDS = 9
SIZES = ((2048, 1), (128, 256))
"""Tasks, and words of each."""
OBSERVERS: dict[str, Callable[[], Sequence[object]]] = {
    "none": lambda: (),
    "metrics": lambda: (("metrics", Metrics({})),),
    "log": lambda: (("log", Log({}, io.StringIO())),),
    "traces": lambda: (("traces", Traces({}, lambda: Spans(Dropped()))),),
}


class Dropped(SpanProcessor):
    """Takes spans and lets them go: what a collector costs is another question."""

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing."""


def spent(observers: Sequence[object], tasks: int, words: int) -> float:
    """Return microseconds per task, until the observers have heard of the last one; 64 are in flight."""
    config = KernelConfig(models=[echo_spec("echo", options={"rows": 64})])
    with Kernel(config, [EchoBackend(), FirstComePlugin(), *observers]) as kernel:
        process, task = kernel.attach(), Task("generate", "echo", " ".join(["word"] * words))
        process.recv(process.schedule(task))
        begun = time.process_time()
        for _ in range(0, tasks, 64):
            for handle in [process.schedule(task) for _ in range(64)]:
                process.recv(handle)
        with llmos.Client(kernel=kernel) as client:
            dropped = client.control("Stats")["events_dropped"]
        kernel.stop()
        took = time.process_time() - begun
    if dropped:
        raise SystemExit(f"{dropped} events were dropped, so this measures nothing")
    return 1e6 * took / tasks


def main() -> None:
    """Print the figures as JSON."""
    figures: dict[str, object] = {"cpus": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    figures["python"] = platform.python_version()
    for tasks, words in SIZES:
        rounds: dict[str, list[float]] = {name: [] for name in OBSERVERS}
        for _ in range(ROUNDS):
            for name, make in OBSERVERS.items():
                rounds[name].append(spent(make(), tasks, words))
        figures[f"microseconds of a task of {words} tokens"] = {
            name: round(statistics.median(found), 1) for name, found in rounds.items()
        }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
