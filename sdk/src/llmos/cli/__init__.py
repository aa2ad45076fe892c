"""The command line.  A sub-command is imported when it is typed; ``llmos --help`` imports click and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

import click

from llmos._files import write_whole
from llmos.cli._announced import announced
from llmos.cli._common import Common, check_plot, json_option, pass_common, say
from llmos.cli._completing import complete_models, complete_pipelines, complete_plugins
from llmos.cli._cursor import show_cursor_when_terminated

__all__ = [
    "COMMANDS",
    "EPILOG",
    "INTERRUPTED",
    "READER_GONE",
    "Common",
    "LazyGroup",
    "check_plot",
    "cli",
    "complete_models",
    "complete_pipelines",
    "complete_plugins",
    "json_option",
    "main",
    "pass_common",
    "run",
    "write_whole",
]
_F = TypeVar("_F", bound=Callable[..., Any])
INTERRUPTED, READER_GONE = 130, 141
COMMANDS = {
    "bench": "Measure how fast a model is here.",
    "chat": "Talk with a model.",
    "classify": "Say which labels fit texts.",
    "completion": "Print the script that completes commands in your shell.",
    "config": "Show, check and begin the settings.",
    "doctor": "Say what does not work here, and why.",
    "embed": "Turn texts into vectors, and say how alike they are.",
    "export": "Make a model folder from a checkpoint.",
    "generate": "Continue a prompt.",
    "models": "List, show, add, remove and rename models.",
    "plugins": "List, inspect, switch, install and remove plugins.",
    "profile": "Measure how long a model's steps take.",
    "run": "Run a task of a file, or a Python program.",
    "version": "Print the versions of everything that takes part.",
}
"""The built-in commands, and what they do: known without importing them.  Each is in the module of its name."""
MODULES = {"run": "running"}
"""The exceptions: a module ``run`` would take the place of the function that is called so too."""
EPILOG = """\b
Exit codes:
  0  done                              4  a model or the machine failed
  1  the request was refused           5  a bug in llmos
  2  wrong usage or settings         130  interrupted
  3  a plugin failed or is missing   141  whoever read the output has gone

\b
Settings come from llmos.toml (--config, $LLMOS_CONFIG, ./llmos.toml, or
$XDG_CONFIG_HOME/llmos/llmos.toml), then LLMOS_* in the environment, then
options."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and short helps, and imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the built-in commands, and those that plugins announce."""
        return sorted({*COMMANDS, *announced()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command; a plugin's is imported now."""
        if cmd_name in COMMANDS:
            command: click.Command = import_module(f"llmos.cli.{MODULES.get(cmd_name, cmd_name)}").command
            return command
        if cmd_name not in announced():
            return None
        common = ctx.ensure_object(Common)
        found: click.Command = common.installed("command").command(cmd_name)
        return found

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        """Run the command; a reader that has gone is told apart from other failures, which click would not do.

        What a plugin's command raises is that plugin's failure, and none of llmos.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error
        except Exception as error:
            if ctx.invoked_subcommand in {None, *COMMANDS}:
                raise
            from llmos.cli._failures import blamed  # noqa: PLC0415 - only a failure needs the kernel's errors

            raise blamed(f"command:{ctx.invoked_subcommand}", "running", error)  # noqa: B904 - it has its cause

    def make_context(self, *args: Any, **how: Any) -> click.Context:  # noqa: ANN401 - as click has it
        """Read the arguments; a reader of ``--help`` that has gone is told apart as well."""
        try:
            return super().make_context(*args, **how)
        except BrokenPipeError as error:
            raise _ReaderGone from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* begin with; name the nearest ones if there is none."""
        known = self.list_commands(ctx)
        if not args[0].startswith("-") and args[0] not in known:
            import difflib  # noqa: PLC0415 - only a mistake needs it

            raise _UnknownCommand(args[0], difflib.get_close_matches(args[0], known), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        more = {name: one.told() for name, one in announced().items()}
        rows = sorted((more | COMMANDS).items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class _ReaderGone(Exception):
    """Whoever read the output has gone."""


class _UnknownCommand(click.UsageError):
    """No command is called like this."""

    def __init__(self, name: str, possibilities: list[str], ctx: click.Context) -> None:
        super().__init__(f"No such command {name!r}.", ctx)
        self.possibilities = possibilities


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:  # noqa: ANN401 - each option's own
    """Keep an option's value at once: a command that a plugin brings is looked up before the group's function runs."""
    setattr(ctx.ensure_object(Common), str(param.name), value)


def _common_option(*names: str, **how: Any) -> Callable[[_F], _F]:  # noqa: ANN401 - what click's options take
    return click.option(*names, callback=_keep, expose_value=False, is_eager=True, **how)


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@_common_option("--config", metavar="FILE", help="Read the settings from FILE.")
@_common_option("--no-plugin", "blocked", multiple=True, metavar="NAME", help="Do as if it were not installed.")
@_common_option(
    "--scheduler",
    metavar="NAME",
    shell_complete=complete_plugins("scheduler"),
    help="Schedule by this policy.  [default: fifo]",
)
@_common_option(
    "--router",
    metavar="NAME",
    shell_complete=complete_plugins("router"),
    help="Choose models for -m auto by this rule.  [default: auto]",
)
@_common_option("--traceback", is_flag=True, help="Show where in the code an error arose.")
@_common_option("--no-color", is_flag=True, help="Print without colours, as NO_COLOR and TERM=dumb do.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """llmos, an operating system for language models."""
    if ctx.ensure_object(Common).no_color:
        os.environ["NO_COLOR"] = "1"  # what draws bars and tables looks there
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


def main() -> None:
    """Run the command line; the entry point of the program."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    show_cursor_when_terminated()
    sys.exit(run(sys.argv[1:]))


def _open_streams() -> None:
    """End where standard output is closed, and open the other two: else the next file would get their place."""
    if sys.stdin is None or sys.stderr is None:
        nothing = os.open(os.devnull, os.O_RDWR)
        sys.stdin = sys.stdin or open(os.dup(nothing))  # noqa: SIM115, PTH123 - open until the end
        sys.stderr = sys.stderr or open(os.dup(nothing), "w")  # noqa: SIM115, PTH123 - the same
    if sys.stdout is None:
        click.echo("error: standard output is closed", err=True)
        sys.exit(1)


def run(args: Sequence[str], common: Common | None = None) -> int:
    """Run the command line with *args* and return its exit code."""
    common = common or Common()
    try:
        code = cli.main(list(args), "llmos", standalone_mode=False, obj=common)
        sys.stdout.flush()
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        say(error.format_message(), "error: ", err=True)
        return 1
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        _let_go()
        return READER_GONE
    except Exception as error:  # noqa: BLE001 - the last one who can say it in one line
        failed = _failure(error, common)
        _let_go()
        return failed
    return code if isinstance(code, int) else 0


def _let_go() -> None:
    """Lose what standard output does not take: the interpreter flushes once more when it ends, and would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: click.UsageError) -> int:
    """Say what was typed wrongly, and the nearest right thing."""
    path = error.ctx.command_path if error.ctx is not None else "llmos"
    near = list(getattr(error, "possibilities", None) or ())
    say(error.message if near else error.format_message(), "error: ", err=True)
    if near:
        say(f"did you mean {' or '.join(near)}?", "next:  ", err=True)
    else:
        say(f"{path} --help", "next:  ", err=True)
    return error.exit_code


def _failure(error: Exception, common: Common) -> int:
    from llmos.cli._failures import report  # noqa: PLC0415 - only a failure needs the kernel's errors

    return report(error, common)
