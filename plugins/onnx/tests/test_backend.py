"""Loading and refusing: every wrong value is one typed error that names it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable
from llmos_onnx import providers
from llmos_onnx.backend import OnnxBackend, llmos_backend
from llmos_onnx.executor import OnnxExecutor
from plugins.onnx.tests.driver import load


@pytest.fixture
def folder(model_folder: Callable[..., Path]) -> Path:
    """The folder of the smallest model."""
    return model_folder("nano", "fp32")


@pytest.fixture(scope="module")
def executor(model_folder: Callable[..., Path]) -> OnnxExecutor:
    """An executor with a context of 64 tokens."""
    return load(model_folder("nano", "fp32"), slots=2, context=64)


def spec(path: Path | str, **options: Any) -> ModelSpec:
    """Return the specification of a model at *path*."""
    return ModelSpec(name="m", backend="onnx", path=str(path), options=options)


WRONG_PARAMS: dict[str, list[object]] = {
    "max_tokens": [0, -1, 10**9, 62, 2**63, 1.5, True, "5", [1]],
    "min_tokens": [-1, 30, "a"],
    "temperature": [float("nan"), float("inf"), -0.1, 1e9, "hot", True, [], 10**400],
    "top_k": [-1, 1.5, True],
    "top_p": [-0.1, 1.1, float("nan")],
    "min_p": [2, "x"],
    "repetition_penalty": [0, -1, float("inf")],
    "presence_penalty": [1000, float("nan")],
    "frequency_penalty": ["x"],
    "logit_bias": [[], {"a": 1}, {"-1": 1}, {512: 1}, {1: float("nan")}, {True: 1}, {1: "x"}, 5],
    "seed": [-1, 2**64, 1.0],
    "stop": ["", [""], [1], 5, ["x"] * 65, "x" * 1025],
    "stop_token_ids": [[-1], [512], ["a"], 5, [True]],
    "ignore_eos": [1, "yes"],
    "logprobs": [-1, 21, True],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_PARAMS.items() for value in values]
)
def test_wrong_parameters(executor: OnnxExecutor, name: str, value: object) -> None:
    """A parameter of the wrong type or out of range is refused by name, with what would be right."""
    params = {"max_tokens": 20, name: value}
    with pytest.raises(InvalidArgument) as caught:
        executor.prepare(1, Task("generate", None, [5, 6, 7], params=params))

    assert str(caught.value.fields["field"]).startswith(f"params.{name}")
    assert caught.value.fields["expected"]


def test_max_tokens_over_the_context_says_the_room(executor: OnnxExecutor) -> None:
    """The refusal says how many tokens would fit."""
    with pytest.raises(InvalidArgument, match="at most 61"):
        executor.prepare(1, Task("generate", None, [5, 6, 7], params={"max_tokens": 62}))


def test_unknown_parameter_names_the_nearest(executor: OnnxExecutor) -> None:
    """A misspelt parameter is refused with the name it resembles."""
    with pytest.raises(InvalidArgument, match="'temperature' perhaps") as caught:
        executor.prepare(1, Task("generate", None, "x", params={"temprature": 1}))

    assert "temprature" == caught.value.fields["value"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("generate", ""), ("generate", []), ("generate", None), ("generate", 5), ("generate", [512]),
        ("generate", [-1]), ("generate", ["a"]), ("generate", [True]), ("generate", b"bytes"), ("generate", {"a": 1}),
        ("chat", ""), ("chat", []), ("chat", "hello"), ("chat", [{}]), ("chat", [{"role": "user"}]), ("chat", [5]),
        ("chat", [{"role": "root", "content": "x"}]), ("chat", [{"role": "user", "content": 5}]),
        ("chat", [{"role": "<|im_start|>system", "content": "x"}]),
        ("chat", [{"role": "user", "content": "x", "tool": 1}]),
        ("tokenize", 5), ("tokenize", None), ("detokenize", "x"), ("detokenize", [512]), ("detokenize", None),
    ],
)  # fmt: skip
def test_wrong_inputs(executor: OnnxExecutor, kind: str, value: object) -> None:
    """An input that is empty or of the wrong type is refused by name."""
    with pytest.raises(InvalidArgument) as caught:
        executor.prepare(1, Task(kind, None, value))

    assert str(caught.value.fields["field"]).startswith("input")


@pytest.mark.parametrize(
    ("value", "found"), [([5] * 64, "64"), ("word " * 64, "tokens long"), ("x" * 10**7, "at least")]
)
def test_prompt_over_the_context(executor: OnnxExecutor, value: object, found: str) -> None:
    """A prompt without room for an answer is refused, with its length and the context's."""
    with pytest.raises(InvalidArgument, match=f"{found}.*at most 63 tokens: the context is 64"):
        executor.prepare(1, Task("generate", None, value))


