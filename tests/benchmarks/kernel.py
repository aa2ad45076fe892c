"""The kernel's benchmarks: ``python -m tests.benchmarks.kernel [--json FILE]`` in the root of the repository."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmos.testing import EchoBackend
from tests.benchmarks import imports, messages, tasks
from tests.benchmarks.figures import Figure, machine, save, table


def measure() -> Iterator[Figure]:
    """Yield every figure."""
    backend = EchoBackend()
    with tasks.kernel(backend) as kernel, kernel.attach() as process:
        for task in (tasks.NULL, tasks.CALL) * 20:  # models are loaded, threads are there
            process.recv(process.schedule(task))
        plain: list[Callable[[], Figure]] = [
            lambda: tasks.handle_check(process),
            lambda: messages.within_a_loop(process),
            lambda: messages.between_threads(process),
            lambda: messages.thread_to_loop(process),
            messages.pipe,
            lambda: tasks.first_step(process, backend),
            *(lambda rate=rate: tasks.first_step_under_arrivals(process, backend, rate) for rate in (50, 500, 2000)),
            lambda: tasks.raising(process, backend),
        ]
        for one in plain:
            gc.collect()
            yield one()
        for flying in (1, 20):
            yield from tasks.end_to_end(process, tasks.NULL, "echo", flying)
            yield from tasks.end_to_end(process, tasks.CALL, "call", flying)
    yield tasks.start()
    yield tasks.weight()
    yield from imports.beginnings()


def main() -> None:
    """Measure, print, and save if told."""
    parser = argparse.ArgumentParser(description="Measure the kernel.")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    figures = list(measure())
    print(table(figures))
    facts = machine()
    print(f"\n{facts['cpu']}, {facts['cores']} cores, load {facts['load']}, Python {facts['python']}, {facts['date']}")
    if arguments.json:
        save(arguments.json, figures)


if __name__ == "__main__":
    main()
