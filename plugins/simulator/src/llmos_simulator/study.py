"""One workload under several policies, in this process or in others beside it.

A process of a study is told what to do in JSON and answers in JSON: what goes between them are names and numbers, so
a report is the same wherever it was made.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import IO, Any

import attrs

from llmos import StepProfile
from llmos_kernel.api import MAX_COUNT, check_number
from llmos_kernel.errors import InvalidArgument, KernelError, ResourceError
from llmos_simulator.engine import MODEL, simulate
from llmos_simulator.records import Outcome
from llmos_simulator.report import Collector, Report
from llmos_simulator.workload_files import find_workload
from llmos_simulator.workloads import Workload

PROFILE = "smollm2-135m-w8a8"
"""The profile that is used where none is named: what was measured and where stands in the file."""
EVERY = 200
"""After so many outcomes progress is told again."""
Progress = Callable[[str, float | None], None]
"""Hears the name of a policy, and which share of its requests has ended; None where nobody can know."""


@attrs.frozen(kw_only=True)
class Study:
    """What is to be simulated."""

    workload: str
    """A preset, a workload's file, or a trace."""
    requests: int | None = None
    """Instead of what the workload says, as the next two."""
    seconds: float | None = None
    rate: float | None = None
    seed: int = 0
    profile: str = ""
    """The file of a `StepProfile`; empty: the one that comes with the package."""
    options: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    """Options of policies, by their names, over those of the workload."""

    def load(self) -> Workload:
        """Return the workload with the changes that are asked for."""
        found = find_workload(self.workload)
        if self.rate is not None:
            found = found.scaled(self.rate)
        check_number("seed", self.seed, 0, MAX_COUNT)
        ends: dict[str, Any] = {"requests": self.requests, "seconds": self.seconds}
        return attrs.evolve(found, **{name: value for name, value in ends.items() if value is not None})

    def load_profile(self) -> StepProfile:
        """Return the profile."""
        if self.profile:
            return StepProfile.read(self.profile)
        with resources.as_file(resources.files("llmos_simulator") / "profiles" / f"{PROFILE}.json") as path:
            return StepProfile.read(path)

    def run(self, policy: str, progress: Progress) -> Report:
        """Simulate one policy, here."""
        workload = self.load()
        requests, collector = workload.draw(self.seed), Collector(policy, workload.weights)
        options = {**workload.options.get(policy, {}), **self.options.get(policy, {})}
        with simulate(
            requests, scheduler=policy, profile=self.load_profile(), options=options, ended=requests.ended
        ) as run:
            for count, outcome in enumerate(run, 1):
                collector.add(outcome)
                if count % EVERY == 0:
                    progress(policy, _share(workload, outcome, count))
            progress(policy, 1.0)
            return collector.report(run.utilisation()[MODEL])


def _share(workload: Workload, outcome: Outcome, count: int) -> float | None:
    """Return how far a simulation is; None where nobody knows how long a trace is."""
    parts = [count / workload.most] if workload.most else []
    parts += [outcome.arrival.at / workload.seconds] if workload.seconds else []
    return min(max(parts), 1.0) if parts else None


def run_study(study: Study, policies: Sequence[str], progress: Progress, jobs: int = 1) -> list[Report]:
    """Return a report for each of *policies*, in their order, made by as many processes as *jobs* at once.

    One job is done in this process.  Raises the `KernelError` of the first policy that fails, and `ResourceError` for a
    process that ended without an answer.
    """
    for policy in study.options:
        if policy not in policies:
            raise InvalidArgument.of("option", policy, f"an option of what is simulated: {', '.join(policies)}")
    if jobs == 1:
        return [study.run(policy, progress) for policy in policies]
    running: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(jobs, initializer=_deaf) as pool:
        waiting = [pool.submit(_beside, study, policy, progress, running) for policy in policies]
        try:
            return [one.result() for one in waiting]
        finally:
            for one in waiting:
                one.cancel()
            for process in running:
                process.kill()


def _deaf() -> None:
    """Keep Ctrl-C from what this thread starts, which inherits that: who waits for the answers decides."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _beside(study: Study, policy: str, progress: Progress, running: list[subprocess.Popen[str]]) -> Report:
    """Simulate one policy in a process of its own."""
    command = [sys.executable, "-m", "llmos_simulator.study"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
    ) as process:
        running.append(process)
        _write(process.stdin, {"study": attrs.asdict(study), "policy": policy})
        for line in process.stdout or ():
            said = json.loads(line)
            if "error" in said:
                raise KernelError.from_wire(said)
            if "report" in said:
                return Report.from_plain(said["report"])
            progress(policy, said["share"])
    message = f"the simulation of {policy} ended without an answer (exit status {process.returncode})"
    raise ResourceError(message, policy=policy, status=process.returncode)


def _write(stream: IO[str] | None, value: object) -> None:
    if stream is not None:
        print(json.dumps(value), file=stream, flush=True)


def _main() -> None:
    """Do what standard input says, and answer on standard output."""
    asked = json.loads(sys.stdin.readline())
    try:
        report = Study(**asked["study"]).run(asked["policy"], lambda _, share: _write(sys.stdout, {"share": share}))
        _write(sys.stdout, {"report": report.plain()})
    except KernelError as error:
        _write(sys.stdout, error.to_wire())
    except BrokenPipeError:  # whoever asked was killed; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    _main()
