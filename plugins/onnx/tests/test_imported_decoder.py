"""Decoders that others exported run under the same executor: the tokens of an independent numpy model, each alone."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, NotNow, Preemption
from llmos_kernel.errors import InvalidArgument, KernelBug, ModelUnavailable
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.executor import OnnxExecutor
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.imported_writer import CONTEXT, EOS, VOCAB, Change, NumpyModel, write_imported
from plugins.onnx.tests.served import connected

SAMPLED: dict[str, Any] = {
    "temperature": 1.1,
    "top_k": 40,
    "top_p": 0.95,
    "repetition_penalty": 1.2,
    "frequency_penalty": 0.3,
}
TOKENS = 32
both = pytest.mark.parametrize("seq2seq", [False, True], ids=["decoder", "seq2seq"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A folder of each layout, by whether it is seq2seq; they are shared: do not change them."""
    root = tmp_path_factory.mktemp("imported-decoders")
    return {kind: write_imported(root / f"small-{kind}", seq2seq=kind) for kind in (False, True)}


@pytest.fixture(scope="module", params=[False, True], ids=["decoder", "seq2seq"])
def executor(request: pytest.FixtureRequest, folders: dict[bool, Path]) -> OnnxExecutor:
    """An executor of four slots."""
    return load(folders[request.param], slots=4, threads=1)


def prompts(count: int, *, low: int = 2, high: int = 30) -> list[list[int]]:
    """Return prompts of different lengths; always the same ones."""
    chance = random.Random(7)
    return [[chance.randrange(4, VOCAB) for _ in range(chance.randint(low, high))] for _ in range(count)]


def alone(executor: OnnxExecutor, prompt: list[int], **params: Any) -> list[int]:
    """Return what *prompt* gives when nothing else runs."""
    driver = Driver(executor)
    row = driver.add(0, prompt, **({"max_tokens": TOKENS, "ignore_eos": True} | params))
    driver.finish()
    return row.tokens


@both
def test_tokens_are_the_models(folders: dict[bool, Path], seq2seq: bool) -> None:
    """Greedy tokens, and the probabilities of the first of them, are those of the same weights in numpy."""
    executor, model = load(folders[seq2seq], slots=8, threads=1), NumpyModel()
    asked = prompts(8)
    driver = Driver(executor)
    rows = [driver.add(id, prompt, max_tokens=40, ignore_eos=True, logprobs=5) for id, prompt in enumerate(asked)]
    driver.finish()
    logits = [model.logits(prompt, [], seq2seq=seq2seq).astype(np.float64) for prompt in asked]
    expected = [values.max() - np.logaddexp.reduce(values) for values in logits]

    assert [model.greedy(prompt, 40, seq2seq=seq2seq) for prompt in asked] == [row.tokens for row in rows]
    assert expected == pytest.approx([row.logprobs[0]["logprob"] for row in rows], abs=1e-4)
    assert len(set(itertools.chain(*(row.tokens for row in rows)))) > 15, "the model repeats itself too much"


@pytest.mark.parametrize("params", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_company(executor: OnnxExecutor, params: dict[str, Any]) -> None:
    """Requests that join and leave at different times get the tokens that each gets alone."""
    asked = prompts(8)
    expected = [alone(executor, prompt, seed=index, **params) for index, prompt in enumerate(asked)]
    driver, waiting = Driver(executor, chunk=7), list(enumerate(asked))
    while waiting or not all(row.ended for row in driver.rows.values()):
        if waiting and executor.limits.free:
            index, prompt = waiting.pop(0)
            driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True, seed=index, **params)
        driver.step()

    assert expected == [driver.rows[index].tokens for index in range(len(asked))]
    assert len(set(itertools.chain(*expected))) > 20, "the model repeats itself too much to prove anything"


@pytest.mark.parametrize("how", ["keep", "swap", "drop"])
def test_preemption(executor: OnnxExecutor, how: Preemption) -> None:
    """Requests that are preempted again and again, in the prompt and after it, get the tokens that each gets alone."""
    asked = prompts(4)
    expected = [alone(executor, prompt, seed=index, **SAMPLED) for index, prompt in enumerate(asked)]
    driver = Driver(executor, chunk=5)
    for index, prompt in enumerate(asked):
        driver.add(index, prompt, max_tokens=TOKENS, ignore_eos=True, seed=index, **SAMPLED)
    driver.finish_preempting(how, random.Random(3))

    assert expected == [driver.rows[index].tokens for index in range(len(asked))]


