"""``--format auto``: export the quantised formats, run each on this machine for a moment, keep the one that suits.

What is measured are the engine's own steps, threads and sampling included, as the backend would run the folder.  What
is compared are two pieces of work: one request alone (latency) and sixteen together (throughput), each of 128 tokens of
prompt and 128 of output.  ``balanced`` compares the product of both times, so that twice as fast here is worth as much
as twice as fast there.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, Plan
from llmos_kernel.errors import InvalidArgument
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.folder import check_target, read_manifest
from llmos_onnx.imported import ImportedManifest
from llmos_onnx.manifest import MANIFEST, Choice, Manifest, Speeds
from llmos_onnx.options import IN_BLOCKS
from llmos_onnx.writing import write_model_folder

if TYPE_CHECKING:
    from llmos_kernel.contracts import StepExecutor
    from llmos_onnx.checkpoint import Progress
    from llmos_onnx.options import ExportOptions

CANDIDATES: Final = ("w8a8", "q8", "q4")
"""Formats that are tried; fp32 is exact and slower than all of them."""
ROWS: Final = 16
_PROMPT, _OUTPUT = 128, 128
_CONTEXT: Final = 512
_STEPS: Final = 16
"""Decoding steps that are timed, of which the fastest counts: other work on the machine only makes steps slower."""
_PASSES: Final = 2
"""How often the candidates are measured in turn, for the same reason."""
_measured: Final = itertools.count()


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
        passes = [{name: measure(Path(held, name)) for name in manifests} for _ in range(_PASSES)]
        choice = Choice(goal=goal, speeds={name: _best([found[name] for found in passes]) for name in manifests})
        best = ranked(choice)[0]
        manifest = attrs.evolve(manifests[best], choice=choice)
        Path(held, best, MANIFEST).write_bytes(manifest.to_json())
        Path(held, best).rename(target)
    return manifest


def seconds(speeds: Speeds) -> tuple[float, float]:
    """Return how long one request alone takes, and sixteen together."""
    alone = _PROMPT / speeds.prefill + _OUTPUT / speeds.decode_1
    together = ROWS * (_PROMPT / speeds.prefill + _OUTPUT / speeds.decode_16)
    return alone, together


def ranked(choice: Choice) -> list[str]:
    """Return the measured formats, the best for the goal first."""

    def cost(name: str) -> float:
        alone, together = seconds(choice.speeds[name])
        return {"latency": alone, "throughput": together, "balanced": alone * together}[choice.goal]

    return sorted(choice.speeds, key=cost)


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
    return [*lines, f"Chose {manifest.weights} for {manifest.choice.goal}: {why[manifest.choice.goal]}."]


def _best(found: list[Speeds]) -> Speeds:
    names = [field.name for field in attrs.fields(Speeds)]
    return Speeds(**{name: max(getattr(speeds, name) for speeds in found) for name in names})


def measure(folder: Path) -> Speeds:
    """Load *folder* as the backend does, and return how fast its steps are."""
    with loaded(folder, {}) as executor:
        return speeds(executor)


@contextmanager
def loaded(folder: Path, options: Mapping[str, Any]) -> Iterator[StepExecutor]:
    """Give the executor of *folder* for `ROWS` rows with *options*, and close it afterwards."""
    context = min(_CONTEXT, read_manifest(folder).shape.context)
    asked = {"slots": ROWS, "context": context, "step_tokens": max(_PROMPT, ROWS), **options}
    executor = OnnxBackend({}).load(ModelSpec(name=folder.name, backend="onnx", path=str(folder), options=asked))
    try:
        yield executor
    finally:
        executor.close()


def speeds(executor: StepExecutor, prompt: int = _PROMPT) -> Speeds:
    """Time prompts of *prompt* tokens one by one, then one row alone, then all rows together; leave no task behind."""
    limits = executor.limits
    length = max(min(prompt, limits.context - 2 * (_STEPS + 2)), 1)
    rows = range(ROWS)
    for id in rows:
        task = Task("generate", None, [1] * length, params={"temperature": 0.0, "ignore_eos": True})
        executor.prepare(id, task, f"measured {next(_measured)}")  # a tenant of its own: nothing is cached for it
        executor.admit(id)
    prefill = min(_prefilled(executor, id, length, min(limits.tokens, length)) for id in rows)
    alone = _fastest(executor, Plan(decode=((0, 1),)))
    together = _fastest(executor, Plan(decode=tuple((id, 1) for id in rows)))
    executor.release(rows)
    return Speeds(prefill=length / prefill, decode_1=1 / alone, decode_16=ROWS / together)


def _prefilled(executor: StepExecutor, id: int, length: int, chunk: int) -> float:
    """Return the seconds of *length* tokens of prompt in chunks of *chunk* tokens."""
    chunks = [min(chunk, length - done) for done in range(0, length, chunk)]
    return sum(_timed(executor, Plan(prefill=((id, tokens),))) for tokens in chunks)


def _fastest(executor: StepExecutor, plan: Plan) -> float:
    return min(_timed(executor, plan) for _ in range(_STEPS))


def _timed(executor: StepExecutor, plan: Plan) -> float:
    start = time.perf_counter()
    list(executor.step(plan))
    return time.perf_counter() - start


def _part(progress: Progress, number: int) -> Callable[[str, int, int], None]:
    """Return what hears of candidate *number* and tells *progress* of all of them."""

    def heard(what: str, done: int, total: int) -> None:
        progress(f"{CANDIDATES[number]}: {what}", number * total + done, len(CANDIDATES) * total)

    return heard
