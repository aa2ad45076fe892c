"""Half precision on a GPU: which folders go there, and that the engine's side of it is right, on a GPU that is none.

What a real GPU computes is not tested here: `fake_cuda` says what is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

import llmos
from llmos.testing import FirstComePlugin
from llmos_kernel import Kernel, KernelConfig

from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import KernelBug, ModelUnavailable, OutOfMemory
from llmos_onnx import backend, genai_layout, imported_folder, providers
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.cache import DeviceCache, HostCache
from llmos_onnx.executor import OnnxExecutor
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.fake_cuda import FakeCuda, FakeSession
from plugins.onnx.tests.test_engine import prompts

HALF_GENAI = Path(__file__).parent / "data" / "genai" / "fp16"
SHAPE = (4, 3, 2, 8, 16)
SAMPLED: dict[str, Any] = {"temperature": 1.1, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2}


@pytest.fixture
def cuda() -> FakeCuda:
    """A device without anything in its memory."""
    return FakeCuda()


@pytest.fixture
def sessions(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> list[FakeSession]:
    """Let models that are to run on a GPU run on the fake one; return their sessions."""
    native, imported, made = backend._session, imported_folder.open_bytes, []

    def on(provider: str, session: Any) -> Any:
        if provider == providers.CPU:
            return session
        made.append(FakeSession(session, cuda))
        return made[-1]

    def native_session(ort: Any, folder: Any, options: Any, provider: str, *, model: str) -> Any:
        return on(provider, native(ort, folder, options, providers.CPU, model=model))

    def imported_session(*args: Any, provider: str, **how: Any) -> Any:
        return on(provider, imported(*args, **how))

    monkeypatch.setattr(backend, "_session", native_session)
    monkeypatch.setattr(genai_layout, "open_bytes", imported_session)
    monkeypatch.setattr("llmos_onnx.cache.cuda_library", lambda: cuda)
    monkeypatch.setattr(providers, "cuda_missing", lambda _: None)
    return made


def answers(executor: OnnxExecutor, chunk: int) -> list[list[int]]:
    """Return what eleven requests get that join and leave, share a prefix, and are swapped out and dropped."""
    asked = [[token % 320 for token in prompt] for prompt in prompts(8)]
    shared = [token for prompt in asked for token in prompt][:64]
    asked += [shared, [*shared[:62], 7, 8]]
    driver, waiting, step = Driver(executor, chunk=chunk), list(enumerate(asked)), 0
    while waiting or not all(row.ended for row in driver.rows.values()):
        if waiting and executor.limits.free:
            index, prompt = waiting.pop(0)
            driver.add(index, prompt, max_tokens=20, ignore_eos=True, seed=index, **SAMPLED)
        paused = [id for id, row in driver.rows.items() if row.paused]
        running = [id for id, row in driver.rows.items() if not (row.paused or row.ended)]
        if paused and step % 3 == 0:
            driver.resume(paused[0])
        elif len(running) > 2 and step % 4 == 1:
            driver.pause(running[step % len(running)], ("swap", "drop")[step % 8 == 1])
        if any(not (row.paused or row.ended) for row in driver.rows.values()):
            driver.step()
        step += 1
    driver.add(len(asked), [*shared[:40], 9], max_tokens=20, ignore_eos=True)
    driver.finish()
    return [row.tokens for _, row in sorted(driver.rows.items())]


@pytest.mark.parametrize("chunk", [10_000, 7])
@pytest.mark.parametrize("name", ["nano", "nano-gemma2", "genai"])
def test_the_engine_on_a_device(
    name: str, chunk: int, model_folder: Callable[..., Path], sessions: list[FakeSession], cuda: FakeCuda
) -> None:
    """With its cache in device memory, every request gets the tokens that it gets with the cache in host memory."""
    folder = HALF_GENAI if name == "genai" else model_folder(name, "fp16")
    options = {"slots": 4, "context": 128, "threads": 2}
    expected = answers(load(folder, provider="cpu", **options), chunk)
    executor = load(folder, provider="cuda", **options)

    assert expected == answers(executor, chunk)
    assert executor.describe()["steps"]["cached"] >= 32
    assert "CUDAExecutionProvider" == executor.describe()["provider"]
    assert {"logits"} == set(sessions[0].outputs)
    executor.close()
    assert 0 == cuda.used


def test_both_memories_are_alike(cuda: FakeCuda) -> None:
    """Whatever is copied, read and written, device memory holds what host memory holds."""
    random, device, host = np.random.default_rng(0), DeviceCache(cuda, SHAPE, np.float16), HostCache(SHAPE, np.float16)
    for _ in range(200):
        begin, end = sorted(random.integers(0, SHAPE[3] + 1, 2).tolist())
        source, target = random.permutation(SHAPE[1])[:2].tolist()
        values = random.standard_normal((SHAPE[0], SHAPE[2], end - begin, SHAPE[4])).astype(np.float16)
        for cache in (device, host):
            cache.copy(source, target, begin, end)
            cache.write(source, begin, values)

        assert np.array_equal(host.read(target, 0, SHAPE[3]), device.read(target, 0, SHAPE[3]))
        assert np.array_equal(values, device.read(source, begin, end))
        assert not cuda.unfinished


def test_memory_begins_as_zeros(cuda: FakeCuda) -> None:
    """What the device leaves in memory may be NaN, and attention gives what lies beyond a row the weight zero."""
    assert not DeviceCache(cuda, SHAPE, np.float16).read(1, 0, SHAPE[3]).any()


def test_memory_that_is_not_there() -> None:
    """A device that is full says so with the bytes that were asked for; other failures name the call."""
    broken = SimpleNamespace(cudaMalloc=lambda *_: 35)
    with pytest.raises(OutOfMemory, match="12288 bytes of key and value cache on the GPU"):
        DeviceCache(FakeCuda(room=100), SHAPE, np.float32)
    with pytest.raises(KernelBug, match="CUDA refuses a call"):
        DeviceCache(broken, SHAPE, np.float32)


def test_places_outside(cuda: FakeCuda) -> None:
    """A slot or a position that is not there is refused before CUDA hears of it."""
    cache = DeviceCache(cuda, SHAPE, np.float16)
    with pytest.raises(KernelBug, match="no such slot"):
        cache.pointers(3)
    with pytest.raises(KernelBug, match="more positions"):
        cache.copy(0, 1, 0, 9)


def test_memory_goes_back_once(cuda: FakeCuda) -> None:
    """Closing twice, or forgetting what was closed, frees once."""
    cache = DeviceCache(cuda, SHAPE, np.float16)
    cache.close()
    cache.close()

    assert 0 == cuda.used


@pytest.mark.parametrize(
    ("weights", "wanted", "missing", "expected"),
    [
        ("fp32", "auto", None, providers.CPU),
        ("fp32", "cpu", None, providers.CPU),
        ("fp32", "cuda", None, "--format fp16"),
        ("fp16", "auto", None, providers.CUDA),
        ("fp16", "auto", "no driver", providers.CPU),
        ("fp16", "cpu", None, providers.CPU),
        ("fp16", "cuda", None, providers.CUDA),
        ("fp16", "cuda", "no driver", "no driver"),
    ],
)
def test_which_provider(
    weights: str, wanted: str, missing: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU takes half precision where there is one; what was asked for by name is had or refused."""
    monkeypatch.setattr(providers, "cuda_missing", lambda _: missing)
    choose = functools.partial(providers.provider_for, onnxruntime, wanted, half=weights == "fp16", model="m")
    if expected.endswith("Provider"):
        assert expected == choose()
        return
    with pytest.raises(ModelUnavailable, match=expected):
        choose()


