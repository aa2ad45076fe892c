"""What figures of speed depend on: the processor, its load, and the versions of everything that takes part."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""The processor's features that kernels of matrix products are chosen by."""
PACKAGES = ("llmos-kernel", "llmos-sdk", "llmos-onnx", "llmos-schedulers", "onnxruntime", "onnxruntime-gpu", "numpy")
MOST_LOAD = 0.5
"""Load average per core above which figures say little."""


def machine() -> dict[str, Any]:
    """Return the facts; what the platform does not tell is empty."""
    described = _cpuinfo()
    flags = (described.get("flags") or described.get("Features") or "").split()
    return {
        "date": dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": described.get("model name") or platform.processor() or platform.machine(),
        "family": " ".join(described.get(key, "") for key in ("vendor_id", "cpu family", "model")).strip(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": cores(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": [round(value, 2) for value in load_average()],
        "versions": _versions(),
    }


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> tuple[float, ...]:
    """Return the load averages of 1, 5 and 15 minutes; none where the platform has none."""
    return os.getloadavg() if hasattr(os, "getloadavg") else ()


def busy(facts: dict[str, Any]) -> str:
    """Return what is to be said of a machine that had other things to do; empty for an idle one."""
    load = next(iter(facts["load"]), 0.0)
    if load <= MOST_LOAD * facts["cores"]:
        return ""
    return f"the machine was busy: load {load:g} on {facts['cores']} cores; the figures say little"


def _cpuinfo() -> dict[str, str]:
    """Return what Linux says of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _memory() -> int:
    """Return the bytes of memory, 0 where the platform does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
