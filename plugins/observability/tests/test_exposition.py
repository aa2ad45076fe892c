"""How measurements are written, and who is told what."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmos
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig
from llmos_kernel.api import Credentials
from llmos_kernel.errors import ConfigError
from llmos_kernel.services import Event
from llmos_observability.devices import devices
from llmos_observability.exposition import OPENMETRICS, TEXT
from llmos_observability.metrics import Metrics
from plugins.observability.tests.scraping import facts, named, samples

USAGE = {"prompt": 3, "cached": 1, "generated": 3, "queued": 0.25, "prefill": 0.5, "decode": 1.0}


def task(id: int = 1, model: str = "tiny", tenant: str = "acme") -> dict[str, Any]:
    """Return what every event says of a task."""
    return {"task": id, "model": model, "kind": "generate", "tenant": tenant}


def tell(observer: Metrics, name: str, at: float = 0.0, **fields: Any) -> None:
    """Let something happen."""
    observer.llmos_event(event=Event(name, at, fields))


def ended(observer: Metrics, **about: Any) -> None:
    """Let a task end well."""
    tell(observer, "task.done", **task(**about), **USAGE, error="", finish="stop")


def test_both_formats_say_the_same() -> None:
    """Whoever takes OpenMetrics gets it, everybody else Prometheus' text; both parse to the same values."""
    observer = Metrics({})
    ended(observer)
    text, openmetrics = observer.llmos_metrics("", facts()), observer.llmos_metrics(f"{OPENMETRICS};q=0.9", facts())
    found = [
        {name: value for name, value in samples(answer).items() if not name[0].startswith("process_")}
        for answer in (text, openmetrics)
    ]

    assert TEXT == text[0]
    assert openmetrics[0].startswith(OPENMETRICS)
    assert found[0] == found[1]
    assert {("tiny", "acme"): 3} == named(found[0], "vllm:generation_tokens_total", "model_name", "tenant")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed; it comes with Prometheus")
def test_promtool_finds_nothing_wrong() -> None:
    """Our own names are as Prometheus would have them; of vLLM's it dislikes the colon only."""
    observer = Metrics({})
    ended(observer)
    tell(observer, "model.loaded", model="tiny", error="")
    tell(observer, "step", model="tiny", rows=1, prompt=3, seconds=0.1, tokens={})
    _, content = observer.llmos_metrics("", facts())
    promtool = shutil.which("promtool") or "promtool"
    done = subprocess.run([promtool, "check", "metrics"], input=content, capture_output=True, check=False)
    complaints = [line for line in done.stderr.decode().splitlines() if line]

    assert [] == [line for line in complaints if not line.startswith("vllm:")]
    assert [] == [line for line in complaints if "colon" not in line and "':'" not in line and "_total" not in line]


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_name_is_a_label(model: str, tenant: str) -> None:
    """Whatever models and tenants are called, it is read as it was meant."""
    observer = Metrics({})
    ended(observer, model=model, tenant=tenant)
    found = named(samples(observer.llmos_metrics("", facts())), "vllm:prompt_tokens_total", "model_name", "tenant")

    assert [3] == list(found.values())
    assert "\n" in model + tenant or (model, tenant) in found


def test_tenants_are_bounded() -> None:
    """Those that come after the labels are given away are counted together, and keep no figures of their own."""
    observer = Metrics({"tenants": 2})
    for number in range(1000):
        ended(observer, id=number, tenant=f"t{number}")
    found = named(samples(observer.llmos_metrics("", facts())), "vllm:prompt_tokens_total", "tenant")

    assert {("t0",): 3, ("t1",): 3, ("other",): 3 * 998} == found


def test_words_of_plugins_are_bounded() -> None:
    """A backend that invents a reason for each task fills no memory."""
    observer = Metrics({})
    for number in range(100):
        tell(observer, "task.done", **task(number), **USAGE, error="", finish=f"reason {number}")
        tell(observer, "task.failed", **task(number), **USAGE, error=f"Error{number}", finish="")
    found = samples(observer.llmos_metrics("", facts()))

    assert 33 == len(named(found, "vllm:request_success_total", "finished_reason"))
    assert 33 == len(named(found, "llmos_task_failures_total", "error"))


def test_a_tenant_is_told_of_itself() -> None:
    """It sees neither the figures of others nor those that are counted together."""
    observer, live = Metrics({"tenants": 2}), {("tiny", "acme", "running"): 1, ("tiny", "evil", "waiting"): 2}
    for number, tenant in enumerate(("acme", "evil", "late", "other")):
        ended(observer, id=number, tenant=tenant)
    seen: dict[str, set[str]] = {}
    for who in ("acme", "evil", "late", "other", "nobody"):
        found = samples(observer.llmos_metrics("", facts(tenant=who, tasks=live)))
        seen[who] = {dict(labels).get("tenant", who) for _, labels in found}

    assert {who: {who} for who in seen} == seen


