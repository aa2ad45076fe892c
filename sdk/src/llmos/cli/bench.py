"""``llmos bench``: how fast a model is on this machine, and what that depends on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from llmos._client import Client
from llmos._files import write_whole
from llmos.cli._bench import SHORTEST, Bench, Effort, Figure, Work, check_effort, works
from llmos.cli._bench_report import draw, print_table
from llmos.cli._common import Common, check_plot, json_option, note, pass_common, print_json
from llmos.cli._completing import complete_models
from llmos.cli._sampling import key_values
from llmos.cli.export import show_progress
from llmos.cli.machine import busy, machine
from llmos.cli.models import find_folder, known_models
from llmos_kernel import KernelConfig
from llmos_kernel.errors import InvalidArgument

QUICK = Effort(new=16, repeat=1, requests=8)


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Read ``1,4,8``."""
    try:
        return None if value is None else tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 1,4,8", ctx=ctx, param=param) from None


@click.command("bench")
@click.argument("model", required=False, shell_complete=complete_models)
@click.option("--quick", is_flag=True, help="One repetition of less: to see that it works.")
@click.option("--streams", metavar="1,4,8,16", callback=_numbers, help="How many streams run at once, each in turn.")
@click.option("--prompt", type=int, help="Tokens of the streams' prompts.")
@click.option("--new", type=int, help="Tokens that each stream generates.")
@click.option("--repeat", type=int, help="Repetitions of each measurement.")
@click.option("--requests", type=int, help="Requests of the mixed work.")
@click.option("--seed", type=int, help="The same seed makes the same prompts.")
@click.option("--work", "wanted", multiple=True, metavar="NAME", help="Measure only this; may be repeated.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON to this file as well.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw it into this PNG, SVG or PDF; needs matplotlib.",
)
@click.option("-o", "--option", "given", multiple=True, metavar="KEY=VALUE", callback=key_values,
              help="An option of the model for its backend: threads, slots, ...")  # fmt: skip
@json_option
@pass_common
def command(
    common: Common, /, model: str | None, quick: bool, wanted: tuple[str, ...], out: Path | None, plot: Path | None,
    given: dict[str, Any], as_json: bool, **asked: object,
) -> None:  # fmt: skip
    """Measure how fast MODEL is here; a name, an alias, or a model folder.

    \b
    Works: single, concurrent (with the time outside of the runtime), prefill,
    shared-prefix, mixed, memory.  Loading is always measured.
    """  # noqa: D301 - click's mark for lines that are kept
    changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    effort = attrs.evolve(QUICK if quick else Effort(), **changes)
    check_effort(effort)
    chosen = _chosen(works(effort), wanted)
    if plot is not None:
        check_plot(plot, "llmos-sdk[plot]")
    facts = machine()
    if busy(facts):
        note(busy(facts))
    report = measure(common, model or common.settings().model, given, effort, chosen, quiet=as_json)
    report = {"machine": facts} | report
    if out is not None:
        write_whole(out, json.dumps(report, indent=2, ensure_ascii=False, default=repr) + "\n")
    if plot is not None:
        draw(report, plot)
    if as_json:
        print_json(report)
    else:
        print_table(report)


def measure(
    common: Common, name: str, given: Mapping[str, Any], effort: Effort, chosen: list[Work], *, quiet: bool
) -> dict[str, Any]:
    """Load the model, do the works, and return what was found as plain values."""
    begin = time.perf_counter()
    called, config = _configured(common, name, given)
    with Client(config=config, plugins=common.plugins) as client, client.load_model(called) as model:
        bench = Bench(client, model, effort)
        bench.run([bench.prompt(SHORTEST)], [1])
        loaded = Figure(
            work="load", title="load to first token, imports included", unit="s",
            values=(time.perf_counter() - begin,), larger=False,
        )  # fmt: skip
        bench.run([bench.prompt(SHORTEST)] * 2, [2, 2])  # what is done once is done
        doable = [work for work in chosen if not 0 < bench.context < work.needs]
        with show_progress(quiet=quiet, counted=True) as progress:
            figures = [loaded, *_figures(bench, doable, progress)]
        return {
            "model": dict(bench.facts()) | {"name": model.name},
            "effort": attrs.asdict(effort),
            "skipped": [_why(work, bench.context) for work in chosen if work not in doable],
            "figures": [_plain(figure) for figure in figures],
        }


def _figures(bench: Bench, doable: list[Work], progress: Any) -> Iterator[Figure]:  # noqa: ANN401 - what export draws with
    for number, work in enumerate(doable):
        progress(work.name, number, len(doable))
        yield from work.measure(bench)
    progress("done", len(doable), len(doable))


def _plain(figure: Figure) -> dict[str, Any]:
    return attrs.asdict(figure) | {"median": figure.median, "spread": figure.spread}


def _why(work: Work, context: int) -> str:
    return f"{work.name}: it needs {work.needs} tokens of context, and the model has {context} here"


def _chosen(all_works: list[Work], wanted: tuple[str, ...]) -> list[Work]:
    """Return the works that are called like *wanted*, or all."""
    names = dict.fromkeys(work.name for work in all_works)
    for name in wanted:
        if name not in names:
            expected = f"one of {', '.join(names)}"
            raise InvalidArgument(
                f"work is {name!r}, expected {expected}", field="work", value=name, expected=expected
            )  # fmt: skip
    return [work for work in all_works if not wanted or work.name in wanted]


def _configured(common: Common, name: str, given: Mapping[str, Any]) -> tuple[str, KernelConfig]:
    """Return the name of the model to load, and the kernel's settings, with the options that were *given* for it."""
    config = common.settings().kernel
    spec = find_folder(common, name)
    if spec is None and not given:
        return name, config
    if spec is None:
        aliased = config.aliases.get(name, name)
        spec = next((known for known in known_models(common) if aliased in (known.name, *known.aliases)), None)
    if spec is None:
        return name, config  # the kernel says that there is none, and which names are near
    called = f"{Path(spec.name).name} (bench)"  # a folder's name is its path, and a path would be read as one again
    spec = attrs.evolve(spec, name=called, aliases=(), options={**spec.options, **given})
    return called, attrs.evolve(config, models=(*config.models, spec))
