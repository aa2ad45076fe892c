"""``llmos tune``: measure which options run a model fastest on this machine, and keep them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from llmos.cli import Common, complete_models, json_option, pass_common
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl

if TYPE_CHECKING:
    from llmos_onnx.manifest import Manifest
    from llmos_onnx.profile import Profile
    from llmos_onnx.tuning import Tuning

api = 1

SECONDS: Final = 120.0
"""How long measuring may take, unless it is told."""
BUSY: Final = 0.1
"""Rounds of one comparison that are farther apart come from a machine that does other things too."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return tune


@click.command("tune")
@click.argument("name", shell_complete=complete_models)
@click.option("--forget", is_flag=True, help="Remove what was measured before, and measure nothing.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 86_400),
    default=SECONDS,
    show_default=True,
    help="How long it may take; what is not tried by then stays as it is.",
)
@json_option
@pass_common
def tune(common: Common, /, name: str, forget: bool, seconds: float, as_json: bool) -> None:
    """Measure which options run the model NAME fastest on this machine, and use them from now on.

    It takes a minute or two and wants a machine that does nothing else.  `llmos models show NAME --load` says what is
    used.
    """
    from llmos_onnx.folder import read_manifest  # noqa: PLC0415 - only who types the command pays
    from llmos_onnx.profile import profile_path, write_profile  # noqa: PLC0415 - the same

    home, folder = common.settings().home, _folder(common, name)
    manifest = read_manifest(folder)
    if forget:
        path = profile_path(home, manifest)
        path.unlink(missing_ok=True)
        click.echo(json.dumps({"removed": str(path)}) if as_json else f"{name} runs with the defaults again.")
        return
    found = _measure(folder, manifest, seconds, quiet=as_json)
    path = write_profile(home, manifest, found.profile)
    if as_json:
        values = {"file": str(path), **attrs.asdict(found.profile), "untried": found.untried, "spread": found.spread}
        click.echo(json.dumps(values, indent=2))
    else:
        for line in [*table(found.profile), *remarks(found)]:
            click.echo(line)
        click.echo(f"Kept in {path}; `llmos tune {name} --forget` takes it back.")


def table(profile: Profile) -> list[str]:
    """Return what was measured, one line per set of options, with a mark at the chosen one."""
    heads = {"threads": 9, "step": 5, "spin": 5, "arena": 5, "prepack": 7, "prefill": 9, "1 row": 8, "16 rows": 8}
    lines = [" ".join(f"{name:>{width}}" for name, width in heads.items())]
    for trial in profile.trials:
        knobs, speeds = trial.knobs, trial.speeds
        switches = f"{_yes(knobs.spinning):>5} {_yes(knobs.arena):>5} {_yes(knobs.prepacking):>7}"
        rates = f"{speeds.prefill:>7.0f}/s {speeds.decode_1:>6.1f}/s {speeds.decode_16:>6.1f}/s"
        mark = "*" if knobs == profile.knobs else " "
        lines.append(f"{mark} {knobs.threads:>7} {knobs.step_tokens:>5} {switches} {rates}")
    return lines


def remarks(found: Tuning) -> list[str]:
    """Return what a person should know of how it was measured."""
    lines = []
    if found.spread > BUSY:
        lines.append(f"This machine was busy: rounds of one comparison were up to {found.spread:.0%} apart.")
    if found.untried:
        lines.append(f"No time was left to try {', '.join(found.untried)}; --seconds gives more.")
    return lines


def _shown(what: str | None) -> str:
    return what or ""


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _folder(common: Common, name: str) -> Path:
    """Return the folder of the model *name*; raise `InvalidArgument` where this backend does not serve it."""
    with common.client() as client:
        facts: dict[str, Any] = client.control("InspectModel", name)
    if facts["backend"] != "onnx":
        message = f"the model {name!r} is served by {facts['backend']!r}, which has nothing to tune"
        raise InvalidArgument(message, field="name", value=name, expected="a model of the backend onnx")
    return Path(facts["path"])


def _measure(folder: Path, manifest: Manifest, seconds: float, *, quiet: bool) -> Tuning:
    """Measure with a bar on standard error."""
    from llmos_onnx import tuning  # noqa: PLC0415 - slow to load
    from llmos_onnx.providers import runtime  # noqa: PLC0415 - the same

    version: str = runtime(manifest.name).__version__
    tries = len(tuning.alternatives(manifest))
    with click.progressbar(
        length=tries, label="measuring", file=sys.stderr, hidden=quiet, item_show_func=_shown
    ) as bar:

        def heard(what: str, done: int, total: int) -> None:
            bar.update(done - bar.pos, what)

        return tuning.tune(manifest, version, tuning.measuring(folder), heard, until=seconds)
