"""``llmos simulate``: tables, JSON, pictures, processes side by side, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from llmos import StepProfile
from llmos_kernel.errors import ConfigError, InvalidArgument, KernelError, NotFound, ResourceError
from llmos_simulator import command
from llmos_simulator.study import Study, run_study

FEW = ("--requests", "300", "--jobs", "1")
Simulate = Callable[..., Result]


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """The command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(command.llmos_command(), args)


def refused(done: Result) -> KernelError:
    """The error that the command line is to report."""
    assert isinstance(done.exception, KernelError), done.output
    return done.exception


def test_a_table_of_policies(simulate: Simulate) -> None:
    """A row for each policy and tenant, of a preset, with the installed schedulers."""
    done = simulate("mixed", "--scheduler", "fifo", "--scheduler", "priority", *FEW)

    assert 0 == done.exit_code, done.output
    assert "mixed: 300 requests, seed 0, smollm2-135m-w8a8" in done.output
    for word in ("fifo", "priority", "interactive", "batch", "time to the first token"):
        assert word in done.output


def test_the_scheduler_of_the_settings_is_the_default(simulate: Simulate) -> None:
    """And the mixed workload."""
    Path("llmos.toml").write_text('scheduler = "sjf"')
    (report,) = json.loads(simulate("--json", *FEW).output)["reports"]

    assert "sjf" == report["policy"]


def test_equal_calls_print_equal_json(simulate: Simulate) -> None:
    """Byte for byte, to the file as well; in other processes too; another seed is another run."""
    args = ("mixed", "--scheduler", "fifo", "--scheduler", "fair", "--json", "--requests", "200")
    one = simulate(*args, "--jobs", "1", "--out", "report.json")
    beside = simulate(*args, "--jobs", "2")
    other = simulate(*args, "--jobs", "1", "--seed", "1")

    assert 0 == one.exit_code, one.output
    assert one.output == beside.output == Path("report.json").read_text("utf-8")
    assert json.loads(one.output)["reports"] != json.loads(other.output)["reports"]


def test_policies_see_the_same_requests(simulate: Simulate) -> None:
    """And a policy that knows priorities serves them better."""
    done = simulate("mixed", "--scheduler", "fifo", "--scheduler", "priority", "--json", *FEW)
    fifo, priority = json.loads(done.output)["reports"]
    first = [{one["tenant"]: one["first"]["p95"] for one in report["tenants"]} for report in (fifo, priority)]

    assert fifo["all"]["requests"] == priority["all"]["requests"] == 300
    assert fifo["all"]["tokens"] == priority["all"]["tokens"]
    assert first[1]["interactive"] < first[0]["interactive"]


def test_own_workload_own_profile_own_options(simulate: Simulate) -> None:
    """What the files and the options say reaches the simulation; of two, the command line's option counts."""
    shown = simulate("--show", "users")
    Path("mine.toml").write_text(shown.output + "\n[options.round-robin]\nquantum = 0\n")
    StepProfile(model="mine", fixed=0.001, per_row=0.001).write("profile.json")
    args = ("mine.toml", "--scheduler", "round-robin", "--profile", "profile.json", "--seconds", "30", "--jobs", "1")
    wrong, done = simulate(*args), simulate(*args, "-o", "round-robin.quantum=8")

    assert "quantum" == refused(wrong).fields["field"]
    assert 0 == done.exit_code, done.output
    assert "mine: " in done.output
    assert "seed 0, mine" in done.output


def test_a_trace_is_a_workload(simulate: Simulate) -> None:
    """Row by row; a row that is wrong ends the simulation with its line."""
    Path("trace.csv").write_text("at,prompt,output\n" + "".join(f"{at},20,5\n" for at in range(50)))
    done = simulate("trace.csv", "--json", "--scheduler", "fifo")
    with Path("trace.csv").open("a") as file:
        file.write("51,20,none\n")
    wrong = simulate("trace.csv", "--scheduler", "fifo")

    assert 50 == json.loads(done.output)["reports"][0]["all"]["done"]
    assert ("output", 52) == (refused(wrong).fields["field"], refused(wrong).fields["line"])


def test_users_who_do_not_think_ask_again_at_once(simulate: Simulate) -> None:
    """Each has a request under way all the time."""
    Path("mine.toml").write_text(
        '[[tenants]]\narrivals = { process = "closed", users = 3, think = 0 }\nprompt = 7\noutput = 3\n'
    )
    done = simulate("mine.toml", "--json", "--scheduler", "fifo", *FEW)

    assert 0 == done.exit_code, done.exception
    assert 300 == json.loads(done.output)["reports"][0]["all"]["done"]


