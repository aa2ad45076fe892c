"""``llmos export``: from a checkpoint to a model folder, with a bar that says how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from llmos.cli._common import Common, json_option, pass_common, print_json
from llmos.cli._failures import blamed
from llmos.cli._sampling import key_values
from llmos_kernel.errors import InvalidArgument


_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--format", "--weights", "weights"),
        {"help": "fp32, fp16 (for GPUs), w8a8, q8, q4; auto: the fastest here."},
    ),
    (("--for", "goal"), {"metavar": "GOAL", "help": "auto: latency, throughput or balanced (default)."}),
    (("--block-size",), {"type": int, "help": "q8, q4: weights that share a scale."}),
    (("--asymmetric",), {"is_flag": True, "help": "q8, q4: a zero point per block, for finer steps."}),
    (("--search",), {"is_flag": True, "help": "q8, q4: search the scales of least error."}),
    (
        ("--kv",),
        {"metavar": "TYPE", "help": "Type of the cache: float32, int8; fp16 weights have float16."},
    ),
    (("--calibration",), {"metavar": "FILE", "help": "int8 cache: a text to find its scales by."}),
)


def _export_options(command: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped this way
    """Add the options that exporters share; what one of them does not know, it refuses."""
    for names, how in reversed(_OPTIONS):
        command = click.option(*names, **how)(command)
    return command


@click.command("export")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@_export_options
@click.option("--with", "exporter", default="native", show_default=True, metavar="NAME", help="Which exporter plugin.")
@click.option(
    "-o", "--option", "given", multiple=True, metavar="KEY=VALUE", callback=key_values, help="For the exporter."
)
@json_option
@pass_common
def command(
    common: Common,
    /,
    source: Path,
    target: Path,
    exporter: str,
    given: dict[str, Any],
    as_json: bool,
    **options: object,
) -> None:
    """Make the model folder TARGET from the checkpoint folder SOURCE."""
    if not source.is_dir():
        message = f"SOURCE {source} is no folder"
        raise InvalidArgument(message, field="source", value=str(source), expected="a checkpoint's folder")
    if target.exists():
        message = f"TARGET {target} exists already; remove it, or choose another"
        raise InvalidArgument(message, field="target", value=str(target), expected="a new folder")
    plugin = common.installed().exporter(exporter)
    named = {name: value for name, value in options.items() if value not in (None, False)}
    with show_progress(quiet=as_json) as progress:
        try:
            facts = plugin.export(source, target, given | named, progress)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            raise blamed(f"exporter:{exporter}", "export", error)  # noqa: B904 - it has its cause
    if as_json:
        print_json(dict(facts))
    else:
        for line in facts.get("notes", ()):
            click.echo(line)
        click.echo(f"Wrote {target} ({facts.get('weights', 'model')}).  Next: llmos models add {target}")


@contextmanager
def show_progress(*, quiet: bool, counted: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what draws progress: a bar on a terminal, a line per tenth elsewhere, nothing for programs.

    The numbers are bytes, or, *counted*, pieces of work.
    """
    if quiet:
        yield _silent
    elif sys.stderr.isatty():
        with _bar(counted=counted) as draw:
            yield draw
    else:
        yield _Lines()


def _silent(what: str, done: int, total: int) -> None:
    """Draw nothing."""


class _Lines:
    """Draws a line per tenth."""

    def __init__(self) -> None:
        self._tenth = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        tenth = 10 * done // total if total else 0
        if tenth > self._tenth:
            self._tenth = tenth
            click.echo(f"{10 * tenth} %", err=True)


@contextmanager
def _bar(*, counted: bool) -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console  # noqa: PLC0415 - 100 ms that only this bar pays
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415
    from rich.progress import TimeRemainingColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    what_column = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    amount = MofNCompleteColumn() if counted else DownloadColumn()
    columns = (BarColumn(), amount, TimeRemainingColumn(), what_column)
    with Progress(*columns, console=Console(stderr=True), expand=True, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def draw(what: str, done: int, total: int) -> None:
            progress.update(bar, description=what, completed=done, total=total or None)

        yield draw