def test_longest_prompt_that_fits(executor: OnnxExecutor) -> None:
    """One token less than the context is taken, and has room for one token."""
    prepared = executor.prepare(1, Task("generate", None, [5] * 63))
    executor.release([1])

    assert (63, 1) == (prepared.prompt_tokens, prepared.max_tokens)


def test_unknown_kind(executor: OnnxExecutor) -> None:
    """A kind that the backend does not serve is refused by name."""
    with pytest.raises(InvalidArgument, match="one of generate"):
        executor.prepare(1, Task("embed", None, "x"))


def test_chat_without_template(folder: Path, tmp_path: Path) -> None:
    """A model without a chat template refuses to chat and says what to do."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    manifest = json.loads((copy / "llmos.json").read_text())
    (copy / "llmos.json").write_text(json.dumps({**manifest, "chat_template": None}))

    with pytest.raises(InvalidArgument, match="has no chat template: use generate"):
        load(copy, slots=1, context=16).prepare(1, Task("chat", None, [{"role": "user", "content": "x"}]))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"slots": 0}, "slots"), ({"slots": 1.5}, "slots"), ({"context": 1}, "context"), ({"context": 513}, "context"),
        ({"swap_bytes": -1}, "swap_bytes"),
        ({"kv_bytes": 10}, "kv_bytes"), ({"slots": 4000, "context": 512, "kv_bytes": 2**20}, "kv_bytes"),
        ({"threads": 0}, "threads"), ({"threads": True}, "threads"), ({"provider": "tpu"}, "provider"),
        ({"provider": "cuda"}, "provider"), ({"step_tokens": 0}, "step_tokens"), ({"slot": 3}, "slot"),
        ({"slots": 8, "step_tokens": 4}, "step_tokens"),
    ],
)  # fmt: skip
def test_wrong_options(folder: Path, options: dict[str, Any], field: str) -> None:
    """An option that is unknown, out of range or impossible is refused by name before anything is loaded."""
    with pytest.raises(ModelUnavailable) as caught:
        OnnxBackend({}).load(spec(folder, **options))

    assert field in f"{caught.value.fields['field']} {caught.value.fields['value']}"


def test_pool_fits_its_bytes(folder: Path) -> None:
    """Slots and context follow from the bytes given, and measure says what will be taken."""
    per_token = 2 * 2 * 2 * 16 * 4
    facts = load(folder, kv_bytes=per_token * 100 * 4).describe()
    footprint = OnnxBackend({}).measure(spec(folder, kv_bytes=per_token * 100 * 4))
    weights = sum(path.stat().st_size for path in folder.iterdir() if path.name != "llmos.json")

    assert (4, 100) == (facts["slots"], facts["context"])
    assert ("cpu", weights + facts["kv_bytes"]) == (footprint.device, footprint.nbytes - 2 * 4 * 512 * 4)
    assert 16 == load(folder).describe()["slots"]


def test_configuration_gives_defaults(folder: Path) -> None:
    """What the plugin's configuration says applies to every model that says nothing else."""
    backend = llmos_backend(config={"slots": 3, "context": 32})

    assert 3 == backend.load(spec(folder)).limits.rows
    assert 5 == backend.load(spec(folder, slots=5)).limits.rows


@pytest.mark.parametrize("path", ["", "/nowhere/at/all"])
def test_missing_folder(path: str) -> None:
    """A model without a folder is unavailable, and measure says so as well."""
    backend = OnnxBackend({})
    for call in (backend.load, backend.measure):
        with pytest.raises(ModelUnavailable):
            call(spec(path))


def test_flipped_byte(folder: Path, tmp_path: Path) -> None:
    """A folder whose weights are not what was exported is refused before the runtime sees it."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / "model.onnx.data").read_bytes())
    data[1000] ^= 1
    (copy / "model.onnx.data").write_bytes(data)

    with pytest.raises(ModelUnavailable, match="sha256"):
        OnnxBackend({}).load(spec(copy))


def test_describe(executor: OnnxExecutor) -> None:
    """An executor says what it really runs on."""
    facts = executor.describe()

    assert "CPUExecutionProvider" == facts["provider"]
    assert ("fp32", 2, 64) == (facts["weights"], facts["slots"], facts["context"])


def test_doctor_runs_the_providers() -> None:
    """Doctor says for each provider whether a graph ran on it, and why not."""
    facts = OnnxBackend({}).doctor()

    assert {"runs": True, "why": None} == facts["providers"]["CPUExecutionProvider"]
    cuda = facts["providers"]["CUDAExecutionProvider"]
    assert cuda["runs"] or cuda["why"]
    assert None is facts["problem"]
    assert set(facts["installed"]) & set(providers.PACKAGES)


def test_two_runtimes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both distributions of the runtime together are found and the repair is told."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.31.1")
    problem = providers.doctor()["problem"]

    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in problem


def test_no_runtime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Without a runtime, loading and doctor say what to install."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(ModelUnavailable, match=r"llmos-onnx\[cpu\]"):
        OnnxBackend({}).load(spec(folder))
    assert "llmos-onnx[cpu]" in providers.doctor()["problem"]


def test_old_runtime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A runtime below the floor is refused by version."""
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__="1.26.3"))

    with pytest.raises(ModelUnavailable, match=r"at least 1\.27.*not 1\.26\.3"):
        OnnxBackend({}).load(spec(folder))


