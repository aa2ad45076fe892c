"""``llmos data``: pipelines of processors over files, without a model and without a kernel."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmos.cli import Common, complete_pipelines, pass_common
from llmos_kernel.hookspecs import hookimpl

if TYPE_CHECKING:
    from llmos import Pipeline
    from llmos_data.journal import Journal
    from llmos_data.plan import Plan
    from llmos_data.run import Worked

api = 1

FORMATS = ("jsonl", "csv", "parquet", "folder")
EPILOG = """\b
Exit codes:
  0  done                              3  a processor failed or is missing
  1  a record was refused            130  interrupted
  2  wrong usage or settings         141  whoever read the output has gone

\b
With -o FILE the output is FILE.part until it is whole, and FILE.journal says
how far it is: after a crash --resume goes on from there, without
a lost or doubled record.  FILE.lock keeps other runs away meanwhile."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return data


@click.group("data")
def data() -> None:
    """Pass records through processors."""


_RUN_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-o", "--output"), {"type": click.Path(path_type=Path), "metavar": "FILE", "help": "Write to FILE."}),
    (("--from", "source"), {"type": click.Choice(FORMATS), "help": "Format of the input.  [default: by its name]"}),
    (("--to", "target"), {"type": click.Choice(FORMATS), "help": "Format of the output.  [default: the input's]"}),
    (
        ("--suffix", "suffixes"),
        {"multiple": True, "metavar": ".EXT", "help": "Read a folder's files of this name.  [default: of texts]"},
    ),
    (("-f", "--field", "fields"), {"multiple": True, "metavar": "NAME", "help": "Field to process.  [default: text]"}),
    (("--into",), {"default": "", "metavar": "NAME", "help": "Field that gets the result.  [default: the same]"}),
    (("--keep",), {"multiple": True, "metavar": "NAME", "help": "Write only these fields."}),
    (("--explode",), {"is_flag": True, "help": "Make a record of each item of a list."}),
    (
        ("--rejects",),
        {"type": click.Path(path_type=Path), "metavar": "FILE", "help": "Note bad records in FILE and go on."},
    ),
    (("--resume",), {"is_flag": True, "help": "Go on with a run that was interrupted."}),
    (
        ("--workers",),
        {"type": click.IntRange(1, 256), "default": 1, "show_default": True, "help": "Processes that share the work."},
    ),
    (
        ("--limit",),
        {"type": click.IntRange(1, 2**30), "default": 2**24, "help": "Bytes of the longest record.  [default: 16 MiB]"},
    ),
    (("--json", "as_json"), {"is_flag": True, "help": "Say as JSON, on standard error, what was done."}),
)


