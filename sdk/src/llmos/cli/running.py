"""``llmos run``: a task of a file on one input or on many, or a Python program with the kernel attached."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from llmos._client import Client, Model
from llmos._task_file import TaskFile
from llmos._task_runs import AT_ONCE, Answer
from llmos.cli._common import Common, json_option, pass_common, print_json, print_text
from llmos.cli._each import Each, run_each_record
from llmos.cli._sampling import model_option, params_option, say_what_it_is
from llmos.cli._task_inputs import fields_of, one_input

TASK, SCRIPT = ".toml", ".py"
"""How the names of task files and of programs end."""
_AT_ONCE = f"With --each: so many are under way at once.  [default: {AT_ONCE}]"
_SCHEMA = "Print the schema of task files, for editors, and leave."


def _print_schema(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        print_json(TaskFile.schema())
        ctx.exit()


class RunCommand(click.Command):
    """Leaves what stands behind a program to the program, options too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*."""
        if args and args[0].endswith(SCRIPT):
            args = [args[0], "--", *args[1:]]
        return super().parse_args(ctx, args)


@click.command("run", cls=RunCommand)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@model_option
@click.option("-i", "--input", "source", metavar="FILE", help="Read the input from FILE: a text, or JSON.")
@click.option("--each", metavar="FILE", help="Run on each record of FILE, .jsonl or .csv; - is standard input.")
@click.option("--field", metavar="NAME", help="With --each: the field with the input.  [default: text, or all]")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="With --each: write to FILE.")
@click.option("--resume", is_flag=True, help="With --output: go on with a run that was interrupted.")
@click.option("--at-once", type=click.IntRange(1, 2**16), default=AT_ONCE, help=_AT_ONCE)
@params_option("Set this key of params.")
@click.option("--schema", is_flag=True, expose_value=False, is_eager=True, callback=_print_schema, help=_SCHEMA)
@json_option
@pass_common
def command(
    common: Common, /, file: Path, inputs: tuple[str, ...], model: str | None, source: str | None,
    params: Mapping[str, Any], as_json: bool, **many: Any,  # noqa: ANN401 - each option's own
) -> int:  # fmt: skip
    """Run FILE: a task (.toml) on INPUT, or on each record of a file; or a program (.py).

    INPUT is a text, or a NAME=VALUE for each field that the task takes; without one it is read from standard input.
    A program gets all arguments behind its name; in it, llmos.load_model and llmos.Client share the kernel of the
    settings.
    """
    if file.suffix == SCRIPT:
        from llmos.cli._script import run_script  # noqa: PLC0415 - only who runs one

        return run_script(common, file, inputs)
    if file.suffix != TASK:
        raise click.BadParameter(f"{file} is neither a task ({TASK}) nor a program ({SCRIPT})", param_hint="'FILE'")
    task = TaskFile.read(file).with_params(params)
    each = _each(task, inputs, source, many)
    if each is not None:
        with common.client() as client, _loaded(common, client, task, model) as served:
            return run_each_record(each, served, resume=many["resume"], as_json=as_json)
    given = one_input(task, inputs, source)
    with common.client() as client, _loaded(common, client, task, model) as served:
        _tell(served.run(task, given), as_json=as_json)
        say_what_it_is(model or task.model or None, served)
    return 0


def _each(task: TaskFile, inputs: tuple[str, ...], source: str | None, many: Mapping[str, Any]) -> Each | None:
    """Return what is to be run on the records of a file, if one is given."""
    records, field, output = many["each"], many["field"], many["output"]
    if records is None:
        alone = [f"--{name}" for name in ("field", "output", "resume") if many[name]]
        if alone:
            raise click.UsageError(f"{alone[0]} is for --each")
        return None
    if source is not None:
        raise click.UsageError("--input and --each are both given: give one of the two")
    if many["resume"] and (output is None or records == "-"):
        raise click.UsageError("--resume needs --output FILE, and an --each that can be read again")
    fields = fields_of(task, inputs)
    return Each(task=task, source=records, field=field, fields=fields, output=output, at_once=many["at_once"])


def _loaded(common: Common, client: Client, task: TaskFile, model: str | None) -> Model:
    """Return the model that is given, the task's own, or that of the settings."""
    chosen = model or (task.chosen if task.model or task.require else common.settings().model)
    return client.load_model(chosen, fallbacks=task.fallbacks or None)


def _tell(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print_json(facts(answer))
    elif isinstance(answer.value, str):
        print_text(answer.value)
    else:
        print_json(answer.value)


def facts(answer: Answer) -> dict[str, object]:
    """Return what a program reads of an answer."""
    return {
        "output": answer.value, "model": answer.model, "finish": answer.finish, "tries": answer.tries,
        "usage": attrs.asdict(answer.usage),
    }  # fmt: skip
