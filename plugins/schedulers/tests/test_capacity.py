"""How many users a model can hold: against formulas, against mean value analysis, and against steps one by one."""

from __future__ import annotations

import json
from math import inf, nan
from pathlib import Path
from statistics import quantiles
from typing import Any

import attrs
import pytest

from llmos import StepProfile
from llmos_kernel.errors import ConfigError, InvalidArgument
from llmos_schedulers.capacity import Batching, Load, Usage, capacity, load, plain
from llmos_schedulers.capacity_command import command, llmos_command, table
from llmos_schedulers.queueing import MMc
from plugins.schedulers.tests.batching_server import waits

SMALL = StepProfile(
    model="small", fixed=0.006, per_row=0.0015, prompt_fixed=0.0025, per_prompt_token=0.0006, per_context_token=4e-6,
    per_prompt_context=5e-7, places=16, rows=16, tokens=256, context=1024,
)  # fmt: skip
"""About what a model of 135 million parameters takes on two cores."""
APART = StepProfile(model="apart", fixed=0.001, places=4, rows=4)
"""Tasks that do not hinder each other: as many servers as places."""


def batching(profile: StepProfile = SMALL, **usage: Any) -> Batching:
    """A model, used in one way."""
    return Batching(profile=profile, usage=Usage(**{"prompt": 200, "output": 100, **usage}))


def test_tasks_that_do_not_hinder_each_other_are_mmc() -> None:
    """With places that are servers the waits are those of Erlang's formula, besides the rest of a step."""
    alone = batching(APART, prompt=1, output=1000, requests_per_minute=6)
    for users in (20, 32, 36):
        found = load(alone, users)
        expected = MMc(arrivals=users / 10, service=1.0, servers=4)

        assert expected.utilisation == pytest.approx(found.utilisation)
        assert expected.mean_wait + 0.0005 == pytest.approx(found.mean_wait, abs=0.0015)
        assert expected.wait(0.95) == pytest.approx(found.wait, abs=0.002)


def mean_values(rates: tuple[float, ...], think: float, users: int) -> float:
    """Tasks per second of a closed network with a load-dependent server (Reiser and Lavenberg's recursion)."""
    chances, throughput = [1.0], 0.0
    for count in range(1, users + 1):
        time = sum(tasks / rates[min(tasks, len(rates) - 1)] * chances[tasks - 1] for tasks in range(1, count + 1))
        throughput = count / (think + time)
        one_less = chances
        chances = [0.0] + [
            throughput / rates[min(tasks, len(rates) - 1)] * one_less[tasks - 1] for tasks in range(1, count + 1)
        ]
        chances[0] = max(1 - sum(chances), 0.0)
    return throughput


def test_users_who_think_are_a_closed_network() -> None:
    """Tasks per second are those of mean value analysis, where services vary as by chance."""
    model = batching(think=20, prompt=100, output=100, variability=1.01)
    for users in (1, 10, 40, 60):
        assert mean_values(model.rates, 20.0, users) == pytest.approx(load(model, users).tasks, rel=0.01)


@pytest.mark.parametrize("usage", [
    {"prompt": 200, "output": 100, "think": 30},
    {"prompt": 200, "output": 100, "requests_per_minute": 1.0},
    {"prompt": 50, "output": 20, "think": 5, "variability": 0},
    {"prompt": 500, "output": 50, "think": 20, "variability": 0.5},
    {"prompt": 20, "output": 100, "requests_per_minute": 1.0, "variability": 0.5},
], ids=str)  # fmt: skip
def test_answers_are_right_within_a_tenth(usage: dict[str, Any]) -> None:
    """Step by step, a tenth fewer users than the answer wait less than the limit, and a tenth more wait longer."""
    model = batching(**usage)
    best = capacity(model, 2.0)
    assert best is not None
    fewer, more = (
        [wait for seed in range(2) for wait in waits(SMALL, model.usage, users, seed=seed, count=3000)]
        for users in (round(0.9 * best.users), round(1.1 * best.users))
    )

    assert quantiles(fewer, n=20)[-1] <= 2.0 <= quantiles(more, n=20)[-1]


@pytest.mark.parametrize("users", [20, 35, 50])
def test_throughput_and_waits_at_low_load(users: int) -> None:
    """Far from the limit the waits are those of steps and prompts, within a fifth or ten milliseconds."""
    model = batching(think=30)
    found = load(model, users)
    seen = [wait for seed in range(3) for wait in waits(SMALL, model.usage, users, seed=seed, count=3000)]

    assert sum(seen) / len(seen) == pytest.approx(found.mean_wait, rel=0.2, abs=0.01)
    assert quantiles(seen, n=20)[-1] == pytest.approx(found.wait, rel=0.2, abs=0.01)


def test_more_users_wait_longer() -> None:
    """Waits and use grow with the users, and the answer is the last that is within the limit."""
    model = batching(think=30)
    loads = [load(model, users) for users in range(1, 110, 9)]
    best = capacity(model, 2.0)

    assert loads == sorted(loads, key=lambda one: (one.wait, one.mean_wait, one.utilisation))
    assert best is not None
    assert best.wait <= 2.0 < load(model, best.users + 1).wait


def test_lines_without_end() -> None:
    """More requests than can be served wait without end, which JSON says as null."""
    found = load(batching(requests_per_minute=60), 100)

    assert (inf, inf, inf) == (found.mean_wait, found.wait, found.first)
    assert found.utilisation > 1
    assert plain(found)["wait"] is None