def test_a_prompt_is_one_run(executor: OnnxExecutor) -> None:
    """However a prompt is cut by the scheduler, it is computed in one piece, with the last of them."""
    before = executor.describe()["steps"]["prefilled"]
    driver = Driver(executor, chunk=3)
    row = driver.add(0, prompts(1, low=10, high=10)[0], max_tokens=1, ignore_eos=True)
    while not row.ended:
        assert before == executor.describe()["steps"]["prefilled"]
        driver.step()

    assert [] != row.tokens
    assert before < executor.describe()["steps"]["prefilled"]


def test_interrupted_step_is_repeated(executor: OnnxExecutor) -> None:
    """A step that was cut short gives no tokens, and its rows are computed when they are planned again."""
    prompt = prompts(1)[0]
    expected = alone(executor, prompt)
    driver = Driver(executor)
    row = driver.add(0, prompt, max_tokens=TOKENS, ignore_eos=True)
    for _ in range(2):
        executor.interrupt()
        driver.step()

    assert [] == row.tokens

    driver.finish()

    assert expected == row.tokens


def test_places(executor: OnnxExecutor) -> None:
    """Without a free slot admission answers NotNow; a task that is released makes room."""
    driver = Driver(executor)
    for id in range(4):
        driver.add(id, [5, 6, 7])
    executor.prepare(4, Task("generate", None, [5, 6]), "local")

    assert NotNow() == executor.admit(4)

    driver.leave(1)

    assert NotNow() != executor.admit(4)
    executor.release(range(5))
    assert 4 == executor.limits.free


def test_form_of_the_output(executor: OnnxExecutor) -> None:
    """Structured output, stop strings and end tokens are those of any decoder."""
    driver = Driver(executor)
    formed = driver.add(0, [9, 8, 7], regex="[a-f]{6}", max_tokens=20)
    ended = driver.add(1, [9, 8, 7], logit_bias={EOS: 100.0}, max_tokens=20)
    driver.finish()

    assert ("stop", 6) == (formed.finish, len(formed.text))
    assert set("abcdef") >= set(formed.text)
    assert ("stop", [EOS]) == (ended.finish, ended.tokens)


@pytest.mark.parametrize(
    ("value", "params", "field"),
    [
        ([5] * CONTEXT, {}, "input"),
        ("a" * 5000, {}, "input"),
        ([], {}, "input"),
        ("", {}, "input"),
        ([VOCAB], {}, "input"),
        ([-1], {}, "input"),
        ([5], {"max_tokens": CONTEXT}, "params.max_tokens"),
    ],
)
def test_bad_input(executor: OnnxExecutor, value: Any, params: dict[str, Any], field: str) -> None:
    """A prompt that does not fit, is empty or is no prompt is one typed error, and takes no place."""
    with pytest.raises(InvalidArgument) as caught:
        executor.prepare(0, Task("generate", None, value, params=params), "local")

    assert field == caught.value.fields["field"]
    assert 4 == executor.limits.free


def test_whole_context(executor: OnnxExecutor) -> None:
    """The longest prompt that fits leaves room for one token, and the longest output ends at the context."""
    prefix = executor._parts.prompts._prefix
    longest = alone(executor, [5] * (CONTEXT - 1 - len(prefix)), max_tokens=1)
    output = alone(executor, [5], max_tokens=CONTEXT - 1 - len(prefix))

    assert (1, CONTEXT - 1 - len(prefix)) == (len(longest), len(output))


def test_conversation_keeps_its_cache(folders: dict[bool, Path]) -> None:
    """In a context a decoder begins with what the last prompt left; other tasks never see it."""
    executor = load(folders[False], slots=2, threads=1)
    prompt = prompts(1, low=40, high=40)[0]
    expected = [alone(executor, prompt), alone(executor, [*prompt, 9, 8])]
    executor.open_context(100, CONTEXT)
    driver = Driver(executor)
    rows = []
    for id, (value, context) in enumerate(((prompt, 100), (prompt, None), ([*prompt, 9, 8], 100))):
        rows.append(driver.add(id, value, context=context, max_tokens=TOKENS, ignore_eos=True))
        driver.finish()

    assert [0, 0, 40] == [row.cached for row in rows]
    assert [expected[0], expected[0], expected[1]] == [row.tokens for row in rows]


