"""What is imported when, seen from outside: each case is a process of its own that tells its `sys.modules`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workspace import python

HEAVY = {"numpy", "onnx", "onnxruntime", "tokenizers", "torch", "httpx"}
TELL = "\nimport json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
COMMAND = """
import sys
from importlib.metadata import entry_points
(point,) = entry_points(group="console_scripts", name="llmos")
try:
    point.load()()
except SystemExit as end:
    assert not end.code, end.code
"""
HELP = """
from llmos.cli import run
assert not run(["--help"])
"""
COMPLETE = """
import os, sys
words = "llmos " + " ".join(sys.argv[1:])
os.environ |= {"_LLMOS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(sys.argv) - 1)}
from llmos.cli import run
try:
    run([])
except SystemExit as end:
    assert not end.code, end.code
"""
EXAMPLE = """
from llmos_kernel import Kernel, Port
with Kernel() as kernel:
    process = kernel.attach()
    port = process.alloc(Port(1))
    process.send(port, "hello")
    assert process.recv(port).body == "hello"
"""


def modules(code: str, *arguments: str, cwd: Path) -> set[str]:
    """Return what is imported at the end of *code*."""
    done = python(code + TELL, *arguments, cwd=cwd)

    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def plugins(imported: set[str]) -> set[str]:
    """Return the packages of plugins among *imported*."""
    return {name for name in imported if name.startswith("llmos_") and "." not in name} - {"llmos_kernel"}


def test_importing_the_kernel_is_cheap(tmp_path: Path) -> None:
    """Embedding the kernel brings nothing heavy, no event loop, and the logger not before something is logged."""
    imported = modules("import llmos_kernel", cwd=tmp_path)

    assert set() == imported & (HEAVY | {"click", "rich", "asyncio", "structlog", "llmos"})
    assert set() == plugins(imported)


def test_using_the_kernel_is_cheap(tmp_path: Path) -> None:
    """A kernel that runs and has nothing to log does not import the logger either, nor an event loop."""
    imported = modules(EXAMPLE, cwd=tmp_path)

    assert set() == imported & (HEAVY | {"click", "rich", "asyncio", "structlog", "llmos"})


def test_importing_the_sdk_is_cheap(tmp_path: Path) -> None:
    """`import llmos` starts nothing, and imports no plugin and none of their dependencies."""
    imported = modules("import llmos", cwd=tmp_path)

    assert set() == imported & (HEAVY | {"click", "rich", "asyncio", "structlog"})
    assert set() == plugins(imported)


@pytest.mark.parametrize("arguments", ["--help", "version", "plugins list", "models list", "generate --help"])
def test_commands_that_only_look(arguments: str, tmp_path: Path) -> None:
    """Commands that describe what is installed import no plugin, so a broken one cannot break them."""
    imported = modules(COMMAND, *arguments.split(), cwd=tmp_path)

    assert set() == plugins(imported)
    assert set() == imported & (HEAVY | {"asyncio"})


@pytest.mark.parametrize("typed", ["generate -m t", "chat -m t", "embed -m t", "classify -m t", "models show t"])
def test_completing_asks_nobody(typed: str, tmp_path: Path) -> None:
    """Whoever completes the name of a model waits for it: nothing is imported that asks one."""
    imported = modules(COMPLETE, *typed.split(), cwd=tmp_path)

    assert set() == imported & {"llmos._client", "llmos._conversation", "llmos._task_file", "rich", "asyncio"}
    assert set() == plugins(imported)


def test_help_draws_nothing(tmp_path: Path) -> None:
    """The library for tables and progress bars is loaded where something is drawn, and metadata is not searched."""
    assert set() == {"rich", "importlib.metadata"} & modules(HELP, cwd=tmp_path)