def test_pictures(simulate: Simulate) -> None:
    """By the ending of the name."""
    done = simulate("chat", "--scheduler", "fifo", "--plot", "plot.png", *FEW)

    assert 0 == done.exit_code, done.output
    assert b"\x89PNG" == Path("plot.png").read_bytes()[:4]


@pytest.mark.parametrize(
    ("args", "kind", "words"),
    [
        (("mixt",), NotFound, "neither a file nor one of"),
        (("--show", "mixt"), NotFound, "the presets are"),
        (("--requests", "0"), InvalidArgument, "requests must be"),
        (("--seconds", "nan"), InvalidArgument, "seconds must be"),
        (("--rate", "-1"), InvalidArgument, "rate must be"),
        (("--rate", "nan"), InvalidArgument, "rate must be"),
        (("users", "--rate", "2"), InvalidArgument, "rate cannot be set"),
        (("--seed", "-1"), InvalidArgument, "seed must be"),
        (("--profile", "absent.json"), ConfigError, "absent.json"),
        (("--plot", "plot.bmp"), InvalidArgument, "plot must be"),
        (("--scheduler", "fiffo"), KernelError, "fifo"),
        (("--scheduler", "fair", "-o", "fair.weigths=1"), InvalidArgument, "weights"),
        (("-o", "sjf.ageing=1"), InvalidArgument, "sjf"),
    ],
)
def test_what_is_wrong_is_named(simulate: Simulate, args: tuple[str, ...], kind: type[KernelError], words: str) -> None:
    """By one typed error, before long."""
    error = refused(simulate(*args, "--jobs", "1"))

    assert isinstance(error, kind)
    assert words in str(error)


@pytest.mark.parametrize("option", ["ageing", "ageing=5", ".ageing=5", "priority.=5"])
def test_an_option_says_whose_it_is(simulate: Simulate, option: str) -> None:
    """Anything else is wrong usage."""
    done = simulate("-o", option)

    assert 2 == done.exit_code
    assert "priority.ageing=5" in done.output


def test_the_options_value_is_toml_or_text(simulate: Simulate) -> None:
    """A table for weights; a word for what is one."""
    options = ("-o", "fair.weights={ batch = 2.0 }", "-o", "sjf.predict=mean")
    done = simulate("--scheduler", "fair", "--scheduler", "sjf", *options, "--json", *FEW)

    assert {"fair": {"weights": {"batch": 2.0}}, "sjf": {"predict": "mean"}} == json.loads(done.output)["study"][
        "options"
    ]


def test_an_error_beside_is_the_same_error() -> None:
    """Whatever process it comes from."""
    wrong = Study(workload="chat", requests=5, options={"fair": {"weigths": 1}})
    for jobs in (1, 2):
        with pytest.raises(InvalidArgument, match="weigths"):
            run_study(wrong, ["fifo", "fair"], lambda policy, share: None, jobs)


def test_a_process_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its exit status."""
    started = subprocess.Popen

    def die(command: list[str], **how: Any) -> Any:
        return started([sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(9)"], **how)

    monkeypatch.setattr(subprocess, "Popen", die)
    with pytest.raises(ResourceError, match=r"exit status 9"):
        run_study(Study(workload="chat"), ["fifo", "fair"], lambda policy, share: None, 2)


def test_progress_rises_to_the_whole() -> None:
    """As a share where the end is known, else as nothing."""
    heard: list[float | None] = []
    run_study(Study(workload="chat", requests=500), ["fifo"], lambda policy, share: heard.append(share))

    assert [0.4, 0.8, 1.0] == heard


def test_help_imports_little() -> None:
    """Neither the engine nor what draws."""
    code = (
        "import sys; import llmos_simulator.command as c; from click.testing import CliRunner; "
        "assert 'bursty' in CliRunner().invoke(c.simulate, ['--help']).output; "
        "print(*{'rich', 'matplotlib', 'llmos_simulator.report'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "" == done.stdout.strip()


def test_every_field_of_a_study_has_an_option() -> None:
    """Nothing can be asked for from Python only."""
    known = {param.name for param in command.simulate.params}

    assert {field.name for field in attrs.fields(Study)} <= known
