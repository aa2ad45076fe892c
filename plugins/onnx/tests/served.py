"""A model at a kernel of its own, for tests that go through the client; nothing may be left at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llmos import Client, Model
from llmos.testing import FirstComePlugin
from llmos_kernel import Kernel, KernelConfig, ModelSpec
from llmos_onnx import backend
from llmos_onnx.executor import OnnxExecutor


@contextmanager
def connected() -> Iterator[Client]:
    """Give a client of a kernel with this backend and no other plugin, for models by their paths."""
    config = KernelConfig(scheduler="first_come", timeout=60.0)
    with (
        Kernel(config, plugins=(("onnx", backend), ("first_come", FirstComePlugin()))) as kernel,
        Client(kernel=kernel) as client,
    ):
        yield client


@contextmanager
def served(spec: ModelSpec, *plugins: object, **config: Any) -> Iterator[tuple[Client, Model]]:
    """Load *spec*; at the end no task runs, no slot is taken, no context is open and nothing is charged."""
    settings = KernelConfig(**{"models": (spec,), "scheduler": "first_come", "timeout": 60.0, **config})
    with (
        Kernel(settings, plugins=(("onnx", backend), ("first_come", FirstComePlugin()), *plugins)) as kernel,
        Client(kernel=kernel) as client,
        client.load_model(spec.name) as model,
    ):
        yield client, model
        until(lambda: idle(client, model))
        executor(client, model).check_integrity()


def executor(client: Client, model: Model) -> OnnxExecutor:
    """Return the executor that runs *model*."""
    driver = client.process._core.models.find(model.name).driver
    assert driver is not None
    assert isinstance(driver.executor, OnnxExecutor)
    return driver.executor


def facts(model: Model) -> dict[str, Any]:
    """Return what the executor says of itself."""
    return dict(model.info().details["executor"])


def charged(client: Client) -> int:
    """Return the bytes that the client's process is charged for."""
    return int(client.process._seat.account.nbytes)


def idle(client: Client, model: Model) -> bool:
    """Return whether nothing runs, nothing is kept for anybody, and nothing is charged."""
    account, said = client.process._seat.account, facts(model)
    return not (account.nbytes or account.tasks or said["slots_used"] or said["contexts"])


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Look until *condition* holds; for what no call can wait for."""
    pause = threading.Event()
    for _ in range(int(seconds * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise TimeoutError("it never came true")