def test_too_much_for_one() -> None:
    """Where not even one user can be held the answer is that."""
    assert capacity(batching(requests_per_minute=600), 1.0) is None
    assert load(batching(think=1), 1) == capacity(batching(think=1), 0.0)  # nobody else is there to wait for


@pytest.mark.parametrize(("change", "field", "words"), [
    ({"prompt": 0}, "prompt", "from 1"), ({"prompt": nan}, "prompt", "a number"),
    ({"output": -5}, "output", "from 1"), ({"output": inf}, "output", "a number"),
    ({"output": "many"}, "output", "a number"), ({"variability": -1}, "variability", "from 0"),
    ({"think": 0}, "think", "from 0.001"), ({"think": None}, "think", "requests_per_minute"),
    ({"requests_per_minute": 1}, "think", "one of them"), ({"prompt": 1000}, "prompt", "context"),
], ids=str)  # fmt: skip
def test_wrong_users(change: dict[str, Any], field: str, words: str) -> None:
    """What cannot be is refused by the name of the field."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        batching(**{"think": 30, **change})

    assert field == caught.value.fields["field"]


@pytest.mark.parametrize(("wait", "share", "field"), [
    (-1, 0.95, "wait"), (nan, 0.95, "wait"), (1, 1, "share"), (1, 95, "share"), (1, 0, "share"),
])  # fmt: skip
def test_wrong_limits(wait: float, share: float, field: str) -> None:
    """So are limits."""
    with pytest.raises(InvalidArgument) as caught:
        capacity(batching(think=30), wait, share)

    assert field == caught.value.fields["field"]


def test_a_model_whose_steps_take_no_time() -> None:
    """A profile without times says nothing."""
    with pytest.raises(InvalidArgument, match="steps take time"):
        batching(StepProfile(), think=30)


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A file with a profile."""
    SMALL.write(tmp_path / "small.json")
    return tmp_path / "small.json"


def say(*arguments: object) -> None:
    """Run the command."""
    command([str(argument) for argument in arguments], standalone_mode=False)


USER = ("--prompt", 200, "--output", 100, "--think", 30)


@pytest.mark.parametrize("columns", [80, 120])
def test_prints_an_answer(
    columns: int, profile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, then a table with bars that fits the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    say(profile, *USER)
    lines = capsys.readouterr().out.splitlines()

    assert "small can hold" in lines[0]
    assert "95 % of the tasks wait at most 2 s" in " ".join(lines)
    assert max(map(len, lines)) <= columns
    assert "users" in lines[3]
    assert lines[3].endswith("┊ 2 s")
    assert all("┊" in line or "┃" in line for line in lines[4:])


def test_prints_json(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get the same figures."""
    say(profile, *USER, "--json", "--wait", 1, "--share", 0.9)
    found = json.loads(capsys.readouterr().out)
    best = capacity(batching(think=30), 1.0, 0.9)

    assert best is not None
    assert (best.users, 1, 0.9) == (found["users"], found["wait"], found["share"])
    assert plain(best) in found["loads"]


def test_says_that_nobody_can_be_held(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And prints the table all the same."""
    say(profile, "--prompt", 200, "--output", 100, "--requests-per-minute", 1000)
    found = capsys.readouterr().out

    assert "small cannot hold a single such user" in found
    assert "no end" in found


@pytest.mark.parametrize("name", ["waits.png", "waits.svg"])
def test_draws(name: str, profile: Path, tmp_path: Path) -> None:
    """The waits over the users, as a picture; equal ones for equal profiles."""
    pytest.importorskip("matplotlib")
    say(profile, *USER, "--plot", tmp_path / name)
    say(profile, *USER, "--plot", tmp_path / f"again-{name}")

    assert (tmp_path / name).stat().st_size > 5000
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()


def test_refuses_what_it_cannot_draw(profile: Path, tmp_path: Path) -> None:
    """By the file's name, before anything is reckoned."""
    with pytest.raises(InvalidArgument, match="ends in"):
        say(profile, *USER, "--plot", tmp_path / "waits.txt")


def fields_of_a_profile() -> list[tuple[str, object]]:
    """Each number of a profile, and a value that it cannot have."""
    facts = attrs.asdict(SMALL)
    return [(name, odd) for name, value in facts.items() if isinstance(value, int | float) for odd in (-1, "x", None)]


@pytest.mark.parametrize(("field", "odd"), [one for one in fields_of_a_profile() if one != ("r2", -1)], ids=str)
def test_wrong_profiles(field: str, odd: object, profile: Path) -> None:
    """Each field of a profile that is wrong is named, with the file."""
    facts = json.loads(profile.read_text("utf-8"))
    profile.write_text(json.dumps({**facts, field: odd}), "utf-8")
    with pytest.raises(ConfigError, match=field) as caught:
        say(profile, *USER)

    assert field == caught.value.fields["field"]
    assert str(profile) in caught.value.message


def test_a_narrow_terminal_gets_no_bars() -> None:
    """Figures are worth more."""
    loads = [Load(users=1, utilisation=0.5, tasks=1.0, mean_wait=0.0, wait=0.0, first=0.1)]

    assert max(map(len, table(loads, 2.0, 0.95, 60))) <= 60
    assert command is llmos_command()
