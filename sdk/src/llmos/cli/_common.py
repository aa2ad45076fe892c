"""What every command has at hand: the settings, the plugins, a client, and one way to print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from llmos import Client, Pipeline, Settings
    from llmos_kernel.plugins import Plugins


LARGEST = 2**26
"""Most bytes of text that a command reads at once: no model reads more, and an endless pipe is a mistake."""
PICTURES = (".png", ".svg", ".pdf")
"""Forms of pictures that matplotlib draws."""
NARROW = 30
"""Columns that a text needs beside what stands before it; with fewer it begins in the next line."""


class Common:
    """The options that stand before the command, and what is made from them when it is needed."""

    def __init__(self, plugins: tuple[object, ...] = ()) -> None:
        self.plugins = plugins
        """Plugin objects besides those that are installed."""
        self.config: str | None = None
        self.blocked: tuple[str, ...] = ()
        self.scheduler: str | None = None
        self.router: str | None = None
        self.traceback = False
        self.no_color = False
        self.json = False
        """Whether a program reads the output."""
        self._settings: Settings | None = None

    def settings(self) -> Settings:
        """Return the settings, read when they are first needed."""
        from llmos import load_settings  # noqa: PLC0415 - only commands that need settings pay

        if self._settings is None:
            blocked = list(self.blocked) or None
            scheduler, router = self.scheduler, self.router
            self._settings = load_settings(self.config, blocked=blocked, scheduler=scheduler, router=router)
        return self._settings

    def installed(self, kind: str = "") -> Plugins:
        """Return the plugins, or those of *kind*, which takes less time: none of them imported, without a kernel."""
        from llmos_kernel.plugins import Plugins  # noqa: PLC0415 - the same

        return Plugins(self.settings().kernel, self.plugins, kind=kind)

    def pipelines(self) -> tuple[Pipeline, ...]:
        """Return the pipelines of the settings, which find the plugin objects as well."""
        import attrs  # noqa: PLC0415 - the same

        return tuple(attrs.evolve(one, plugins=self.plugins) for one in self.settings().pipelines)

    def client(self) -> Client:
        """Return a client of a kernel in this process."""
        from llmos import Client  # noqa: PLC0415 - the same

        return Client(config=self.settings(), plugins=self.plugins)


pass_common = click.make_pass_decorator(Common, ensure=True)
"""Gives a command the `Common` as its first argument."""


def json_option(command: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped this way
    """Add ``--json``, which also makes errors JSON."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
        ctx.ensure_object(Common).json = value
        return value

    return click.option(
        "--json", "as_json", is_flag=True, callback=remember, is_eager=True, help="Print JSON, for programs."
    )(command)


def check_plot(path: Path, extra: str, formats: Sequence[str] = PICTURES) -> None:
    """Raise `InvalidArgument` unless a picture can be drawn into *path*; *extra* is what pip installs to be able to."""
    from importlib.util import find_spec  # noqa: PLC0415 - only who draws pays

    from llmos_kernel.errors import InvalidArgument  # noqa: PLC0415 - the same

    if path.suffix.lower() not in formats:
        raise InvalidArgument.of("plot", str(path), f"a file that ends in {', '.join(formats)}")
    if find_spec("matplotlib") is None:
        message = f"--plot needs matplotlib, which is not installed: pip install '{extra}'"
        raise InvalidArgument(message, field="plot", value=str(path), expected="matplotlib")


def print_json(value: object) -> None:
    """Print *value* as JSON; what JSON does not know is printed as text."""
    import json  # noqa: PLC0415 - only who asked for it

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=repr))


def print_columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of cells in columns, the last one as long as it is; cells may be coloured."""
    from llmos.cli._wrapping import width  # noqa: PLC0415 - only tables pay

    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        cells = (cell + " " * (wide - width(cell) + 2) for cell, wide in zip(row[:-1], widths, strict=True))
        say(row[-1], "".join(cells))


def read_all(file: IO[bytes], where: str) -> bytes:
    """Return all that is in *file*; raise `InvalidArgument` naming *where* it is if that is more than `LARGEST`."""
    return _bounded(file.read(LARGEST + 1), where)


def read_line(file: IO[bytes], where: str) -> bytes:
    """Return the next line of *file*, empty at its end; raise `InvalidArgument` if it is longer than `LARGEST`."""
    return _bounded(file.readline(LARGEST + 1), where)


def _bounded(data: bytes, where: str) -> bytes:
    if len(data) > LARGEST:
        from llmos_kernel.errors import InvalidArgument  # noqa: PLC0415 - only a mistake pays

        expected = f"at most {LARGEST >> 20} MiB"
        raise InvalidArgument(f"{where} must be {expected}", field="text", value="more", expected=expected)
    return data


def read_text(data: bytes, where: str) -> str:
    """Return *data* as text; raise `InvalidArgument` for what is not UTF-8."""
    from llmos_kernel.errors import InvalidArgument  # noqa: PLC0415 - only commands that read need it

    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{where} is not UTF-8 (byte {error.start})"
        raise InvalidArgument(
            message, field="prompt", value=repr(data[error.start : error.end]), expected="UTF-8"
        ) from error


def say(text: str, before: str = "", *, err: bool = False) -> None:
    """Print *text* behind *before*: on a terminal wrapped at words and indented, elsewhere as it is."""
    columns = columns_of(sys.stderr if err else sys.stdout)
    if columns:
        from llmos.cli._wrapping import Wrapped, shown, width  # noqa: PLC0415 - only who looks pays

        text, margin = shown(text), width(before)
        if margin + width(text) > columns:
            if columns - margin < NARROW and before.strip():
                click.echo(before.rstrip(), err=err)
                margin, before = 4, " " * 4
            text = Wrapped(max(columns - margin, NARROW)).all(text).replace("\n", "\n" + " " * margin)
    click.echo(f"{before}{text}".rstrip(" "), err=err)


@contextmanager
def flowing() -> Iterator[Callable[[str], None]]:
    """Yield what prints a text that comes in pieces: on a terminal word by word, elsewhere as it comes."""
    columns = columns_of(sys.stdout)
    if not columns:
        yield partial(click.echo, nl=False)
        return
    from llmos.cli._wrapping import Wrapped, shown  # noqa: PLC0415 - only who looks pays

    wrapped = Wrapped(columns)
    try:
        yield lambda piece: click.echo(wrapped.add(shown(piece)), nl=False)
    finally:
        click.echo(wrapped.end(), nl=False)


def print_text(text: str) -> None:
    """Print *text*, which a model may have written, and a line's end."""
    with flowing() as write:
        write(text)
    click.echo()


def columns_of(stream: IO[str]) -> int:
    """Return how wide the terminal is that *stream* is, 0 where it is none; 80 where it does not say."""
    return os.get_terminal_size(stream.fileno()).columns or 80 if stream.isatty() else 0


def note(text: str) -> None:
    """Print a remark for a person, beside the output."""
    say(text, "note:  ", err=True)
