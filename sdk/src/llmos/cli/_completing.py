"""What a shell completes besides commands and options: names of models, plugins and pipelines.

They are read from metadata and settings, as the lists of them are.  Where those are wrong nothing is completed: the
command will say so when it is typed, and a line that is half typed is no place to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from llmos.cli._common import Common

if TYPE_CHECKING:
    import click

    from llmos_kernel.loader import PluginRecord

    Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names and aliases of models that begin so, and ``auto``; for click's ``shell_complete``."""

    def names(common: Common) -> Iterable[str]:
        from llmos.cli.models import called, known_models  # noqa: PLC0415 - only who completes pays

        models = known_models(common)
        return ["auto", *called(common, models)]

    return _beginning(ctx, incomplete, names)


def complete_plugins(kind: str) -> Completer:
    """Return what completes the names of plugins of *kind*; for click's ``shell_complete``."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return _beginning(
            ctx, incomplete, lambda common: (one.name for one in _records(common, kind) if one.kind == kind)
        )

    return complete


def complete_pipelines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of pipelines and processors that begin so; for click's ``shell_complete``."""

    def names(common: Common) -> Iterable[str]:
        processors = (one.name for one in _records(common, "processor") if one.kind == "processor")
        return [*(one.name for one in common.settings().pipelines), *processors]

    return _beginning(ctx, incomplete, names)


def complete_installed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names and distributions of plugins that begin so.

    Not ``kind:name``, at whose colon bash begins a new word.
    """
    return _beginning(
        ctx, incomplete, lambda common: (name for one in _records(common) for name in (one.name, one.distribution))
    )


def _records(common: Common, kind: str = "") -> tuple[PluginRecord, ...]:
    return common.installed(kind).records()


def _beginning(ctx: click.Context, incomplete: str, names: Callable[[Common], Iterable[str]]) -> list[str]:
    from llmos_kernel.errors import KernelError  # noqa: PLC0415 - only who completes pays

    try:
        found = set(names(ctx.ensure_object(Common)))
    except (KernelError, OSError):
        return []
    return sorted(name for name in found if name and name.startswith(incomplete))
