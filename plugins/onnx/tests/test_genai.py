"""A folder of onnxruntime-genai's builder runs as it is, by the same engine, and gives the tokens that others give.

``data/genai`` holds such folders with random weights, the greedy tokens of onnxruntime-genai's own generator, and
transformers' logits; ``data/make_genai.py`` wrote them.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import ModelProto, helper

from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.executor import OnnxExecutor
from llmos_onnx.genai import read_genai
from llmos_onnx.manifest import GRAPH, Generation
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.served import connected

if TYPE_CHECKING:
    import numpy.typing as npt

DATA = Path(__file__).parent / "data" / "genai"
FOLDERS = ("fp32", "int4", "int4-last")
ANSWERS: dict[str, list[list[int]]] = json.loads((DATA / "answers.json").read_text("utf-8"))
PROMPTS = ANSWERS["prompts"]
SAMPLED: dict[str, Any] = {"temperature": 1.1, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.2}


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest) -> Path:
    """One of the folders; do not change it."""
    return DATA / str(request.param)


@pytest.fixture(scope="module")
def executor(folder: Path) -> OnnxExecutor:
    """Its executor, with four slots."""
    return load(folder, slots=4, threads=2)


def alone(executor: OnnxExecutor, prompt: list[int], **params: Any) -> list[int]:
    """Return what *prompt* gives when nothing else runs."""
    driver = Driver(executor)
    row = driver.add(0, prompt, **({"max_tokens": 24} | params))
    driver.finish()
    return row.tokens


def test_tokens_of_onnxruntime_genai(folder: Path, executor: OnnxExecutor) -> None:
    """Prompts alone give, token for token, what onnxruntime-genai's own generator gives, ends included."""
    assert ANSWERS[folder.name] == [alone(executor, prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("chunk", [10_000, 5])
def test_ragged_batch(folder: Path, executor: OnnxExecutor, chunk: int) -> None:
    """Prompts of different lengths that join and leave at different times get the tokens that each gets alone."""
    driver = Driver(executor, chunk=chunk)
    waiting = list(enumerate(PROMPTS))
    while waiting or not all(row.ended for row in driver.rows.values()):
        for _ in range(2):
            if waiting and executor.limits.free:
                index, prompt = waiting.pop(0)
                driver.add(index, prompt, max_tokens=24)
        driver.step()

    assert ANSWERS[folder.name] == [driver.rows[index].tokens for index in range(len(PROMPTS))]
    assert len(set(itertools.chain(*ANSWERS[folder.name]))) > 20, "the model repeats itself too much to prove anything"


def test_schedules_at_random(executor: OnnxExecutor) -> None:
    """Whatever the chunks, preemptions and neighbours, sampled tokens are those of the request alone."""
    expected = [
        alone(executor, prompt, seed=index, ignore_eos=True, **SAMPLED) for index, prompt in enumerate(PROMPTS[:4])
    ]
    driver, chance = Driver(executor), random.Random(2)
    for index, prompt in enumerate(PROMPTS[:4]):
        driver.add(index, prompt, max_tokens=24, seed=index, ignore_eos=True, **SAMPLED)
    while not all(row.ended for row in driver.rows.values()):
        for id, row in driver.rows.items():
            if row.paused and chance.random() < 0.5:
                driver.resume(id)
            elif not row.ended and not row.paused and chance.random() < 0.15:
                driver.pause(id, chance.choice(["keep", "swap", "drop"]))
        if any(not (row.ended or row.paused) for row in driver.rows.values()):
            driver.step(chunk=lambda: chance.randint(1, 9))

    assert expected == [driver.rows[index].tokens for index in range(4)]


def log_probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the logarithm of the softmax of the last axis."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def test_logits_of_transformers() -> None:
    """Single precision: each token's reported log probability is within 1e-4 of what transformers' logits say.

    A prompt's last position is asked for alone and, so that rows are padded, beside a prompt that is a little longer.
    """
    executor, errors = load(DATA / "fp32", slots=4, threads=2), []
    with np.load(DATA / "logits.npz") as stored:
        expected = {row: log_probabilities(stored[str(row)]) for row in range(len(PROMPTS))}
    for asked in ((0,), (1,), (2, 3)):
        driver = Driver(executor)
        for row in asked:
            driver.add(row, PROMPTS[row], max_tokens=1, logprobs=20)
        driver.finish()
        for row in asked:
            (report,) = driver.rows[row].logprobs
            errors += [abs(top["logprob"] - expected[row][-1, top["id"]]) for top in report["top"]]

    assert max(errors) <= 1e-4 * max(float(np.abs(values).max()) for values in expected.values())
    assert 80 == len(errors)


def test_prefix_is_shared(executor: OnnxExecutor) -> None:
    """A prompt that begins like an earlier one is computed from where they part, with the same tokens."""
    beginning = [token for prompt in PROMPTS for token in prompt][:64]
    expected = alone(executor, [*beginning, 7, 8, 9])
    driver = Driver(executor)
    driver.add(0, [*beginning, 5], max_tokens=1)
    driver.finish()
    row = driver.add(1, [*beginning, 7, 8, 9], max_tokens=24)
    driver.finish()

    assert row.cached >= 64
    assert expected == row.tokens


def windowed(folder: Path, target: Path, cache: int) -> Path:
    """Return a copy of *folder* whose layers see eight tokens, and which may (1) or may not (0) keep only as many."""
    shutil.copytree(folder, target)
    model = ModelProto.FromString((target / GRAPH).read_bytes())
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            kept = [item for item in node.attribute if item.name != "local_window_size"]
            del node.attribute[:]
            values = {"local_window_size": 8, "sliding_window_cache": cache}
            node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])
    (target / GRAPH).write_bytes(model.SerializeToString())
    return target


