"""The same seed makes the same schedule, and a recorded run replays to the same plans."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmos import StepProfile
from llmos.testing import EchoBackend, FirstCome, echo_spec
from llmos_kernel import Kernel, KernelConfig, Limits, Plan, Task
from llmos_kernel.errors import ConfigError, InvalidArgument, PluginFailed, PluginMissing
from llmos_simulator import Arrival, replay, simulate
from llmos_simulator.replay_command import llmos_command

PROFILE = StepProfile(fixed=0.01, per_row=0.001, per_prompt_token=1e-4, places=4, rows=4, tokens=64, chunks=2)
POLICIES = ("edf", "fair", "fifo", "mlfq", "priority", "round-robin", "sjf")


def arrivals(count: int, seed: int = 1) -> Iterator[Arrival]:
    """Yield tasks of several tenants, kinds and priorities, some with deadlines."""
    rng, now = random.Random(seed), 0.0
    for _ in range(count):
        now += rng.expovariate(9.0)
        output = 1 + int(rng.expovariate(1 / 9))
        yield Arrival(
            now, rng.choice("abc"), priority=rng.randint(0, 3), prompt=rng.randint(1, 90), output=output,
            max_tokens=output + rng.randint(0, 5), deadline=rng.choice((None, None, 5.0)),
            kind=rng.choice(("generate", "chat")),
        )  # fmt: skip


def recorded(policy: str, file: Path, seed: int = 1, count: int = 200) -> bytes:
    """Simulate and return the log of the scheduler."""
    options = {"policy": policy, "file": str(file)}
    outcomes = list(simulate(arrivals(count, seed), scheduler="recorded", options=options, profile=PROFILE))

    assert count == len(outcomes)
    return file.read_bytes()


@pytest.mark.parametrize("policy", POLICIES)
def test_same_seed_same_schedule(policy: str, tmp_path: Path) -> None:
    """Two simulations of the same arrivals are told and plan the same, byte for byte; of others, something else."""
    first = recorded(policy, tmp_path / "first")

    assert first == recorded(policy, tmp_path / "second")
    assert first != recorded(policy, tmp_path / "other", seed=2)


def test_same_schedule_whatever_the_hashes(tmp_path: Path) -> None:
    """The order of sets and the seeds of hashes have no say: interpreters with other seeds make the same log."""
    code = (
        "import sys; from pathlib import Path; from plugins.simulator.tests.test_replaying import POLICIES, recorded\n"
        "for policy in POLICIES: recorded(policy, Path(sys.argv[1]) / policy, count=60)"
    )
    logs = []
    for seed in ("0", "1", "4242"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True)
        logs.append([(folder / policy).read_bytes() for policy in POLICIES])

    assert logs[0] == logs[1] == logs[2]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_simulated_run_replays(policy: str, tmp_path: Path) -> None:
    """The recorded calls to a new scheduler of the same name give the same plans."""
    log = recorded(policy, tmp_path / "log")
    found = replay(tmp_path / "log")

    assert (policy, None) == (found.policy, found.difference)
    assert log.count(b"\n") - 1 == found.calls
    assert log.count(b'["plan"') == found.plans > 200


@pytest.mark.parametrize("policy", POLICIES)
def test_a_real_run_replays(policy: str, tmp_path: Path) -> None:
    """What a scheduler planned for a kernel with threads and the real clock, it plans again from the recording."""
    file = tmp_path / "real.jsonl"
    config = KernelConfig(
        plugins=("scheduler:recorded",), scheduler="recorded", models=(echo_spec(),),
        options={"scheduler:recorded": {"policy": policy, "file": str(file), "options": {"chunk": 8}}},
    )  # fmt: skip
    rng = random.Random(policy)
    with Kernel(config, plugins=[EchoBackend(rows=3, chunks=2)]) as kernel, kernel.attach() as process:
        handles = []
        for number in range(60):
            words = "word " * rng.randint(1, 20)
            handles.append(process.schedule(Task("generate", "echo", words, priority=number % 3, deadline=30.0)))
            if rng.random() < 0.3:
                process.recv(handles.pop(rng.randrange(len(handles))))
            if rng.random() < 0.1:
                handles.pop(rng.randrange(len(handles))).close()
        for handle in handles:
            process.recv(handle)
    found = replay(file)

    assert (policy, None) == (found.policy, found.difference)
    assert found.plans > 20
    assert {"chunk": 8} == json.loads(file.read_text().splitlines()[0])["options"]


def test_another_policy_differs(tmp_path: Path) -> None:
    """The first plan that is another is named: its line, its time, and both plans."""
    recorded("fifo", tmp_path / "log")
    found = replay(tmp_path / "log", "priority")

    assert found.difference is not None
    line = json.loads((tmp_path / "log").read_text().splitlines()[found.difference.line - 1])
    assert ("plan", found.difference.now, found.difference.recorded) == (line[0], line[1], line[3])
    assert found.difference.recorded != found.difference.replayed
    assert f"line {found.difference.line}" in str(found.difference)


def test_only_the_recorded_policy_has_its_options(tmp_path: Path) -> None:
    """What the recorded policy was told is nothing to another one, and is the same policy's wherever it is named."""
    options = {"policy": "mlfq", "file": str(tmp_path / "log"), "options": {"levels": 2}}
    list(simulate(arrivals(30), scheduler="recorded", options=options, profile=PROFILE))

    assert replay(tmp_path / "log", "mlfq").difference is None
    assert "fifo" == replay(tmp_path / "log", "fifo").policy
    with pytest.raises(ConfigError, match="levels"):
        replay(tmp_path / "log", "fifo", {"levels": 2})


