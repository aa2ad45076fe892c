"""What it costs to begin: time, memory and modules of fresh interpreters, in turn with one that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata

from tests.benchmarks.figures import Figure, figure

CLI = "from llmos.cli import main; main()"
NOTHING, HELP = "python -c pass", "llmos --help"
PEAK = (
    f"import re\ntry:\n    {CLI}\nfinally:\n    print(re.search('VmHWM:(.*)kB', open('/proc/self/status').read())[1])"
)
SLOWER, MIB = 6, 25
"""How many times as long as nothing the help may take, and how much memory."""
PROGRAMS = {
    NOTHING: ["-c", "pass"],
    "import asyncio": ["-c", "import asyncio"],
    "import llmos_kernel": ["-c", "import llmos_kernel"],
    "import llmos": ["-c", "import llmos"],
    HELP: ["-c", CLI, "--help"],
    "llmos plugins list": ["-c", CLI, "plugins", "list"],
}
HEAVY = "numpy onnxruntime torch click rich structlog"
"""What an import should not bring along."""


def beginnings(n: int = 9) -> list[Figure]:
    """Time each program, in turn; one that does not run is left out."""
    samples: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(n):
        for name, arguments in PROGRAMS.items():
            begin = time.perf_counter()
            done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
            if not done.returncode:
                samples[name].append(time.perf_counter() - begin)
    found = {name: values for name, values in samples.items() if values}
    return [*(figure(name, found[name], "ms", **_facts(name, found)) for name in found), *_memory(n)]


def _facts(name: str, samples: Mapping[str, Sequence[float]]) -> Mapping[str, object]:
    """Return the goal of the program, where it has one, and what there is to compare it with."""
    if name != HELP or NOTHING not in samples:
        return {"reference": _size(name)}
    ratio = statistics.median(samples[name]) / statistics.median(samples[NOTHING])
    return {"goal": f"≤ {SLOWER} × {NOTHING}", "met": ratio <= SLOWER, "reference": f"{ratio:.1f} ×"}


def _memory(n: int) -> Iterator[Figure]:
    """Yield the most memory that the help had; nothing where the platform does not tell.

    Linux counts what a process had before it became this program among ``ru_maxrss``, so the program asks itself.
    """
    runs = [
        subprocess.run([sys.executable, "-c", PEAK, "--help"], capture_output=True, text=True, check=False)
        for _ in range(n)
    ]
    values = [int(run.stdout.rsplit("\n", 2)[1]) / 1024 for run in runs if not run.returncode]
    plugins = [
        (one.name, entry.name)
        for one in metadata.distributions()
        for entry in one.entry_points
        if entry.group.startswith("llmos.")
    ]
    if values:
        yield figure(
            f"{HELP}, memory", values, "MiB", goal=f"≤ {MIB} MiB", met=statistics.median(values) <= MIB,
            reference=f"{len(plugins)} plugins of {len(dict(plugins))} distributions",
        )  # fmt: skip


def _size(name: str) -> str:
    if not name.startswith("import "):
        return ""
    heavy = f"[one for one in {HEAVY.split()!r} if one in sys.modules]"
    code = f"import sys, {name.removeprefix('import ')}; print(len(sys.modules), *{heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    modules, *brought = done.stdout.split()
    return f"{modules} modules" + (f", with {', '.join(brought)}" if brought else "")