def test_encoder_keeps_no_context(folders: dict[bool, Path]) -> None:
    """What an encoder makes of a prompt's beginning depends on its end, so there is nothing to keep, and it says so."""
    executor = load(folders[True], threads=1)
    with pytest.raises(InvalidArgument, match="keeps no contexts"):
        executor.open_context(100, 50)

    assert "contexts" not in executor.describe()


@both
def test_through_a_client(folders: dict[bool, Path], seq2seq: bool) -> None:
    """A client generates, streams and tokenizes with such a folder as with any other."""
    with connected() as client:
        model = client.load_model(folders[seq2seq], timeout=60)
        text = model.generate_text("The sun sees the moon", max_tokens=12, temperature=0, min_tokens=12)
        pieces = list(model.stream("The sun sees the moon", max_tokens=12, temperature=0, min_tokens=12))
        ids = model.tokenize("The sun sees the moon")
        expected = model.detokenize(NumpyModel().greedy(ids, 12, seq2seq=seq2seq))

    assert expected == text == "".join(pieces)


def measured(path: Path, **options: Any) -> int:
    """Return the bytes that the folder is said to take."""
    spec = ModelSpec(name="small", backend="onnx", path=str(path), options=options)
    return OnnxBackend({}).measure(spec).nbytes


@both
def test_footprint(folders: dict[bool, Path], seq2seq: bool) -> None:
    """What a folder takes grows with its slots, and covers files and cache."""
    files = sum(path.stat().st_size for path in folders[seq2seq].iterdir() if path.name != "llmos.json")

    assert files < measured(folders[seq2seq], slots=1) < measured(folders[seq2seq], slots=8)


def test_chat(tmp_path: Path) -> None:
    """A folder with a chat template answers messages: the rendered prompt's tokens, and then the model's."""
    template = "{% for message in messages %}{{ message.content }}|{% endfor %}"
    folder = write_imported(
        tmp_path / "small", chat_template=template, kinds=["chat", "generate", "tokenize", "detokenize"]
    )
    executor = load(folder, threads=1)
    driver = Driver(executor)
    said = driver.add(0, [{"role": "user", "content": "moon"}], kind="chat", max_tokens=8)
    written = driver.add(1, "moon|", max_tokens=8)
    driver.finish()

    assert written.tokens == said.tokens
    assert executor.describe()["chat"]


# --- folders that lie --------------------------------------------------------------------------------------------


def refused(folder: Path, **options: Any) -> str:
    """Load the folder, which must fail, and return the field that the error names."""
    with pytest.raises(ModelUnavailable) as caught:
        load(folder, threads=1, **options)
    return str(caught.value.fields["field"])


def renamed(graph: str, old: str, new: str) -> Change:
    """Give an input or output of *graph* another name."""

    def change(name: str, model: ModelProto) -> None:
        if name == graph:
            for value in (*model.graph.input, *model.graph.output):
                value.name = new if value.name == old else value.name
            for node in model.graph.node:
                node.input[:] = [new if value == old else value for value in node.input]
                node.output[:] = [new if value == old else value for value in node.output]

    return change


def declared(graph: str, port: str, at: int, size: int) -> Change:
    """Let *graph* declare another size of *port*."""

    def change(name: str, model: ModelProto) -> None:
        if name == graph:
            (value,) = (value for value in (*model.graph.input, *model.graph.output) if value.name == port)
            value.type.tensor_type.shape.dim[at].dim_value = size

    return change


def without(graph: str, port: str) -> Change:
    """Take an output away from *graph*."""

    def change(name: str, model: ModelProto) -> None:
        if name == graph:
            kept = [value for value in model.graph.output if value.name != port]
            del model.graph.output[:]
            model.graph.output.extend(kept)

    return change


def shorter(graph: str, port: str) -> Change:
    """Let *graph* return only the first position of *port*, whatever it declares."""

    def change(name: str, model: ModelProto) -> None:
        if name == graph:
            (node,) = (node for node in model.graph.node if port in node.output)
            node.op_type = "Gather"
            node.input.append("first")
            node.attribute.add(name="axis", type=2, i=2)
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "first"))

    return change