def _run_options(command: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped this way
    for names, how in reversed(_RUN_OPTIONS):
        command = click.option(*names, **how)(command)
    return command


@data.command("run", epilog=EPILOG, short_help="Process the records of a file or a folder.")
@click.argument("pipeline", shell_complete=complete_pipelines)
@click.argument("input", type=click.Path(path_type=Path), required=False)
@_run_options
@pass_common
def run(
    common: Common, /, pipeline: str, input: Path | None, output: Path | None, rejects: Path | None, resume: bool,
    **how: Any,  # noqa: ANN401 - each option's own
) -> None:  # fmt: skip
    """Pass each record of INPUT, a file, a folder or standard input, through PIPELINE.

    PIPELINE is a name under [pipelines] in the settings, or processors with commas between them: normalize,clean.
    """
    from llmos_data.files import Files  # noqa: PLC0415 - only who types the command pays

    pipeline_of(common, pipeline).processors()
    count, as_json, started = how.pop("workers"), how.pop("as_json"), time.monotonic()
    given = {"pipeline": pipeline, "rejecting": rejects is not None, **{name: how[name] for name in how if how[name]}}
    with ExitStack() as stack:
        stack.enter_context(_kept(output))
        files = Files(None if input is None or str(input) == "-" else input, output, rejects)
        source = stack.enter_context(files.source(given))
        plan = files.plan(given, source)
        state = files.begin(plan, source, stack, resume=resume)
        if state is None:
            click.echo(f"{output} is whole already", err=True)
            return
        work = stack.enter_context(_worked(common, plan, count))
        state.progress = stack.enter_context(_progress(source.size, quiet=as_json or _on_terminal(output)))
        state(work, source.blocks(plan, state.done))
    _tell(state.done, time.monotonic() - started, as_json=as_json)


@data.command("worker", hidden=True)
@pass_common
def worker(common: Common) -> None:
    """Work for ``run``, which starts it."""
    from llmos_data.work import Work  # noqa: PLC0415 - the same
    from llmos_data.workers import serve  # noqa: PLC0415 - the same

    serve(lambda plan: Work(plan, pipeline_of(common, plan.pipeline)))


def pipeline_of(common: Common, word: str) -> Pipeline:
    """Return the pipeline of the settings that is called *word*, or one of the processors that it lists.

    Raises `PluginMissing`, naming the nearest, for a word that is neither.
    """
    import attrs  # noqa: PLC0415 - the same

    from llmos import Pipeline  # noqa: PLC0415 - the same
    from llmos_kernel.errors import PluginMissing  # noqa: PLC0415 - the same
    from llmos_kernel.loader import nearest  # noqa: PLC0415 - the same

    known = {one.name: attrs.evolve(one, plugins=common.plugins) for one in common.settings().pipelines}
    if word in known:
        return known[word]
    names = [name.strip() for name in word.split(",")]
    processors = common.installed().names("processor")
    if len(names) == 1 and word not in processors:
        message = f"no pipeline and no processor is called {word!r}{nearest(word, (*known, *processors))}"
        raise PluginMissing(message, plugin=f"processor:{word}", installed=[*known, *processors])
    return Pipeline(word, names, common.settings().kernel, common.plugins)


@contextmanager
def _worked(common: Common, plan: Plan, count: int) -> Iterator[Worked]:
    """Yield what works on blocks: this process, or *count* others."""
    from llmos_data.work import Work  # noqa: PLC0415 - the same
    from llmos_data.workers import Workers  # noqa: PLC0415 - the same

    if count == 1:
        work = Work(plan, pipeline_of(common, plan.pipeline))
        yield lambda blocks: ((block, work(block)) for block in blocks)
        return
    config = ("--config", common.config) if common.config else ()
    blocked = [word for name in common.blocked for word in ("--no-plugin", name)]
    with Workers([sys.executable, "-m", "llmos", *config, *blocked, "data", "worker"], plan, count) as workers:
        yield workers.map


@contextmanager
def _kept(output: Path | None) -> Iterator[None]:
    """Say of an interrupted run that it can be gone on with, where it has begun."""
    from llmos_data.outputs import journal_of  # noqa: PLC0415 - the same

    try:
        yield
    except KeyboardInterrupt:
        if output is not None and journal_of(output).exists():
            click.echo("note:  what was written is kept; go on with --resume", err=True)
        raise


@contextmanager
def _progress(size: int, *, quiet: bool) -> Iterator[Callable[[int], object]]:
    """Yield what draws how far the source is read, where a person looks."""
    from llmos.cli.export import show_progress  # noqa: PLC0415 - the same

    with show_progress(quiet=quiet or not sys.stderr.isatty()) as draw:
        yield lambda end: draw("", end, size)


def _on_terminal(output: Path | None) -> bool:
    """Return whether the records themselves are seen, which a bar would stand between."""
    return output is None and sys.stdout.isatty()


def _tell(done: Journal, seconds: float, *, as_json: bool) -> None:
    if as_json:
        facts = {"records": done.written, "rejected": done.rejected, "seconds": round(seconds, 3)}
        click.echo(json.dumps(facts), err=True)
    else:
        rejected = f", {done.rejected:,} rejected" if done.rejected else ""
        click.echo(f"{done.written:,} records in {seconds:.1f} s{rejected}", err=True)
