"""Tables and pictures of reports: what is in them, and that they fit."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from llmos.cli import check_plot
from llmos_simulator import plots
from llmos_simulator.records import Arrival, Outcome
from llmos_simulator.report import Collector, Report
from llmos_simulator.tables import draw_distributions, duration, print_reports, share


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "–"), (0.0, "0"), (0.0000123, "12.3 µs"), (0.0005, "500 µs"), (0.00999, "9.99 ms"), (0.9996, "1.00 s"),
        (1.0, "1.00 s"), (9.996, "10.0 s"), (99.94, "99.9 s"), (99.96, "1.67 min"), (3600.0, "60.0 min"),
        (6000.0, "1.67 h"), (3.6e7, "10,000 h"),
    ],
)  # fmt: skip
def test_durations_are_read_in_their_unit(seconds: float | None, expected: str) -> None:
    """Three digits, whatever the size."""
    assert expected == duration(seconds)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0.0, "0%"), (1.0, "100%"), (0.9999, ">99%"), (0.00001, "<0.1%"), (0.0123, "1.2%"), (0.5, "50%")],
)
def test_shares_never_say_all_or_nothing_of_what_is_not(value: float | None, expected: str) -> None:
    """One in a million is not none."""
    assert expected == share(value)


def report(policy: str, slow: float, tenants: str = "ab", errors: tuple[str, ...] = ("",)) -> Report:
    """A report of made-up outcomes."""
    random, collector, now = Random(0), Collector(policy), 0.0
    for _ in range(500):
        now += random.expovariate(2.0)
        wait = random.expovariate(1 / slow)
        collector.add(Outcome(
            Arrival(now, random.choice(tenants), prompt=10, output=40), admitted=now + wait, first=now + wait + 0.1,
            ended=now + wait + 3.0, prompt=10, generated=40, error=random.choice(errors),
        ))  # fmt: skip
    return collector.report(0.5)


def printed(reports: list[Report], width: int, encoding: str = "utf-8") -> list[str]:
    """The lines that are printed on a terminal of that *width*."""
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    print_reports(Console(file=file, width=width, legacy_windows=False), "title", reports)
    file.flush()
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_policy_and_tenant_has_its_row(width: int) -> None:
    """And nothing is wider than the terminal, or cut."""
    reports = [report("fifo", 5.0), report("round-robin", 0.5)]
    lines = printed(reports, width)
    text = "\n".join(lines)

    assert max(map(len, lines)) <= width
    assert "…" not in text
    for one in reports:
        assert [True, True] == [duration(service.first.p95) in text for service in one.tenants]
        assert 3 == sum(line.startswith(one.policy) for line in lines)
    assert 2 == sum(line.startswith("  a ") for line in lines)


def test_a_wide_terminal_shows_more() -> None:
    """Percentiles that a narrow one has no room for."""
    assert "p99" in "\n".join(printed([report("fifo", 5.0)], 120))
    assert "p99" not in "\n".join(printed([report("fifo", 5.0)], 80))


def test_one_tenant_needs_no_rows_of_its_own() -> None:
    """It is the policy's row."""
    assert [] == [line for line in printed([report("fifo", 5.0, "a")], 80) if line.startswith("  a")]


def test_other_errors_are_said() -> None:
    """With their number."""
    text = "\n".join(printed([report("fifo", 5.0, errors=("", "", "ExecutorCrashed"))], 80))

    assert "× ExecutorCrashed" in text


def test_a_terminal_without_blocks_gets_letters() -> None:
    """Nothing that it cannot print in the drawing."""
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    console = Console(file=file, width=80, legacy_windows=False)
    draw_distributions(console, "title", [("fifo", report("fifo", 5.0).all.first)])
    file.flush()


def test_the_slower_policy_stands_further_right() -> None:
    """On the common axis."""
    lines = printed([report("slow", 50.0), report("fast", 0.5)], 100)
    slow, fast = (next(line for line in lines if line.startswith(name) and "p50" in line) for name in ("slow", "fast"))

    assert fast.index("█") < slow.index("█")


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_equal_times_are_one_bar(seconds: float) -> None:
    """However little there is to draw."""
    collector = Collector("fifo")
    collector.add(Outcome(Arrival(0.0), admitted=0.0, first=seconds, ended=2.0, generated=1))

    assert any("█" in line for line in printed([collector.report()], 80))


def test_nothing_is_drawn_of_nothing() -> None:
    """A workload of which every request was refused has no distribution."""
    collector = Collector("fifo")
    collector.add(Outcome(Arrival(0.0), ended=0.0, error="Overloaded"))
    lines = printed([collector.report()], 80)

    assert any("100%" in line for line in lines)
    assert not any("p50" in line for line in lines)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures(tmp_path: Path, suffix: str) -> None:
    """By the ending of the name; the same reports make the same picture."""
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "other")]
    for path in paths:
        check_plot(path, "llmos-simulator[plot]")
        plots.draw("title", [report("fifo", 5.0), report("fair", 1.0)], path)
    begin = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]

    assert begin == paths[0].read_bytes()[: len(begin)]
    if suffix != ".pdf":
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_picture_of_nothing(tmp_path: Path) -> None:
    """It is empty, and one still."""
    plots.draw("title", [Collector("fifo").report()], tmp_path / "plot.png")

    assert (tmp_path / "plot.png").stat().st_size > 0
