"""Runs a model folder for the evaluation, with the backend that users run it with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, Plan, StepExecutor
from llmos_onnx.backend import OnnxBackend
from tiny_corpus import Example
from tokenizers import Tokenizer

ROWS = 32


def _open(folder: Path) -> StepExecutor:
    spec = ModelSpec(name="tiny", backend="onnx", path=str(folder), options={"slots": ROWS, "provider": "cpu"})
    return OnnxBackend({}).load(spec)


def load(folder: Path) -> Callable[[list[Example], int], list[str | None]]:
    """Return what continues examples up to a limit of tokens; None stands for a text that does not come to an end."""
    executor = _open(folder)

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


def log_probabilities(folder: Path, examples: list[Example]) -> list[float]:
    """Return the log probability of each token of the last answers, its end included, after what stands before it.

    Each token is asked for by itself: a bias makes it certain to be chosen, and the report has no bias in it.
    """
    executor = _open(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    wanted: list[list[int]] = []
    for example in examples:
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text, _ in example.segments()]
        prompt, answer = [id for piece in ids[:-1] for id in piece], ids[-1]
        wanted += [[*prompt, *answer[: at + 1]] for at in range(len(answer))]
    wanted.sort(key=len)
    parts = [wanted[i : i + ROWS] for i in range(0, len(wanted), ROWS)]
    return [found for part in parts for found in _last(executor, part)]


def _last(executor: StepExecutor, rows: list[list[int]]) -> list[float]:
    """Return the log probability of the last token of each of up to `ROWS` rows."""
    prefill = []
    for id, (*before, token) in enumerate(rows):
        params = {"max_tokens": 1, "logprobs": 0, "logit_bias": {token: 100.0}}
        prefill.append((id, executor.prepare(id, Task("generate", None, before, params=params), "local").prompt_tokens))
        executor.admit(id)
    found: dict[int, float] = {}
    for result in executor.step(Plan(prefill=tuple(prefill), decode=())):
        if list(result.tokens) != [rows[result.id][-1]]:
            raise ValueError(f"chose {result.tokens}, not {rows[result.id][-1]}: the bias is too small")
        found[result.id] = result.logprobs[0]["logprob"]
        executor.release([result.id])
    return [found[id] for id in range(len(rows))]
