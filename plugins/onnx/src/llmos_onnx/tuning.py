"""Which options are fastest for a model folder on this machine: found by measuring, one option after the other.

Each alternative is loaded beside the best so far, and both are measured in turn, round after round, so that a machine
that is slow for a moment is slow for both.  An alternative wins when the median of its rounds is better by more than
`MARGIN`: what is nearly equal stays as it is.  Two rounds that say the same are enough; where they do not, there are
more, and the person is told how far they were apart.  What counts is the time of one request alone, times that of
sixteen together (`llmos_onnx.speeds.seconds`).  The options that matter most come first, and all of it ends in time:
what was not tried by then stays as it is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from llmos_onnx.folder import read_manifest
from llmos_onnx.profile import Knobs, Profile, Trial, cores, machine
from llmos_onnx.speeds import loaded, seconds, timed

if TYPE_CHECKING:
    from llmos_kernel.contracts import StepExecutor
    from llmos_onnx.manifest import Manifest, Speeds

MARGIN: Final = 0.03
_ROUNDS, _MOST_ROUNDS = 2, 5
"""How often an alternative is measured: at least, and where rounds contradict each other."""
_PROMPT: Final = 1024
"""Tokens of prompt, or as many as the model takes: a long one, because how it is cut is measured too."""
_CONTEXT: Final = 1152
_STEP_TOKENS: Final = 256

Measured = Callable[[Knobs, Knobs], Iterator[tuple["Speeds", "Speeds"]]]
"""Measures two sets of options in turn; each round gives the speeds of both."""
Heard = Callable[[str, int, int], None]
"""Hears what is tried now, and how many of how many tries are done."""


@attrs.frozen
class Tuning:
    """What tuning came to."""

    profile: Profile
    untried: tuple[str, ...]
    """Options and values for which there was no time."""
    spread: float
    """How far the rounds of one alternative were apart at most, as a share of its time."""


def default_knobs(manifest: Manifest) -> Knobs:
    """Return what is used where nothing was measured."""
    threads = min(cores(), manifest.shape.heads)
    return Knobs(threads=threads, spinning=True, step_tokens=_STEP_TOKENS, arena=True, prepacking=True)


def alternatives(manifest: Manifest) -> list[tuple[str, Any]]:
    """Return the (option, value) pairs that are tried, in order; what is the default already is not tried."""
    most = min(cores(), manifest.shape.heads)
    tried: list[tuple[str, Any]] = [("threads", threads) for threads in _fewer(most)]
    tried.append(("spinning", False))
    tried += [("step_tokens", tokens) for tokens in (128, 512, 1024) if tokens <= manifest.shape.context]
    return [*tried, ("prepacking", False), ("arena", False)]


def tune(
    manifest: Manifest, runtime: str, measured: Measured, heard: Heard | None = None, *, until: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:  # fmt: skip
    """Return the profile for the folder with *manifest*: try `alternatives` one by one with *measured*.

    After *until* seconds by *clock* nothing more is begun.
    """
    best, end = default_knobs(manifest), clock() + until
    trials: dict[Knobs, Speeds] = {}
    tries, untried, spreads = alternatives(manifest), [], [0.0]
    for done, (name, value) in enumerate(tries):
        what = f"{name} {value}"
        if clock() >= end:
            untried.append(what)
            continue
        if heard is not None:
            heard(what, done, len(tries))
        other = attrs.evolve(best, **{name: value})
        pairs = _enough(measured(best, other), end, clock)
        gains = [_gain(*pair) for pair in pairs]
        trials[best], trials[other] = (typical([pair[side] for pair in pairs]) for side in (0, 1))
        spreads.append(max(gains) - min(gains))
        if statistics.median(gains) > MARGIN:
            best = other
    if heard is not None:
        heard("done", len(tries), len(tries))
    kept = tuple(Trial(knobs, speeds) for knobs, speeds in trials.items())
    return Tuning(Profile(machine(runtime), best, kept), tuple(untried), max(spreads))


def _enough(
    rounds: Iterator[tuple[Speeds, Speeds]], end: float, clock: Callable[[], float]
) -> list[tuple[Speeds, Speeds]]:
    """Take *rounds* until two or more agree on which side of the margin they are, and none that begins after *end*."""
    taken: list[tuple[Speeds, Speeds]] = []
    for pair in rounds:
        taken.append(pair)
        wins = [_gain(*pair) > MARGIN for pair in taken]
        agreed = len(taken) >= _ROUNDS and len(set(wins)) == 1
        if agreed or len(taken) >= _MOST_ROUNDS or clock() >= end:
            break
    if isinstance(rounds, Generator):
        rounds.close()
    return taken


def typical(rounds: list[Speeds]) -> Speeds:
    """Return the median of each speed over *rounds*."""
    names = [name.name for name in attrs.fields(type(rounds[0]))]
    return type(rounds[0])(**{name: statistics.median(getattr(one, name) for one in rounds) for name in names})


def measuring(folder: Path) -> Measured:
    """Return what measures two sets of options on the model folder *folder*."""

    def measured(one: Knobs, other: Knobs) -> Iterator[tuple[Speeds, Speeds]]:
        with _loaded(folder, one) as first, _loaded(folder, other) as second:
            while True:
                yield timed(first, _PROMPT).clock, timed(second, _PROMPT).clock

    return measured


def _loaded(folder: Path, knobs: Knobs) -> AbstractContextManager[StepExecutor]:
    return loaded(folder, {"context": min(_CONTEXT, read_manifest(folder).shape.context), **attrs.asdict(knobs)})


def _gain(here: Speeds, there: Speeds) -> float:
    """Return by which share of its time *there* is faster."""
    return math.sqrt(_cost(here) / _cost(there)) - 1


def _cost(speeds: Speeds) -> float:
    alone, together = seconds(speeds)
    return alone * together


def _fewer(most: int) -> Iterator[int]:
    """Yield halves of *most*, down to 1."""
    while most > 1:
        most //= 2
        yield most
