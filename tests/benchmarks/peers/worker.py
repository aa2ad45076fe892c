"""Engines in processes of their own: started, asked, held still while another one is measured, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import attrs

ROOT = Path(__file__).resolve().parents[3]
SLOTS, CONTEXT = 16, 1536
"""Sequences at once, and the longest one in tokens: the prompts of 1,024 and the requests of 512 fit."""


class WorkerFailed(Exception):
    """A worker ended, or answered nothing; the message has the end of what it said."""


@attrs.frozen
class Place:
    """Where an engine runs: its interpreter, its module, its models."""

    python: Path
    module: str
    folder: Path
    package: str = "tests.benchmarks.peers"
    """Where its module is."""


class Worker:
    """A process with one engine and one model.  A context manager that ends it."""

    def __init__(self, place: Place, form: str, threads: int) -> None:
        # Threads of OpenMP would go on spinning for their whole quantum where others are measured.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        # Who installs has compiled modules; without them most of a start would be the compiler's.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        module = f"{place.package}.{place.module}"
        argv = [place.python, "-m", "tests.benchmarks.peers.serve", module, place.folder, form, threads]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the worker
        self._begin = time.perf_counter()
        self._process = subprocess.Popen(
            [str(one) for one in (*argv, SLOTS, CONTEXT)], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
        )  # fmt: skip
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Wait until the model is loaded."""
        self.facts = self._read()

    def generate(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> dict[str, Any]:
        """Run the requests while every other worker sleeps; raise `WorkerFailed` where tokens are missing."""
        report = self.ask("generate", prompts=prompts, lengths=lengths)
        found = [len(tokens) for tokens in report["tokens"]]
        if found != list(lengths):
            raise WorkerFailed(f"answers have {found} tokens, asked were {list(lengths)}")
        return report

    def ask(self, what: str, **arguments: object) -> dict[str, Any]:
        """Call the engine's method *what* and return its report."""
        pipe = self._process.stdin
        if pipe is None:
            raise WorkerFailed("the worker has no standard input")
        pipe.write(json.dumps([what, arguments]) + "\n")
        pipe.flush()
        return self._read()

    def since_start(self) -> float:
        """Return the seconds since the process was started."""
        return time.perf_counter() - self._begin

    def sleep(self) -> None:
        """Stop its threads until `wake`: some spin for a while when there is nothing to do."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _read(self) -> dict[str, Any]:
        pipe = self._process.stdout
        line = pipe.readline() if pipe is not None else ""
        if not line:
            self._process.wait()
            self._said.seek(0)
            lines = [line for line in self._said.read().splitlines() if line.strip()]
            raise WorkerFailed(f"exit code {self._process.returncode}: {' / '.join(lines[-3:])}")
        found: dict[str, Any] = json.loads(line)
        return found
