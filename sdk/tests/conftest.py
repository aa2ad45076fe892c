"""The kit's fixtures, and clients at its kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmos import Client, Model
from llmos.testing.fixtures import clock, echo, kernel, process
from llmos_kernel import Kernel

__all__ = ["clock", "echo", "kernel", "process"]

PRELUDE = """
import llmos
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import KernelConfig
config = KernelConfig(models=[echo_spec(aliases=["gpt-3"])])
plugins = [EchoBackend(), FirstComePlugin()]
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's: an empty folder, and a home and an environment without any."""
    for name in list(os.environ):
        if name.startswith("LLMOS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def client(kernel: Kernel) -> Iterator[Client]:
    """A client of the echo kernel."""
    with Client(kernel=kernel) as made:
        yield made


@pytest.fixture
def model(client: Client) -> Model:
    """The echo model."""
    return client.load_model("echo")


Script = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def script() -> Script:
    """Run a program that has ``config`` and ``plugins`` for an echo kernel; warnings are errors in it."""

    def run(body: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-W", "error", "-c", PRELUDE + body]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    return run