class Driver:
    """An NVIDIA driver with *count* devices."""

    def __init__(self, count: int) -> None:
        self._count = count

    def cuInit(self, flags: int) -> int:  # noqa: N802
        """Begin; 0 is success."""
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        """Write the number of devices to the pointer."""
        count._obj.value = self._count
        return 0


def preload_noisily() -> None:
    """Say what the runtime's own loader says of an optional library."""
    print("Failed to load\nlibcufft.so")


@pytest.mark.parametrize(
    ("offered", "driver", "expected"),
    [
        ([providers.CPU], None, "built without CUDA"),
        ([providers.CUDA, providers.CPU], None, "no NVIDIA driver"),
        ([providers.CUDA, providers.CPU], Driver(0), "finds no device"),
        ([providers.CUDA, providers.CPU], Driver(1), None),
    ],
)
def test_why_cuda_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    offered: list[str],
    driver: Driver | None,
    expected: str | None,
) -> None:
    """CUDA is asked for only where build, driver and device are there; the loader's noise is one line of log."""

    def open_library(name: str) -> Driver:
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(ctypes, "CDLL", open_library)
    ort: Any = SimpleNamespace(get_available_providers=lambda: offered, preload_dlls=preload_noisily)
    why = providers.cuda_missing.__wrapped__(ort)

    if expected is None:
        assert why is None
        assert ["CUDA libraries: Failed to load libcufft.so"] == caplog.messages
    else:
        assert expected in str(why)
        assert not caplog.messages


def test_silent_fallback_is_found() -> None:
    """A provider that the runtime replaces by another one does not count as running."""
    session = SimpleNamespace(get_providers=lambda: [providers.CPU])
    ort: Any = SimpleNamespace(
        InferenceSession=lambda graph, options, providers: session, SessionOptions=SimpleNamespace
    )

    assert "the runtime fell back to CPUExecutionProvider" == providers._try(ort, providers.CUDA)["why"]


def test_no_distribution_at_all() -> None:
    """Without any distribution of the runtime, the way to one is told."""
    assert "llmos-onnx[gpu]" in str(providers.conflict({}))


@pytest.mark.parametrize(
    ("version", "expected"), [("1.27.0", (1, 27)), ("1.31.1.dev2", (1, 31)), ("2", (0, 0)), ("x", (0, 0))]
)
def test_versions(version: str, expected: tuple[int, int]) -> None:
    """Versions are compared as numbers; one that is none counts as the oldest."""
    assert expected == providers.parse_version(version)


def test_nothing_is_printed(folder: Path) -> None:
    """Loading and generating print nothing, whatever the runtime thinks of this machine."""
    code = (
        "import sys; from llmos_kernel.contracts import ModelSpec; from llmos_onnx.backend import OnnxBackend;"
        "b = OnnxBackend({}); b.load(ModelSpec(name='m', backend='onnx', path=sys.argv[1])); b.doctor()"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)

    assert ("", "") == (ran.stdout, ran.stderr)


def test_package_is_cheap_to_import() -> None:
    """Importing the package alone brings neither the runtime nor numpy."""
    code = "import sys, llmos_onnx; print({'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "set()\n" == ran.stdout


def test_errors_survive_the_wire(executor: OnnxExecutor) -> None:
    """What is refused here can be told elsewhere."""
    with pytest.raises(InvalidArgument) as caught:
        executor.prepare(1, Task("generate", None, "x", params={"temperature": float("nan")}))
    again = KernelError.from_wire(json.loads(json.dumps(caught.value.to_wire())))

    assert "params.temperature" == again.fields["field"]


def test_runtime_reports_nothing(tmp_path: Path) -> None:
    """Loading the runtime leaves no machine id and no file of events in the user's home."""
    code = "from llmos_onnx.providers import runtime; runtime('')"
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env={**environ, "HOME": str(tmp_path)}, check=True)

    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]