def test_own_schedulers_replay(tmp_path: Path) -> None:
    """A scheduler need not be installed: what makes one is enough, and what raises is named with the line."""
    recorded("fifo", tmp_path / "log")

    class Broken(FirstCome):
        def plan(self, now: float, limits: Limits) -> Plan:
            raise ZeroDivisionError

    class Nothing(FirstCome):
        def plan(self, now: float, limits: Limits) -> Any:
            return "nothing"

    found = replay(tmp_path / "log", Nothing)

    assert "Nothing" == found.policy
    assert found.difference is not None
    assert "'nothing'" == found.difference.replayed
    with pytest.raises(PluginFailed, match=r"line 3.*ZeroDivisionError"):
        replay(tmp_path / "log", Broken)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("", "line 1"),
        ("{", "line 1"),
        ('["plan"]', "line 1"),
        ('{"format": 2}', "line 1"),
        ('{"format": 1, "policy": "fifo"}\n[1', "line 2"),
        ('{"format": 1, "policy": "fifo"}\n["planned", 1]', "line 2"),
        ('{"format": 1, "policy": "fifo"}\n["finished", "1"]', "line 2"),
        ('{"format": 1, "policy": "fifo"}\n["charged", 1, 2]', "line 2"),
        ('{"format": 1, "policy": "fifo"}\n7', "line 2"),
    ],
)
def test_what_is_no_recording_is_refused(lines: str, says: str, tmp_path: Path) -> None:
    """The error names the file and the line."""
    (tmp_path / "log").write_text(lines)

    with pytest.raises(ConfigError, match=says) as caught:
        replay(tmp_path / "log")
    assert str(tmp_path / "log") in str(caught.value)


def test_views_that_are_none_are_refused(tmp_path: Path) -> None:
    """A call whose arguments no scheduler gets is an error naming its line."""
    (tmp_path / "log").write_text('{"format": 1, "policy": "fifo"}\n["arrived", {"what": 1}]')

    with pytest.raises(PluginFailed, match="line 2"):
        replay(tmp_path / "log")


def test_bad_arguments_of_a_replay(tmp_path: Path) -> None:
    """A file that is not there, an unknown policy and what is no scheduler are typed errors."""
    recorded("fifo", tmp_path / "log", count=3)

    with pytest.raises(ConfigError, match="missing"):
        replay(tmp_path / "missing")
    with pytest.raises(ConfigError, match="a recording that can be read"):
        replay(tmp_path)
    with pytest.raises(PluginMissing, match="did you mean 'fifo'"):
        replay(tmp_path / "log", "fif")
    with pytest.raises(InvalidArgument, match="scheduler"):
        replay(tmp_path / "log", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "file"),
        ({"file": 3}, "file"),
        ({"file": "log", "policy": ""}, "policy"),
        ({"file": "log", "options": 3}, "options"),
        ({"file": "log", "fiel": "log"}, "fiel"),
    ],
)
def test_bad_options_of_a_recording(options: dict[str, Any], says: str) -> None:
    """They are refused when the simulation begins, by their name."""
    with pytest.raises(ConfigError, match=says):
        simulate([], scheduler="recorded", options=options, profile=PROFILE)


def test_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    """Where a file is already, or none can be, no task is served: nothing that was recorded is lost."""
    before = recorded("fifo", tmp_path / "log", count=3)
    options = {"policy": "fifo", "file": str(tmp_path / "log")}
    outcomes = list(simulate(arrivals(3), scheduler="recorded", options=options, profile=PROFILE))

    assert ["PluginFailed"] * 3 == [outcome.error for outcome in outcomes]
    assert before == (tmp_path / "log").read_bytes()


def test_the_command(tmp_path: Path) -> None:
    """Tells whether the plans are the same, to a person and to a program; the exit code says it too."""
    file = tmp_path / "log"
    recorded("fifo", file)
    same, other = (CliRunner().invoke(llmos_command(), [str(file), *more]) for more in ([], ["--scheduler", "sjf"]))
    told = CliRunner().invoke(llmos_command(), [str(file), "--scheduler", "sjf", "--json"], standalone_mode=False)

    assert "fifo plans the same" in same.output
    assert "sjf plans something else after" in other.output
    assert ("sjf", 1) == (json.loads(told.output)["policy"], told.return_value)


def test_the_command_and_what_is_no_recording(tmp_path: Path) -> None:
    """One typed error, which names the file."""
    (tmp_path / "log").write_text("{}", "utf-8")
    done = CliRunner().invoke(llmos_command(), [str(tmp_path / "log")])

    assert isinstance(done.exception, ConfigError)
    assert "log" in str(done.exception)
