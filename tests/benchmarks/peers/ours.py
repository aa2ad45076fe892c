"""llmos itself, through its client: tasks go in, events come out, nothing of the engine is touched."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs

import llmos
from llmos_kernel import Model, ModelSpec, Task
from llmos_kernel.api import Done
from tests.benchmarks.peers.progress import Engine

_CACHE_BYTES = 2**33
"""Most bytes of cache: room for every slot."""


def prepare(checkpoint: Path, folder: Path, form: str) -> None:
    """Write ``folder/FORMAT`` with the native exporter.

    ``-kv8`` after the weights' format is a cache of integers, ``-b128`` one scale for 128 weights instead of 64.
    """
    from llmos_onnx.export import export_model  # noqa: PLC0415 - only the preparation needs it

    weights, _, variant = form.partition("-")
    variants: dict[str, dict[str, Any]] = {"": {}, "kv8": {"kv": "int8"}, "b128": {"block_size": 128}}
    export_model(checkpoint, folder / form, weights=weights, **variants[variant])


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Engine:
    """Start a kernel with the model in ``folder/FORMAT``."""
    return _Ours(folder / form, threads, slots, context)


class _Ours:
    def __init__(self, folder: Path, threads: int, slots: int, context: int) -> None:
        options = {"threads": threads, "slots": slots, "context": context, "kv_bytes": _CACHE_BYTES}
        spec = ModelSpec(name="bench", backend="onnx", path=str(folder), kinds=("generate",), options=options)
        config = attrs.evolve(llmos.load_settings().kernel, models=(spec,))
        self._client = llmos.Client(config=config)
        self._process = self._client.process
        self._model = self._process.alloc(Model("bench"))

    def generate(self, prompts: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        """Schedule every request and wait for all."""
        before = self._steps()
        begin = time.perf_counter()
        handles = []
        for prompt, length in zip(prompts, lengths, strict=True):
            params = {"max_tokens": length, "ignore_eos": True, "temperature": 0.0}
            handles.append(self._process.schedule(Task("generate", self._model, prompt, params=params)))
        ends = [self._process.recv(handle).body for handle in handles]
        seconds = time.perf_counter() - begin
        for end in ends:
            if not isinstance(end, Done):
                raise end.error
        tokens = [list(end.tokens) for end in ends]
        return {"seconds": seconds, "tokens": tokens, "outside": _outside(before, self._steps())}

    def _steps(self) -> dict[str, float]:
        """Return the engine's own count of steps and of the time inside the runtime."""
        facts = self._client.control("InspectModel", "bench")["executor"]
        return dict(facts["steps"])


def _outside(before: dict[str, float], after: dict[str, float]) -> float:
    """Return the share of the steps' time that was not the runtime's."""
    run, step = (after[name] - before[name] for name in ("run_seconds", "step_seconds"))
    return 1 - run / step if step else 0.0
