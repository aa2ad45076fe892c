"""Runs a model folder for the evaluation, with the backend that users run it with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, Plan, StepExecutor
from llmos_onnx.backend import OnnxBackend
from tiny_corpus import Example

ROWS = 32


def load(folder: Path) -> Callable[[list[Example], int], list[str | None]]:
    """Return what continues examples up to a limit of tokens; None stands for a text that does not come to an end."""
    spec = ModelSpec(name="tiny", backend="onnx", path=str(folder), options={"slots": ROWS, "provider": "cpu"})
    executor = OnnxBackend({}).load(spec)

    def run(examples: list[Example], limit: int) -> list[str | None]:
        parts = [examples[i : i + ROWS] for i in range(0, len(examples), ROWS)]
        return [text for part in parts for text in _batch(executor, part, limit)]

    return run


def _task(example: Example, limit: int) -> Task:
    params = {"max_tokens": limit, "temperature": 0.0}
    if not example.question:
        return Task("generate", None, example.opening, params=params)
    messages: list[dict[str, Any]] = [{"role": "system", "content": example.system}] if example.system else []
    for question, answer in example.turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Task("chat", None, messages[:-1], params=params)


def _batch(executor: StepExecutor, examples: Sequence[Example], limit: int) -> list[str | None]:
    """Run up to `ROWS` tasks together."""
    texts = dict.fromkeys(range(len(examples)), "")
    ends: dict[int, str] = {}
    plans = []
    for id, example in enumerate(examples):
        tokens = executor.prepare(id, _task(example, limit), "local").prompt_tokens
        executor.admit(id)
        plans.append(Plan(prefill=((id, tokens),), decode=()))  # one by one: a step takes a bounded number of tokens
    while len(ends) < len(texts):
        running = tuple((id, 1) for id in texts if id not in ends)
        for result in executor.step(plans.pop() if plans else Plan(prefill=(), decode=running)):
            texts[result.id] += result.text
            if result.finish is not None:
                ends[result.id] = result.finish
                executor.release([result.id])
    return [text if ends[id] == "stop" else None for id, text in texts.items()]
