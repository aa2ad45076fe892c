"""``llmos profile``: how long a model's steps take on this machine, for simulators, routers and capacity plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from llmos import StepProfile
from llmos.cli._common import Common, json_option, note, pass_common, print_columns, print_json, say
from llmos.cli._completing import complete_models
from llmos.cli._profile import QUICK, Effort, measure
from llmos.cli._sampling import key_values
from llmos.cli.export import show_progress
from llmos.cli.machine import busy, machine
from llmos.cli.models import find_model
from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, StepExecutor
from llmos_kernel.errors import InvalidArgument

_WORDS = "the cat sat on a mat and said that one two three small red birds flew over some old green hills"
_NAMES = {
    "fixed": "every step", "per_row": "each row", "prompt_fixed": "a prompt in the step",
    "per_pass": "each pass after the first",
    "per_prompt_token": "each prompt token", "per_context_token": "each token in the cache of its rows",
    "per_prompt_context": "each pair of a prompt token and one before it",
}  # fmt: skip


@click.command("profile")
@click.argument("model", required=False, shell_complete=complete_models)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the profile to this file, for other commands."
)
@click.option("--quick", is_flag=True, help="A few short steps: to see that it works.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same prompts.")
@click.option("-o", "--option", "given", multiple=True, metavar="KEY=VALUE", callback=key_values,
              help="An option of the model for its backend: threads, slots, ...")  # fmt: skip
@json_option
@pass_common
def command(
    common: Common, /, model: str | None, out: Path | None, quick: bool, seed: int, given: dict[str, Any],
    as_json: bool,
) -> None:  # fmt: skip
    """Measure how long the steps of MODEL take here; a name, an alias, or a model folder.

    A kernel serves tasks of many sizes with it, from one at a time to as many as it takes at once.  Each step is timed
    with what passes before it, and a sum of terms is fitted to them.  It takes about a minute, and wants a machine that
    does nothing else.
    """
    spec = find_model(common, model or common.settings().model)
    spec = attrs.evolve(spec, options={**spec.options, **given})
    facts = machine()
    if busy(facts):
        note(busy(facts))
    found = _measured(common, spec, attrs.evolve(QUICK if quick else Effort(), seed=seed), quiet=as_json)
    profile = attrs.evolve(found, model=Path(spec.name).name, machine=facts, date=facts["date"])
    if out is not None:
        profile.write(out)
    if as_json:
        print_json(attrs.asdict(profile))
    else:
        _print(profile)


def _measured(common: Common, spec: ModelSpec, effort: Effort, *, quiet: bool) -> StepProfile:
    executor = common.installed().backend(spec.backend).load(spec)
    try:
        if not isinstance(executor, StepExecutor) or "generate" not in spec.kinds:
            expected = "a model that generates text here, step by step"
            message = f"{spec.name} has no steps to measure; expected {expected}"
            raise InvalidArgument(message, field="model", value=spec.name, expected=expected)
        answer = executor.prepare(0, Task("tokenize", None, _WORDS), "profile").answer
        executor.release([0])
        tokens = sorted(set(answer.value)) if answer else [1]
        config = common.settings().kernel
        config = attrs.evolve(config, scheduler=config.scheduler_of(spec.name))
        with show_progress(quiet=quiet, counted=True) as progress:
            return measure(executor, effort, tokens, config, common.plugins, progress=progress)
    finally:
        executor.close()


def _print(profile: StepProfile) -> None:
    values = attrs.asdict(profile)
    print_columns([(name, f"{1e3 * values[key]:,.4g} ms") for key, name in _NAMES.items()])
    say(
        f"{profile.steps} steps of {profile.model}: the sum explains {profile.r2:.1%} of the variance and is at most "
        f"{profile.worst:.0%} off"
    )
    facts = profile.machine
    say(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load']}, {profile.date}")
