"""``--format auto``: export the quantised formats, run each on this machine for a moment, keep the one that suits.

What is compared are two pieces of work: one request alone (latency) and sixteen together (throughput), each of 128
tokens of prompt and 128 of output.  ``balanced`` compares the mean of both times, the geometric one, so that twice as
fast here is worth as much as twice as fast there.

Formats are measured in turn, round after round, until the best one leads by more than rounds of one format differ.  On
a busy machine that may not come; then processor time decides, which other work disturbs less, and the person is told.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.folder import check_target
from llmos_onnx.imported import ImportedManifest
from llmos_onnx.manifest import MANIFEST, Choice, Manifest, Speeds
from llmos_onnx.options import IN_BLOCKS
from llmos_onnx.speeds import Timed, best_of, measure, seconds
from llmos_onnx.writing import write_model_folder

if TYPE_CHECKING:
    from llmos_onnx.checkpoint import Progress
    from llmos_onnx.options import ExportOptions

CANDIDATES: Final = ("w8a8", "q8", "q4")
"""Formats that are tried; fp32 is exact and slower than all of them."""
STEADY: Final = 0.03
"""Rounds of one format that differ by no more come from a quiet machine."""
_ROUNDS, _MOST_ROUNDS = 2, 6
"""How often the candidates are measured in turn: at least, and where the machine is busy."""

Rounds = Mapping[str, Sequence[Timed]]
"""By format: what was measured, round by round."""


def export_fastest(source: Path, target: Path, wanted: ExportOptions, progress: Progress | None = None) -> Manifest:
    """Write *target* in the format of `CANDIDATES` that suits ``wanted.goal`` best on this machine.

    Every candidate is exported beside *target*, loaded and run for a few seconds; all but the chosen one are removed.
    The manifest says what was measured.  A format that cannot hold the model's widths is passed over.  Raises what
    `write_model_folder` raises.
    """
    check_target(target)
    goal = wanted.goal or "balanced"
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent) as held:
        manifests: dict[str, Manifest] = {}
        for number, name in enumerate(CANDIDATES):
            folder = Path(held, name)
            heard = None if progress is None else _part(progress, number)
            try:
                manifests[name] = write_model_folder(source, folder, wanted.in_format(name), heard)
            except InvalidArgument as error:
                if name not in IN_BLOCKS or error.fields.get("field") != "weights":
                    raise
        best, choice = choose(goal, _measured(goal, {name: Path(held, name) for name in manifests}))
        manifest = attrs.evolve(manifests[best], choice=choice)
        Path(held, best, MANIFEST).write_bytes(manifest.to_json())
        Path(held, best).rename(target)
    return manifest


def _measured(goal: str, folders: Mapping[str, Path]) -> Rounds:
    """Measure *folders* in turn, forwards and backwards, until they are settled or it has been often enough."""
    rounds: dict[str, list[Timed]] = {name: [] for name in folders}
    for turn in range(_MOST_ROUNDS):
        for name in list(folders)[:: -1 if turn % 2 else 1]:
            rounds[name].append(measure(folders[name]))
        if turn + 1 >= _ROUNDS and settled(goal, rounds):
            break
    return rounds


def cost(goal: str, speeds: Speeds) -> float:
    """Return the seconds that count for *goal*."""
    alone, together = seconds(speeds)
    return {"latency": alone, "throughput": together, "balanced": math.sqrt(alone * together)}[goal]


def settled(goal: str, rounds: Rounds) -> bool:
    """Say whether more rounds would change nothing: they hardly differ, or formats differ by more and both ways."""
    first, *others = _by_clock(goal, rounds)
    spread = _spread(goal, rounds)
    if not others or spread <= STEADY:
        return True
    times = {name: min(cost(goal, one.clock) for one in rounds[name]) for name in (first, others[0])}
    return times[others[0]] / times[first] - 1 > spread and first == _by_processor(goal, rounds)


def choose(goal: str, rounds: Rounds) -> tuple[str, Choice]:
    """Return the best format and what to remember of the *rounds*, at least two of each format."""
    best = (_by_clock(goal, rounds)[0]) if settled(goal, rounds) else _by_processor(goal, rounds)
    speeds = {name: best_of([one.clock for one in found]) for name, found in rounds.items()}
    spread = 0.0 if settled(goal, rounds) else _spread(goal, rounds)
    return best, Choice(goal=goal, speeds=speeds, spread=spread)


def _by_clock(goal: str, rounds: Rounds) -> list[str]:
    return sorted(rounds, key=lambda name: min(cost(goal, one.clock) for one in rounds[name]))


def _by_processor(goal: str, rounds: Rounds) -> str:
    return min(rounds, key=lambda name: min(cost(goal, one.processor) for one in rounds[name]))


def _spread(goal: str, rounds: Rounds) -> float:
    """Return by what share the two best rounds of one of the two best formats differ."""
    found = []
    for name in _by_clock(goal, rounds)[:2]:
        least, second = sorted(cost(goal, one.clock) for one in rounds[name])[:2]
        found.append(second / least - 1)
    return max(found)


def ranked(choice: Choice) -> list[str]:
    """Return the measured formats, the fastest for the goal first."""
    return sorted(choice.speeds, key=lambda name: cost(choice.goal, choice.speeds[name]))


def explain(manifest: Manifest | ImportedManifest) -> list[str]:
    """Return a table of what was measured and a line that says why the format was chosen; nothing where it was not."""
    if isinstance(manifest, ImportedManifest) or manifest.choice is None:
        return []
    lines = [f"{'format':8}{'prefill':>10}{'decode':>10}{'decode 16':>11}{'one request':>14}{'16 requests':>14}"]
    for name in ranked(manifest.choice):
        found = manifest.choice.speeds[name]
        alone, together = seconds(found)
        counts = f"{found.prefill:>8.0f}/s{found.decode_1:>8.1f}/s{found.decode_16:>9.1f}/s"
        lines.append(f"{name:8}{counts}{alone:>12.2f} s{together:>12.2f} s")
    why = {
        "latency": "one request alone ends soonest",
        "throughput": "sixteen requests together end soonest",
        "balanced": "the product of both times is least",
    }
    if manifest.choice.spread:
        said = f"This machine was busy: rounds of one format differ by {manifest.choice.spread:.0%}."
        reason = "it takes least processor time; export again on a quiet machine to be sure"
        return [*lines, said, f"Chose {manifest.weights} for {manifest.choice.goal}: {reason}."]
    return [*lines, f"Chose {manifest.weights} for {manifest.choice.goal}: {why[manifest.choice.goal]}."]


def _part(progress: Progress, number: int) -> Callable[[str, int, int], None]:
    """Return what hears of candidate *number* and tells *progress* of all of them."""

    def heard(what: str, done: int, total: int) -> None:
        progress(f"{CANDIDATES[number]}: {what}", number * total + done, len(CANDIDATES) * total)

    return heard
