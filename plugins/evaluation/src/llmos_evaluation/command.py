"""``llmos eval``: how good and how fast a model is on your own records, and two models beside each other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmos.cli import Common, check_plot, complete_models, json_option, pass_common
from llmos_kernel.hookspecs import hookimpl

if TYPE_CHECKING:
    from llmos_evaluation import Result, Suite

api = 1
"""The version of the command contract that this module is written for."""
FAILED = 1
"""The exit code where a record failed."""
RUN = "run"
_PLOT = "Draw it into this PNG, SVG or PDF; needs matplotlib."
_EXTRA = "llmos-evaluation[plot]"


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return evaluation


class Group(click.Group):
    """Takes what begins with no command as what `run` is typed with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [RUN, *args]
        return super().parse_args(ctx, args)


@click.group("eval", cls=Group, subcommand_metavar="[COMMAND] ARGS...")
def evaluation() -> None:
    """Measure how good a model is: llmos eval MODEL SUITE."""


@evaluation.command(RUN, short_help="Measure a model on a suite of records.")
@click.argument("model", shell_complete=complete_models)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="SUITE")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Measure this; may be repeated.")
@click.option("--type", "type_", metavar="TYPE", help="What is asked of the model: generate, chat or classify.")
@click.option("--prompt", metavar="TEXT", help="Ask this, in which {{ name }} is a field of the record.")
@click.option("--max-tokens", type=int, help="Most tokens of an answer.")
@click.option("--stop", multiple=True, metavar="TEXT", help="A text that ends an answer; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many records, from the first.")
@click.option("--at-once", type=click.IntRange(1, 2**16), help="So many are under way.  [default: the model's rows]")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
@click.option("--plot", type=click.Path(path_type=Path), help=_PLOT)
@json_option
@pass_common
def run(
    common: Common, /, model: str, file: Path, at_once: int | None, resume: bool, plot: Path | None, as_json: bool,
    **asked: Any,  # noqa: ANN401 - each option's own
) -> int:  # fmt: skip
    """Measure MODEL on SUITE: records as .jsonl or .csv, or a .toml that names them.

    The result is kept; `llmos eval list` lists what is.
    """
    from llmos.cli.export import show_progress  # noqa: PLC0415 - only who runs one pays
    from llmos_evaluation.running import evaluate  # noqa: PLC0415 - the same

    if plot is not None:
        check_plot(plot, _EXTRA)
    suite = _suite(file, asked)
    home = common.settings().home
    with common.client() as client, client.load_model(model) as loaded:
        try:
            with show_progress(quiet=as_json or not sys.stderr.isatty(), counted=True) as draw:
                result = evaluate(loaded, suite, home, at_once=at_once, resume=resume, draw=draw)
        except KeyboardInterrupt:
            click.echo("note:  what was answered is kept; go on with --resume", err=True)
            raise
    _tell(result, plot, as_json=as_json)
    return FAILED if result.failed else 0


@evaluation.command("list")
@json_option
@pass_common
def list_results(common: Common, /, as_json: bool) -> None:
    """List the results that are kept, the newest first."""
    from llmos_evaluation.report import print_list  # noqa: PLC0415 - only who types it pays
    from llmos_evaluation.store import Result, results  # noqa: PLC0415 - the same

    found = {place: one for place, (_, one) in enumerate(results(common.settings().home), 1)}
    for one in found.values():
        if not isinstance(one, Result):
            click.echo(f"note:  {one.message}", err=True)
    good = {place: one for place, one in found.items() if isinstance(one, Result)}
    if as_json:
        click.echo(json.dumps([one.summary().to_plain() for one in good.values()], indent=2))
    elif good:
        print_list(good)
    else:
        click.echo("There is no result.  llmos eval MODEL SUITE makes one.")


@evaluation.command("show", short_help="Show a result, by its number, its id or its file.")
@click.argument("result")
@click.option("--plot", type=click.Path(path_type=Path), help=_PLOT)
@json_option
@pass_common
def show(common: Common, /, result: str, plot: Path | None, as_json: bool) -> None:
    """Show RESULT: its number in the list, its id, or a file; with --json all of it, the records too."""
    from llmos_evaluation.store import find_result  # noqa: PLC0415 - only who types it pays

    if plot is not None:
        check_plot(plot, _EXTRA)
    _tell(find_result(common.settings().home, result), plot, as_json=as_json)


@evaluation.command("compare", short_help="Show how two results differ.")
@click.argument("first")
@click.argument("second")
@click.option("--plot", type=click.Path(path_type=Path), help=_PLOT)
@json_option
@pass_common
def compare_results(common: Common, /, first: str, second: str, plot: Path | None, as_json: bool) -> None:
    """Show how the result SECOND differs from the result FIRST, of the same records.

    Each is a number in the list, an id, the beginning of one, or a file.
    """
    import attrs  # noqa: PLC0415 - only who types it pays

    from llmos_evaluation.comparing import compare  # noqa: PLC0415 - the same
    from llmos_evaluation.plot import draw_results  # noqa: PLC0415 - the same
    from llmos_evaluation.report import print_differences  # noqa: PLC0415 - the same
    from llmos_evaluation.store import find_result  # noqa: PLC0415 - the same

    if plot is not None:
        check_plot(plot, _EXTRA)
    one, other = (find_result(common.settings().home, name) for name in (first, second))
    found = compare(one, other)
    if plot is not None:
        draw_results([one, other], plot)
    if as_json:
        click.echo(json.dumps([attrs.asdict(difference) for difference in found], indent=2))
    else:
        print_differences(one, other, found)


def _suite(file: Path, asked: dict[str, Any]) -> Suite:
    from llmos_evaluation.suites import Asked, read_suite  # noqa: PLC0415 - only who runs one pays

    params: dict[str, Any] = {"max_tokens": asked["max_tokens"], "stop": list(asked["stop"])}
    return read_suite(
        file,
        Asked(
            type=asked["type_"], prompt=asked["prompt"], metrics=asked["metrics"], limit=asked["limit"],
            params={name: value for name, value in params.items() if value},
        ),
    )  # fmt: skip


def _tell(result: Result, plot: Path | None, *, as_json: bool) -> None:
    from llmos_evaluation.plot import draw_results  # noqa: PLC0415 - only who runs one pays
    from llmos_evaluation.report import print_result  # noqa: PLC0415 - the same

    if plot is not None:
        draw_results([result], plot)
    if as_json:
        click.echo(json.dumps(result.to_plain(), indent=2))
    else:
        print_result(result)
