"""Which options are fastest for a model folder on this machine: found by measuring, one option after the other.

Each alternative is loaded beside the best so far, and both are measured in turn, round after round, so that a machine
that is slow for a moment is slow for both.  An alternative wins when the median of its rounds is better by more than
`MARGIN`: what is nearly equal stays as it is.  What counts is the time of one request alone, times that of sixteen
together (`llmos_onnx.auto.seconds`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from llmos_onnx.auto import loaded, seconds, speeds
from llmos_onnx.folder import read_manifest
from llmos_onnx.profile import Knobs, Profile, Trial, cores, machine

if TYPE_CHECKING:
    from llmos_kernel.contracts import StepExecutor
    from llmos_onnx.manifest import Manifest, Speeds

MARGIN: Final = 0.03
_ROUNDS: Final = 3
_PROMPT: Final = 1024
"""Tokens of prompt, or as many as the model takes: a long one, because how it is cut is measured too."""
_CONTEXT: Final = 1152
_STEP_TOKENS: Final = 256

Measured = Callable[[Knobs, Knobs], tuple[list["Speeds"], list["Speeds"]]]
"""Measures two sets of options in turn; returns the rounds of each."""
Heard = Callable[[str, int, int], None]
"""Hears what is tried now, and how many of how many tries are done."""


def default_knobs(manifest: Manifest) -> Knobs:
    """Return what is used where nothing was measured."""
    threads = min(cores(), manifest.shape.heads)
    return Knobs(threads=threads, spinning=True, step_tokens=_STEP_TOKENS, arena=True, prepacking=True)


def alternatives(manifest: Manifest) -> list[tuple[str, Any]]:
    """Return the (option, value) pairs that are tried, in order; what is the default already is not tried."""
    most = min(cores(), manifest.shape.heads)
    tried: list[tuple[str, Any]] = [("threads", threads) for threads in _fewer(most)]
    tried += [("step_tokens", tokens) for tokens in (128, 512, 1024) if tokens <= manifest.shape.context]
    return [*tried, ("spinning", False), ("arena", False), ("prepacking", False)]


def tune(manifest: Manifest, runtime: str, measured: Measured, heard: Heard | None = None) -> Profile:
    """Return the profile for the folder with *manifest*: try `alternatives` one by one with *measured*."""
    best = default_knobs(manifest)
    trials: dict[Knobs, Speeds] = {}
    tries = alternatives(manifest)
    for done, (name, value) in enumerate(tries):
        if heard is not None:
            heard(f"{name} {value}", done, len(tries))
        other = attrs.evolve(best, **{name: value})
        here, there = measured(best, other)
        trials[best], trials[other] = typical(here), typical(there)
        if _gain(here, there) > MARGIN:
            best = other
    if heard is not None:
        heard("done", len(tries), len(tries))
    return Profile(machine(runtime), best, tuple(Trial(knobs, speeds) for knobs, speeds in trials.items()))


def typical(rounds: list[Speeds]) -> Speeds:
    """Return the median of each speed over *rounds*."""
    names = [name.name for name in attrs.fields(type(rounds[0]))]
    return type(rounds[0])(**{name: statistics.median(getattr(one, name) for one in rounds) for name in names})


def measuring(folder: Path) -> Measured:
    """Return what measures two sets of options on the model folder *folder*."""

    def measured(one: Knobs, other: Knobs) -> tuple[list[Speeds], list[Speeds]]:
        with _loaded(folder, one) as first, _loaded(folder, other) as second:
            pairs = [(speeds(first, _PROMPT), speeds(second, _PROMPT)) for _ in range(_ROUNDS)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    return measured


def _loaded(folder: Path, knobs: Knobs) -> AbstractContextManager[StepExecutor]:
    return loaded(folder, {"context": min(_CONTEXT, read_manifest(folder).shape.context), **attrs.asdict(knobs)})


def _gain(here: list[Speeds], there: list[Speeds]) -> float:
    """Return by which share of its time *there* is faster, in the median of the rounds."""
    ratios = [_cost(one) / _cost(other) for one, other in zip(here, there, strict=True)]
    return math.sqrt(statistics.median(ratios)) - 1


def _cost(speeds: Speeds) -> float:
    alone, together = seconds(speeds)
    return alone * together


def _fewer(most: int) -> Iterator[int]:
    """Yield halves of *most*, down to 1."""
    while most > 1:
        most //= 2
        yield most
