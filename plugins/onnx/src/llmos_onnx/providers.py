"""What ONNX Runtime can run on here, found out by running, not by asking.

The runtime offers every provider that it was built with.  Asked for CUDA where the driver or a library is missing, it
prints to the process's standard error and continues on the CPU; only the session knows.  So CUDA is asked for only
where it can be loaded, and what a session really runs on is read back from it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import io
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import TensorProto, helper

from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.fields import refusal

if TYPE_CHECKING:
    from types import ModuleType

    import onnxruntime

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
FLOOR: Final = (1, 27)
"""Oldest runtime that is accepted: before it, a bad sequence length kills the process."""
PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu")
"""Distributions that bring the same import package."""
_FATAL: Final = 4  # the runtime's severity: what it calls an error it raises as well, and is told there

_log = logging.getLogger(__name__)


def installed() -> dict[str, str]:
    """Return the version of each distribution that brings the runtime."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def conflict(versions: Mapping[str, str]) -> str | None:
    """Say what is wrong with the installed distributions and how to repair it; None where nothing is."""
    if len(versions) > 1:
        names = " and ".join(versions)
        return (
            f"{names} are both installed and overwrite each other: pip uninstall -y {' '.join(versions)}, then install"
            " one of llmos-onnx[cpu] and llmos-onnx[gpu]"
        )
    if not versions:
        return "no ONNX Runtime is installed: install llmos-onnx[cpu] or llmos-onnx[gpu]"
    return None


def runtime(model: str) -> ModuleType:
    """Import ONNX Runtime; raise `ModelUnavailable` where it is missing or older than `FLOOR`.

    Its telemetry stays off unless ``ORT_DISABLE_TELEMETRY`` is set otherwise: left alone, importing the runtime gives
    the machine an id and keeps a file of events in the user's home, to be sent to its maker.
    """
    floor = ".".join(map(str, FLOOR))
    expected = f"onnxruntime or onnxruntime-gpu, at least {floor}: install llmos-onnx[cpu] or llmos-onnx[gpu]"
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime  # noqa: PLC0415 - it may be missing, and is slow to load
    except ImportError as error:
        message = f"model {model!r} needs {expected}"
        raise ModelUnavailable(message, model=model, field="onnxruntime", value="missing", expected=expected) from error
    if parse_version(onnxruntime.__version__) < FLOOR:
        message = f"model {model!r} needs {expected}, not {onnxruntime.__version__}"
        found = onnxruntime.__version__
        raise ModelUnavailable(message, model=model, field="onnxruntime", value=found, expected=expected)
    module: ModuleType = onnxruntime
    return module


def parse_version(version: str) -> tuple[int, int]:
    """Return the major and minor number of *version*; (0, 0) for what has none."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


@functools.cache
def cuda_missing(ort: ModuleType) -> str | None:
    """Say what keeps CUDA from running here; None where it can be asked for.  Loads the libraries that it finds."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA: install llmos-onnx[gpu]"
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(driver)
    except OSError:
        return f"there is no NVIDIA driver ({driver})"
    count = ctypes.c_int(0)
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no device"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    if said.getvalue():
        _log.warning("CUDA libraries: %s", " ".join(said.getvalue().split()))
    return None


def session_options(
    ort: ModuleType, threads: int, *, spinning: bool = True, arena: bool = True, prepacking: bool = True
) -> onnxruntime.SessionOptions:
    """Return options for *threads* threads within an operator; the others are the runtime's own defaults."""
    options: onnxruntime.SessionOptions = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.enable_cpu_mem_arena = arena
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepacking:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def run_options(ort: ModuleType) -> onnxruntime.RunOptions:
    """Return options for runs, which are the runtime's own defaults.

    One of them is said all the same: where it is not, runs of 1.31 look for it, and raise and catch an error within.
    """
    options: onnxruntime.RunOptions = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "0")
    return options


def provider_for(ort: ModuleType, wanted: str, *, half: bool, model: str) -> str:
    """Return the provider that a decoder is to run on: *wanted* is ``auto``, ``cpu`` or ``cuda``.

    A GPU runs *half* precision only, because its attention does.  Raises `ModelUnavailable` where the one that was
    asked for cannot be had.
    """
    if wanted == "cpu" or (wanted == "auto" and not half):
        return CPU
    if not half:
        expected = "cpu or auto: a GPU takes weights and a cache of half precision, export the model with --format fp16"
        raise refusal(model, "options: provider", wanted, expected)
    why = cuda_missing(ort)
    if why is None:
        return CUDA
    if wanted == "cuda":
        raise refusal(model, "options: provider", wanted, f"cpu or auto: {why}")
    return CPU


def runs_on(session: onnxruntime.InferenceSession) -> str:
    """Return the provider that *session* really uses first."""
    return str(session.get_providers()[0])


def doctor() -> dict[str, Any]:
    """Return facts about the runtime: distributions, version, and per provider whether it ran and why not."""
    versions = installed()
    facts: dict[str, Any] = {"installed": versions, "problem": conflict(versions), "providers": {}}
    try:
        ort = runtime("")
    except ModelUnavailable as error:
        return {**facts, "problem": facts["problem"] or error.message}
    facts["version"] = ort.__version__
    for name in (CPU, CUDA):
        why = cuda_missing(ort) if name == CUDA else None
        facts["providers"][name] = {"runs": False, "why": why} if why else _try(ort, name)
    return facts


def _try(ort: ModuleType, provider: str) -> dict[str, Any]:
    """Run a graph of one node on *provider*."""
    try:
        session = ort.InferenceSession(_one_node(), session_options(ort, 1), providers=[provider])
        if runs_on(session) != provider:
            return {"runs": False, "why": f"the runtime fell back to {runs_on(session)}"}
        result = session.run(None, {"x": np.array([2.0], np.float32)})[0]
    except Exception as error:  # noqa: BLE001 - a provider that cannot run is the answer, not a failure
        return {"runs": False, "why": f"{type(error).__name__}: {error}"}
    return {"runs": True, "why": None} if result[0] == 4 else {"runs": False, "why": f"2 + 2 gave {result[0]}"}


def _one_node() -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doctor", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())