LIES: dict[str, tuple[bool, Change, str]] = {
    "no past": (False, renamed("model.onnx", "past_key_values.1.key", "past.1.key"), "model.onnx: inputs"),
    "no present": (False, without("model.onnx", "present.0.value"), "model.onnx: outputs"),
    "heads": (False, declared("model.onnx", "present.0.key", 1, 3), "model.onnx: outputs: present.0.key: shape"),
    "vocabulary": (False, declared("model.onnx", "logits", 2, 7), "model.onnx: outputs: logits: shape"),
    "no logits": (True, without("decoder.onnx", "logits"), "decoder.onnx: outputs"),
    "width": (
        True,
        declared("encoder.onnx", "last_hidden_state", 2, 8),
        "encoder.onnx: outputs: last_hidden_state: shape",
    ),
    "unknown input": (
        True,
        renamed("decoder_with_past.onnx", "encoder_attention_mask", "mask"),
        "decoder_with_past.onnx: inputs",
    ),
    "no cross": (True, without("decoder.onnx", "present.1.encoder.key"), "decoder.onnx: outputs"),
    "short cache": (False, shorter("model.onnx", "present.1.key"), "model.onnx: present.1.key"),
    "short cross": (True, shorter("decoder.onnx", "present.0.encoder.value"), "decoder.onnx: present.0.encoder.value"),
    "short own": (
        True,
        shorter("decoder_with_past.onnx", "present.0.decoder.key"),
        "decoder_with_past.onnx: present.0.decoder.key",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_graphs_that_lie(tmp_path: Path, lie: str) -> None:
    """A graph without the contract's inputs and outputs, or whose shapes are not what it says, is refused at load."""
    seq2seq, change, field = LIES[lie]

    assert field == refused(write_imported(tmp_path / "small", seq2seq=seq2seq, change=change))


CACHE = {"layers": 2, "kv_heads": 2, "head_dim": 8, "prefix": [], "width": 0}


@pytest.mark.parametrize(
    ("seq2seq", "values", "field"),
    [
        (False, {"cache": None}, "llmos.json: cache"),
        (False, {"cache": {**CACHE, "layers": 0}}, "llmos.json: cache: layers"),
        (False, {"cache": {**CACHE, "layers": 3}}, "model.onnx: inputs"),
        (False, {"cache": {**CACHE, "layers": 1}}, "model.onnx: inputs"),
        (False, {"cache": {**CACHE, "prefix": [1]}}, "llmos.json: cache: prefix"),
        (False, {"cache": {**CACHE, "kv_heads": 2**40}}, "llmos.json: cache: kv_heads"),
        (False, {"encoder": {"width": 3}}, "llmos.json: encoder"),
        (True, {"cache": {**CACHE, "width": 16}}, "llmos.json: cache: prefix"),
        (True, {"cache": {**CACHE, "prefix": [VOCAB], "width": 16}}, "llmos.json: cache: prefix"),
        (True, {"cache": {**CACHE, "prefix": [1] * 17, "width": 16}}, "llmos.json: cache: prefix"),
        (True, {"cache": {**CACHE, "prefix": [1], "width": 0}}, "llmos.json: cache: width"),
        (True, {"context": 3}, "context"),
        (False, {"vocab": VOCAB + 1}, "model.onnx: outputs: logits: shape"),
    ],
)
def test_manifests_that_lie(tmp_path: Path, seq2seq: bool, values: dict[str, Any], field: str) -> None:
    """A manifest whose numbers are impossible, or are not the graphs', is refused by its field."""
    assert field == refused(write_imported(tmp_path / "small", seq2seq=seq2seq, **values))


def test_missing_graph(tmp_path: Path) -> None:
    """A folder without one of its graphs is refused by the file's name."""
    folder = write_imported(tmp_path / "small", seq2seq=True)
    (folder / "decoder_with_past.onnx").unlink()

    assert "decoder_with_past.onnx" == refused(folder)


@both
@pytest.mark.parametrize(("name", "value"), [("speculate", 4), ("provider", "cuda")])
def test_options_that_mean_nothing(folders: dict[bool, Path], seq2seq: bool, name: str, value: object) -> None:
    """Guessing tokens and running elsewhere are refused, not passed over."""
    assert f"options: {name}" == refused(folders[seq2seq], **{name: value})


@both
def test_options(folders: dict[bool, Path], seq2seq: bool) -> None:
    """Tokens of a step, flags of the runtime and places are as asked, and the tokens stay the same."""
    asked = {"step_tokens": 8, "slots": 2, "context": 64, "prepacking": False, "spinning": False}
    executor = load(folders[seq2seq], threads=1, **asked)
    described, limits, prompt = executor.describe(), executor.limits, prompts(1)[0]
    expected = alone(load(folders[seq2seq], threads=1), prompt)

    assert (8, 64, 2) == (limits.tokens, limits.context, limits.rows)
    assert (False, False, 0) == (described["prepacking"], described["spinning"], described["steps"]["runs"])
    assert expected == alone(executor, prompt)


def test_context_beyond_the_models(folders: dict[bool, Path]) -> None:
    """More context than the model has is refused with its limit."""
    assert "options: context" == refused(folders[False], context=CONTEXT + 1)


@pytest.mark.parametrize("prompt", [CONTEXT - 4, CONTEXT + 50], ids=["while it writes", "at once"])
def test_context_that_the_graph_has_not(tmp_path: Path, prompt: int) -> None:
    """Where the manifest promises more positions than the graph has, the task that needs them fails, and only that."""
    executor = load(write_imported(tmp_path / "small", context=4 * CONTEXT), slots=2, threads=1)
    driver = Driver(executor)
    far = driver.add(0, [5] * prompt, max_tokens=20, ignore_eos=True)
    near = driver.add(1, [5, 6], max_tokens=20, ignore_eos=True)
    driver.finish()

    assert isinstance(far.error, ModelUnavailable)
    assert far.error.fields["field"] == "model.onnx"
    assert (None, NumpyModel().greedy([5, 6], 20)) == (near.error, near.tokens)


def test_impossible_runs_never_reach_the_runtime(executor: OnnxExecutor) -> None:
    """Empty batches, empty sources and lengths beyond the pool are told apart before a graph is run."""
    runner, context = executor._runner, executor.limits.context or 0
    for first, rows, tokens in ((0, 0, 1), (0, 1, 0), (3, 2, 1), (-1, 1, 1)):
        with pytest.raises(KernelBug, match="impossible batch"):
            runner.batch(first, rows, tokens)
    runs = runner.counts.runs
    for length, prompt in ((0, 3), (context, 3), (-2, 3)):
        batch = runner.batch(0, 1, 3)
        batch.lengths[0], batch.prompts[0] = length, prompt
        with pytest.raises(KernelBug, match="do not fit"):
            runner.run(batch)
    if runner.prefix:
        batch = runner.batch(0, 1, len(runner.prefix))
        batch.lengths[0], batch.prompts[0] = len(runner.prefix) - 1, len(runner.prefix)
        with pytest.raises(KernelBug, match="cut"):
            runner.run(batch)

    assert runs == runner.counts.runs


@both
def test_a_row_that_fails_fails_alone(tmp_path: Path, seq2seq: bool) -> None:
    """A token that the graph has no entry for ends its own task with a typed error, and its neighbours go on."""

    def change(name: str, model: ModelProto) -> None:
        """Let ids from 256 on be looked up where there is nothing."""
        if name not in ("model.onnx", "encoder.onnx"):
            return
        (gather,) = (node for node in model.graph.node if node.op_type == "Gather" and "input_ids" in node.input)
        gather.input[1] = "ids"
        nodes = [
            helper.make_node("Div", ["input_ids", "limit"], ["far"]),
            helper.make_node("Mul", ["far", "much"], ["farther"]),
            helper.make_node("Add", ["input_ids", "farther"], ["ids"]),
            *model.graph.node,
        ]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        values = {"limit": 256, "much": 100_000}
        model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in values.items())

    executor = load(write_imported(tmp_path / "small", seq2seq=seq2seq, change=change), slots=3, threads=1)
    driver = Driver(executor)
    for id, prompt in enumerate(([5, 6], [400, 6], [7])):
        driver.add(id, prompt, max_tokens=8, logit_bias={5: 100.0, 6: -100.0}, ignore_eos=True)
    driver.finish()
    rows = list(driver.rows.values())

    assert [[5] * 8, [], [5] * 8] == [row.tokens for row in rows]
    assert [None, ModelUnavailable, None] == [row.error and type(row.error) for row in rows]
