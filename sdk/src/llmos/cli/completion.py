"""``llmos completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


PLACES = """\b
llmos completion SHELL > FILE, where FILE is
  bash  ~/.local/share/bash-completion/completions/llmos
  zsh   ~/.zfunc/_llmos
  fish  ~/.config/fish/completions/llmos.fish"""


@click.command("completion", epilog=PLACES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in your shell."""
    kind = get_completion_class(shell)
    if kind is None:  # click knows these three since its version 8
        raise click.ClickException(f"click cannot complete commands in {shell}")
    click.echo(kind(ctx.find_root().command, {}, "llmos", "_LLMOS_COMPLETE").source())
