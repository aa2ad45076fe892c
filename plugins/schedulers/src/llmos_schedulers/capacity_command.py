"""``llmos capacity``: how many users a measured model can hold."""

from __future__ import annotations

import json
import shutil
from math import inf
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from llmos.cli import check_plot, json_option
from llmos_kernel.hookspecs import hookimpl

if TYPE_CHECKING:
    from llmos_schedulers.capacity import Batching, Load

api = 1
"""The version of the commands' contract that this module is written for."""

WIDTHS = (7, 6, 11, 10, 10, 12)
"""Columns of the table."""
FULL = 1.6
"""How many limits the longest bar shows."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return command


@click.command("capacity")
@click.argument("profile", type=click.Path(path_type=Path))
@click.option("--wait", type=float, default=2.0, show_default=True, help="Seconds that tasks may wait to be begun.")
@click.option("--share", type=float, default=0.95, show_default=True, help="The share of the tasks that is to be so.")
@click.option("--prompt", type=float, required=True, help="Mean tokens of a prompt that are not cached.")
@click.option("--output", type=float, required=True, help="Mean tokens of an answer.")
@click.option("--variability", type=float, default=1.0, show_default=True,
              help="Deviation of an answer's length by its mean: 0, all alike; 1, as by chance.")  # fmt: skip
@click.option("--think", type=float, help="Mean seconds from an answer to the user's next request.")
@click.option("--requests-per-minute", type=float, help="Or how often a user asks, answered or not.")
@click.option("--chunk", type=int, help="Most prompt tokens in a step, as the scheduler is told.  [default: 512]")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the waits over the users; needs matplotlib.")
@json_option
def command(
    profile: Path, wait: float, share: float, chunk: int | None, plot: Path | None, as_json: bool,
    **usage: Any,  # noqa: ANN401 - the fields of a Usage
) -> None:  # fmt: skip
    """Say how many users a model can hold, by the PROFILE that `llmos profile MODEL --out PROFILE` has measured.

    A user either thinks for a while after each answer (--think), or asks at random times (--requests-per-minute).
    """
    from llmos import StepProfile  # noqa: PLC0415 - only who types the command pays
    from llmos_schedulers.capacity import CHUNK, Batching, Usage, capacity, plain, points  # noqa: PLC0415 - the same

    if plot is not None:
        check_plot(plot, "llmos-schedulers[plot]")
    batching = Batching(
        profile=StepProfile.read(profile), usage=Usage(**usage), chunk=CHUNK if chunk is None else chunk
    )
    best = capacity(batching, wait, share)
    loads = points(batching, 10 if best is None else best.users, share)
    if plot is not None:
        draw(batching, best, loads, wait, share, plot)
    if as_json:
        facts = {"users": 0 if best is None else best.users, "wait": wait, "share": share, "most": batching.most}
        click.echo(json.dumps(facts | {"loads": [plain(load) for load in loads]}, indent=2))
        return
    columns = shutil.get_terminal_size().columns
    for line in (*wrap(answer(batching, best, wait, share), columns), "", *table(loads, wait, share, columns)):
        click.echo(line)


def answer(batching: Batching, best: Load | None, wait: float, share: float) -> str:
    """Return the answer in one sentence."""
    model = batching.profile.model or "The model"
    limit = f"{percent(share)} of the tasks wait at most {wait:g} s"
    if best is None:
        return f"{model} cannot hold a single such user so that {limit}."
    users = "1 such user" if best.users == 1 else f"{best.users:,} such users"
    return (
        f"{model} can hold {users} so that {limit}; it then serves {60 * best.tasks:.3g} tasks a minute, "
        f"{percent(round(best.utilisation, 2))} of what it can."
    )


def table(loads: list[Load], wait: float, share: float, columns: int) -> list[str]:
    """Return what so many users get, one line each, with a bar for the wait and a mark at the limit."""
    heads = ("users", "used", "tasks/min", "mean wait", f"{percent(share)} wait", "first token")
    room = columns - sum(WIDTHS) - 2
    lines = [_row(heads) + (f"  {'':{_at(wait, wait, room)}}┊ {wait:g} s" if room > FULL * 8 else "")]
    for load in loads:
        cells = (
            f"{load.users:,}", percent(round(load.utilisation, 2)), f"{60 * load.tasks:.3g}", seconds(load.mean_wait),
            seconds(load.wait), seconds(load.first),
        )  # fmt: skip
        lines.append((_row(cells) + (f"  {_bar(load.wait, wait, room)}" if room > FULL * 8 else "")).rstrip())
    return lines


def _row(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


def _at(value: float, limit: float, room: int) -> int:
    """Return how long the bar of a *value* is, where the longest shows `FULL` limits."""
    return min(room - 1, int((room - 1) * value / (FULL * limit))) if 0 < value < inf and limit else 0


def _bar(value: float, limit: float, room: int) -> str:
    mark = _at(limit, limit, room)
    if value == inf or (limit and value > FULL * limit):
        return "█" * mark + "┃" + "█" * (room - mark - 2) + "▶"
    bar = "█" * _at(value, limit, room)
    return f"{bar[:mark]:{mark}}" + ("┃" if len(bar) > mark else "┊") + bar[mark + 1 :]


def percent(share: float) -> str:
    """Return a share for people: ``95 %``."""
    return f"{100 * share:.4g} %"


def seconds(value: float) -> str:
    """Return a time for people."""
    if value == inf:
        return "no end"
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"


def draw(batching: Batching, best: Load | None, loads: list[Load], wait: float, share: float, path: Path) -> None:
    """Draw the waits over the users, with the limit, and how much is used, into *path*."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and only who draws needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    known = [load for load in loads if load.wait < inf]
    with plt.rc_context({"svg.hashsalt": "llmos", "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}):
        canvas, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
        users = [load.users for load in known]
        axes.plot(users, [load.wait for load in known], marker="o", label=f"{percent(share)} wait at most")
        axes.plot(users, [load.mean_wait for load in known], marker=".", linestyle="--", label="mean wait")
        axes.axhline(wait, color="tab:red", linewidth=1, label=f"limit: {wait:g} s")
        if best is not None:
            axes.axvline(best.users, color="tab:green", linewidth=1, label=f"{best.users:,} users")
        axes.set(xlabel="users", ylabel="seconds", ylim=(0, 2.5 * wait or None), xlim=(0, None))
        axes.set_title(batching.profile.model)
        used = axes.twinx()
        used.plot(users, [100 * load.utilisation for load in known], color="tab:gray", linewidth=1)
        used.set(ylabel="% of what can be served", ylim=(0, 105))
        used.yaxis.label.set_color("tab:gray")
        used.grid(visible=False)
        axes.legend(loc="upper left")
        canvas.savefig(path, dpi=120, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        plt.close(canvas)
