"""``llmos simulate``: what a policy would do to a workload, without a model and faster than real time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmos.cli import Common, check_plot, complete_plugins, json_option, pass_common, write_whole
from llmos_kernel.hookspecs import hookimpl

if TYPE_CHECKING:
    from llmos_simulator.report import Report
    from llmos_simulator.study import Progress, Study

api = 1
"""The version of the contract of commands that this module is written for."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return simulate


def _options(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Read ``fair.prompt_cost=2``: the name of a policy, an option's, and a value as TOML has it, or else text."""
    import tomllib  # noqa: PLC0415 - only who gives an option pays

    found: dict[str, dict[str, Any]] = {}
    for text in values:
        key, equals, value = text.partition("=")
        policy, dot, name = key.strip().rpartition(".")
        if not (equals and dot and policy and name):
            raise click.BadParameter(f"{text!r} is not like priority.ageing=5", ctx=ctx, param=param)
        try:
            found.setdefault(policy, {})[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found.setdefault(policy, {})[name] = value
    return found


def _show(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Print a preset and end."""
    if value is not None:
        from llmos_simulator.workload_files import preset_text  # noqa: PLC0415 - the same

        click.echo(preset_text(value), nl=False)
        ctx.exit()


@click.command("simulate")
@click.argument("workload", default="mixed")
@click.option("--scheduler", "schedulers", multiple=True, metavar="NAME", shell_complete=complete_plugins("scheduler"),
              help="A policy to simulate; may be repeated.  [default: that of the settings]")  # fmt: skip
@click.option("--profile", default="", metavar="FILE", help="What `llmos profile` measured.  [default: SmolLM2-135M]")
@click.option("--requests", type=int, help="End after so many requests.")
@click.option("--seconds", type=float, help="Nobody comes after so many simulated seconds.")
@click.option("--rate", type=float, help="Requests per second of all tenants together.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same requests.")
@click.option("-o", "--option", "options", multiple=True, metavar="NAME.KEY=VALUE", callback=_options,
              help="An option of a policy: priority.ageing=5")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 1024), help="Policies at once.  [default: one per core]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON to this file as well.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw it into this PNG, SVG or PDF; needs matplotlib.",
)
@click.option("--show", metavar="PRESET", is_eager=True, expose_value=False, callback=_show,
              help="Print the workload file of a preset, to begin an own one with.")  # fmt: skip
@json_option
@pass_common
def simulate(
    common: Common, /, workload: str, schedulers: tuple[str, ...], jobs: int | None, out: Path | None,
    plot: Path | None, as_json: bool, **asked: Any,  # noqa: ANN401 - the fields of a Study
) -> None:  # fmt: skip
    """Simulate WORKLOAD under one policy or several: the real kernel and the real schedulers, a modelled executor.

    WORKLOAD is a TOML file, a trace in CSV, or a preset: bursty, chat, diurnal, mixed, users.
    """
    from llmos_simulator.plots import draw  # noqa: PLC0415 - only who types the command pays
    from llmos_simulator.study import Study, run_study  # noqa: PLC0415 - the same

    if plot is not None:
        check_plot(plot, "llmos-simulator[plot]")
    study = Study(workload=workload, **asked)
    study.load()
    policies = list(dict.fromkeys(schedulers or (common.settings().kernel.scheduler,)))
    with _progress(policies, quiet=as_json) as progress:
        reports = run_study(study, policies, progress, min(jobs or _cores(), len(policies)))
    values = _plain(study, reports)
    if out is not None:
        write_whole(out, values + "\n")
    if plot is not None:
        draw(_title(study, reports), reports, plot)
    if as_json:
        click.echo(values)
    else:
        from rich.console import Console  # noqa: PLC0415 - 100 ms that only tables pay

        from llmos_simulator.tables import print_reports  # noqa: PLC0415 - the same

        print_reports(Console(), _title(study, reports), reports)


def _cores() -> int:
    """Return how many cores this process may use."""
    import os  # noqa: PLC0415 - the same

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plain(study: Study, reports: list[Report]) -> str:
    """Return everything as JSON: the same study, the same text."""
    import json  # noqa: PLC0415 - the same

    import attrs  # noqa: PLC0415 - the same

    asked = attrs.asdict(study)
    return json.dumps({"study": asked, "reports": [one.plain() for one in reports]}, indent=2, ensure_ascii=False)


def _title(study: Study, reports: list[Report]) -> str:
    requests = max(one.all.requests for one in reports)
    return f"{study.load().name}: {requests:,} requests, seed {study.seed}, {study.load_profile().model}"


@contextmanager
def _progress(policies: list[str], *, quiet: bool) -> Iterator[Progress]:
    """Yield what draws a bar for each policy on a terminal; elsewhere nothing is drawn."""
    if quiet or not sys.stderr.isatty():
        yield lambda policy, share: None
        return
    from rich.console import Console  # noqa: PLC0415 - 100 ms that only these bars pay
    from rich.progress import BarColumn, Progress as Bars, TaskProgressColumn, TextColumn  # noqa: PLC0415 - the same
    from rich.progress import TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415 - the same

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
        found = {policy: bars.add_task(policy, total=None) for policy in policies}

        def draw(policy: str, share: float | None) -> None:
            bars.update(found[policy], total=None if share is None else 1.0, completed=share or 0.0)

        yield draw
