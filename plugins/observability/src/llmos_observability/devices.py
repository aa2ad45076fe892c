"""NVIDIA's devices, as their driver describes them: memory and load.  Nothing where there is no driver.

Needs the extra ``gpu``.  The library is asked anew each time, because a driver may come and go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric


def library() -> Any:  # noqa: ANN401 - the module pynvml, which has no types
    """Return NVIDIA's library, or None where it is not installed."""
    try:
        import pynvml  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return pynvml


def devices(nvml: Any = None) -> Iterator[Metric]:  # noqa: ANN401 - as above
    """Yield what *nvml*, or the installed library, says of each device."""
    nvml = nvml or library()
    if nvml is None:
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # there is no driver, or no device
        return
    try:
        yield from _measured(nvml)
    finally:
        nvml.nvmlShutdown()


def _measured(nvml: Any) -> Iterator[Metric]:  # noqa: ANN401 - as above
    used = GaugeMetricFamily("llmos_gpu_memory_used_bytes", "Memory of a GPU that is used.", labels=("gpu",))
    total = GaugeMetricFamily("llmos_gpu_memory_bytes", "Memory of a GPU.", labels=("gpu",))
    load = GaugeMetricFamily("llmos_gpu_utilization_ratio", "Share of time that a GPU was busy.", labels=("gpu",))
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        try:
            memory, busy = nvml.nvmlDeviceGetMemoryInfo(device), nvml.nvmlDeviceGetUtilizationRates(device)
        except nvml.NVMLError:  # a device that is split in parts, for instance, does not say how busy it is
            continue
        used.add_metric((str(index),), memory.used)
        total.add_metric((str(index),), memory.total)
        load.add_metric((str(index),), busy.gpu / 100)
    yield from (used, total, load)