def test_through_the_control_port() -> None:
    """The kernel passes the question on, with what only it knows."""
    echo = EchoBackend()
    config = KernelConfig(models=[echo_spec("echo", nbytes=1000)], options={"observer:metrics": {"tenants": 3}})
    with Kernel(config, [echo, FirstComePlugin(), Metrics]) as kernel:
        who = Credentials("boss", "staff", frozenset({"operator"}))
        with llmos.Client(kernel=kernel, credentials=who) as client, client.load_model("echo") as model:
            model.generate_text("one two")
            echo.gate.shut()
            with model.stream("three four"):
                echo.gate.wait_for_visitor()
                found = samples(client.control("Metrics"))
            echo.gate.open()

    assert {("echo", "staff"): 1} == named(found, "vllm:num_requests_running", "model_name", "tenant")
    assert {("echo",): 1} == named(found, "llmos_model_loaded", "model_name")
    assert {("cpu",): 1000} == named(found, "llmos_device_used_bytes", "device")
    assert {(): 1} == named(found, "llmos_processes")
    assert named(found, "process_resident_memory_bytes")[()] > 1e6


def test_what_executors_say_of_their_cache() -> None:
    """The share of slots in use, where there are slots; nothing is made up elsewhere."""
    models = [
        {"name": "tiny", "executor": {"slots": 4, "slots_used": 3}}, {"name": "far", "executor": {}},
        {"name": "gone", "executor": None},
    ]  # fmt: skip
    found = samples(Metrics({}).llmos_metrics("", facts(models=models)))

    assert {("tiny",): 0.75} == named(found, "vllm:kv_cache_usage_perc", "model_name")


def test_time_between_tokens() -> None:
    """Each step's tokens share the time since the step before; the end has what no step told of."""
    observer = Metrics({})
    tell(observer, "task.accepted", **task())
    for at, tokens in ((10.0, 1), (10.25, 1), (10.75, 2)):
        tell(observer, "step", at, model="tiny", rows=1, prompt=0, seconds=0.1, tokens={1: tokens, 99: 1})
    early = samples(observer.llmos_metrics("", facts()))
    tell(observer, "task.done", **task(), **USAGE | {"generated": 5, "decode": 1.5}, error="", finish="length")
    tell(observer, "step", 11.5, model="tiny", rows=1, prompt=0, seconds=0.1, tokens={1: 1})
    found = samples(observer.llmos_metrics("", facts()))

    assert {(): 4} == named(early, "vllm:generation_tokens_total")
    assert {(): 5} == named(found, "vllm:generation_tokens_total")
    buckets = named(found, "vllm:inter_token_latency_seconds_bucket", "le")
    assert [0, 3, 3, 4, 4] == [buckets[bound,] for bound in ("0.2", "0.3", "0.5", "0.75", "1.0")]
    assert {(): 1.5} == named(found, "vllm:inter_token_latency_seconds_sum")


def test_events_that_came_alone() -> None:
    """An end without a beginning is counted; preemptions, loads and failures of loads are too."""
    observer = Metrics({})
    tell(observer, "task.preempted", **task())
    tell(observer, "model.loaded", model="tiny", error="")
    tell(observer, "model.failed", model="tiny", error="no such file")
    tell(observer, "task.cancelled", **task(), **USAGE | {"generated": 0}, error="Cancelled", finish="")
    found = samples(observer.llmos_metrics("", facts()))

    assert {(): 1} == named(found, "vllm:num_preemptions_total")
    assert ({(): 1}, {(): 1}) == tuple(named(found, f"llmos_model_{what}_total") for what in ("loads", "load_failures"))
    assert {("abort",): 1} == named(found, "vllm:request_success_total", "finished_reason")
    assert {(): 0} == named(found, "vllm:prompt_tokens_total")


@pytest.mark.parametrize("options", [{"tenants": -1}, {"tenants": 1.5}, {"tenant": 3}])
def test_options_that_are_wrong(options: Mapping[str, Any]) -> None:
    """One error that names the option."""
    with pytest.raises(ConfigError, match=r"observer:metrics.*tenant"):
        Metrics(options)


# --- devices -----------------------------------------------------------------------------------------------------


class Nvml:
    """NVIDIA's library with two devices, of which the second does not say how busy it is."""

    class NVMLError(Exception):
        """What it raises."""

    def __init__(self, *, driver: bool = True) -> None:
        self.driver, self.open = driver, 0

    def nvmlInit(self) -> None:  # noqa: N802 - its own name
        """Begin."""
        if not self.driver:
            raise self.NVMLError("no driver")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        """End."""
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Two."""
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        """The index."""
        return index

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:  # noqa: N802
        """Three of eight."""
        return SimpleNamespace(used=3, total=8)

    def nvmlDeviceGetUtilizationRates(self, device: int) -> SimpleNamespace:  # noqa: N802
        """Half of the time."""
        if device == 1:
            raise self.NVMLError("not supported")
        return SimpleNamespace(gpu=50)


def test_devices() -> None:
    """What the driver says of each device, and nothing of one that says nothing; the library is closed again."""
    nvml = Nvml()
    found = {one.name: (one.labels, one.value) for family in devices(nvml) for one in family.samples}

    assert {
        "llmos_gpu_memory_used_bytes": ({"gpu": "0"}, 3), "llmos_gpu_memory_bytes": ({"gpu": "0"}, 8),
        "llmos_gpu_utilization_ratio": ({"gpu": "0"}, 0.5),
    } == found  # fmt: skip
    assert (0, []) == (nvml.open, list(devices(Nvml(driver=False))))