def test_memory_of_the_device_is_charged(model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What will lie on a GPU is charged to it, and not to the host."""
    spec = ModelSpec(name="m", backend="onnx", path=str(model_folder("nano", "fp16")))
    on_host = OnnxBackend({}).measure(spec)
    monkeypatch.setattr(providers, "cuda_missing", lambda _: None)
    on_device = OnnxBackend({}).measure(spec)

    assert ("cpu", "cuda:0") == (on_host.device, on_device.device)
    assert on_host.nbytes == on_device.nbytes


@pytest.mark.parametrize(("devices", "runs"), [({"cpu": 2**30, "cuda:0": 2**30}, True), ({"cpu": 2**30}, False)])
def test_through_the_kernel(
    devices: dict[str, int], runs: bool, model_folder: Callable[..., Path], sessions: list[FakeSession], cuda: FakeCuda
) -> None:
    """A kernel whose settings name the device loads the model there and gives it back; another says what is missing."""
    spec = ModelSpec(name="m", backend="onnx", path=str(model_folder("nano", "fp16")), options={"slots": 2})
    config = KernelConfig(models=(spec,), scheduler="first_come", devices=devices)
    with (
        Kernel(config, plugins=[("onnx", backend), ("first_come", FirstComePlugin())]) as kernel,
        llmos.Client(kernel=kernel) as client,
    ):
        if runs:
            model = client.load_model("m", timeout=60)
            assert 5 == model.generate_text("the fox", max_tokens=5, params={"ignore_eos": True}).usage.generated
            assert "CUDAExecutionProvider" == client.control("InspectModel", "m")["executor"]["provider"]
        else:
            with pytest.raises(OutOfMemory, match="cuda:0 has room for 0 bytes"):
                client.load_model("m", timeout=60)

    assert (0, int(runs)) == (cuda.used, len(sessions))


@pytest.mark.usefixtures("sessions")
def test_library_that_is_missing(model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU whose runtime library cannot be loaded is an error that names the library."""

    def missing() -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr("llmos_onnx.cache.cuda_library", missing)
    with pytest.raises(ModelUnavailable, match="libcudart"):
        load(model_folder("nano", "fp16"), provider="cuda")