def test_windows(tmp_path: Path) -> None:
    """A graph that may keep only a window of each row is given whole rows, and gives the tokens of one that may not."""
    whole, short = (windowed(DATA / "fp32", tmp_path / f"{cache}", cache) for cache in (0, 1))
    expected = [alone(load(whole, slots=2), prompt, ignore_eos=True) for prompt in PROMPTS]
    for chunk in (10_000, 6):
        driver = Driver(load(short, slots=5), chunk=chunk)
        for index, prompt in enumerate(PROMPTS):
            driver.add(index, prompt, max_tokens=24, ignore_eos=True)
        driver.finish()

        assert expected == [driver.rows[index].tokens for index in range(len(PROMPTS))]
    assert expected != [alone(load(DATA / "fp32", slots=2), prompt, ignore_eos=True) for prompt in PROMPTS]


def test_guesses() -> None:
    """Guessed tokens are checked in one run, because the graph gives logits for every position; none is lost."""
    executor = load(DATA / "fp32", slots=2, speculate=4)
    driver = Driver(executor, burst=5)
    row = driver.add(0, PROMPTS[1], max_tokens=24)
    driver.finish()

    assert ANSWERS["fp32"][1] == row.tokens
    assert executor.describe()["steps"]["right"] > 0


def test_guesses_need_logits() -> None:
    """A graph that gives logits for the last position only cannot check guesses, and says so."""
    with pytest.raises(ModelUnavailable, match="speculate is 4, expected 0"):
        load(DATA / "int4-last", speculate=4)


def test_description(folder: Path, executor: OnnxExecutor) -> None:
    """The executor says whose graph it is, what it holds, and that a row's tokens do not depend on its neighbours."""
    facts = executor.describe()
    said = {name: facts[name] for name in ("layout", "architecture", "weights", "kv", "provider", "batch_invariant")}

    assert said == {
        "layout": "genai",
        "architecture": "llama",
        "weights": "fp32" if folder.name == "fp32" else "q4",
        "kv": "float32",
        "provider": "CPUExecutionProvider",
        "batch_invariant": True,
    }
    assert facts["exporter"].startswith("onnxruntime-genai")


def test_memory_of_a_long_prompt() -> None:
    """What is measured before loading grows with the step's tokens, because the graph gives logits for all of them."""

    def measured(step_tokens: int) -> int:
        options = {"slots": 4, "step_tokens": step_tokens}
        return (
            OnnxBackend({})
            .measure(ModelSpec(name="m", backend="onnx", path=str(DATA / "fp32"), options=options))
            .nbytes
        )

    assert 100 * 320 * 4 == measured(200) - measured(100)


def test_by_path_through_a_client() -> None:
    """A client loads the folder by its path: text, its chat template, its tokenizer, and its end tokens."""
    with connected() as client:
        model = client.load_model(DATA / "int4", timeout=60)
        tokens = model.tokenize("the quick brown fox")
        answer = model.chat("hello", max_tokens=5)

        assert "the quick brown fox" == model.detokenize(tokens)
        assert 5 >= answer.usage.generated > 0


def test_search_options(tmp_path: Path) -> None:
    """``do_sample`` brings the folder's own temperature and nucleus; without it the most likely token is taken."""
    whole = shutil.copytree(DATA / "int4", tmp_path / "sampling")
    config = json.loads((whole / "genai_config.json").read_text("utf-8"))
    config["search"] |= {"do_sample": True, "temperature": 1.5, "top_k": 7}
    (whole / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")

    assert Generation() == read_genai(DATA / "int4").generation
    assert Generation(temperature=1.5, top_k=7, top_p=1.0, repetition_penalty=1.0) == read_genai(whole).generation
