"""What it costs to begin: wall time and modules of fresh interpreters, in turn with one that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.benchmarks.figures import Figure, figure

CLI = "from llmos.cli import main; main()"
PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import asyncio": ["-c", "import asyncio"],
    "import llmos_kernel": ["-c", "import llmos_kernel"],
    "import llmos": ["-c", "import llmos"],
    "llmos --help": ["-c", CLI, "--help"],
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
    return [figure(name, values, "ms", reference=_size(name)) for name, values in samples.items() if values]


def _size(name: str) -> str:
    if not name.startswith("import "):
        return ""
    heavy = f"[one for one in {HEAVY.split()!r} if one in sys.modules]"
    code = f"import sys, {name.removeprefix('import ')}; print(len(sys.modules), *{heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    modules, *brought = done.stdout.split()
    return f"{modules} modules" + (f", with {', '.join(brought)}" if brought else "")
