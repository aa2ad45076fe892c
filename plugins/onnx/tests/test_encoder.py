"""Encoders: vectors and labels equal an independent numpy model's, alone and in company."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from tokenizers import Tokenizer

from llmos_kernel.api import Task
from llmos_kernel.contracts import Admitted, ModelSpec, NotNow, Plan, Result
from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.encoder import EncoderExecutor
from llmos_onnx.export import export_folder
from llmos_onnx.imported_folder import read_imported
from llmos_onnx.options import ExportOptions
from plugins.onnx.tests.encoder_writer import EncoderRecipe, tensors, tokenizer, write_encoder_checkpoint
from plugins.onnx.tests.numpy_encoder import NumpyEncoder
from plugins.onnx.tests.served import connected

if TYPE_CHECKING:
    import numpy.typing as npt

TEXTS = (
    "the cat sat on the mat .",
    "a very big dog ran under a small green tree and the red sun !",
    "moon",
    "rain , rain , rain and not the sun",
    "cats jumped",
)
RECIPES = {
    "mean": EncoderRecipe(pooling="mean_tokens", normalize=True),
    "plain": EncoderRecipe(),
    "cls": EncoderRecipe(pooling="cls_token", heads=2),
    "last": EncoderRecipe(pooling="lasttoken", layers=1),
    "max": EncoderRecipe(arch="roberta", types=1, pooling="max_tokens", config={"pad_token_id": 1}),
    "labels": EncoderRecipe(labels=("bad", "good", "neither")),
    "several": EncoderRecipe(
        arch="xlm-roberta", types=1, labels=("bad", "good"), config={"problem_type": "multi_label_classification"}
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the model folder of a recipe; it is shared: do not change it."""
    root = tmp_path_factory.mktemp("encoders")

    @cache
    def made(name: str, weights: str = "fp32") -> Path:
        source = root / f"{name}-source"
        if not source.exists():
            write_encoder_checkpoint(source, RECIPES[name])
        export_folder(source, root / f"{name}-{weights}", ExportOptions(weights=weights))
        return root / f"{name}-{weights}"

    return made


def load(path: Path, **options: Any) -> EncoderExecutor:
    """Return the executor of the folder at *path*."""
    executor = OnnxBackend({"threads": 1}).load(
        ModelSpec(name=path.name, backend="onnx", path=str(path), options=options)
    )
    assert isinstance(executor, EncoderExecutor)
    return executor


def run(executor: EncoderExecutor, values: Any, kind: str = "embed", **params: Any) -> list[Result]:
    """Run one task per value in one step."""
    rows = []
    for id, value in enumerate(values):
        prepared = executor.prepare(id, Task(kind, None, value, params=params))
        assert isinstance(executor.admit(id), Admitted)
        rows.append((id, prepared.prompt_tokens))
    results = list(executor.step(Plan(prefill=tuple(rows))))
    executor.release(range(len(rows)))
    return results


def encoded(text: str, pair: str | None = None) -> tuple[list[int], list[int]]:
    """Return ids and types as the tokenizers library gives them when nothing is padded or cut."""
    plain = Tokenizer.from_str(tokenizer())
    plain.no_padding()
    plain.no_truncation()
    encoding = plain.encode(text, pair)
    return encoding.ids, encoding.type_ids


def reference(name: str) -> NumpyEncoder:
    """Return the numpy model of a recipe."""
    recipe = RECIPES[name]
    prefix = "" if not recipe.labels else "bert." if recipe.arch == "bert" else "roberta."
    first = 0 if recipe.arch == "bert" else recipe.config.get("pad_token_id", 0) + 1
    return NumpyEncoder(tensors(recipe), heads=recipe.heads, first_position=first, prefix=prefix)


def vector(name: str, text: str) -> npt.NDArray[np.float64]:
    """Return the vector of *text* by the formula of sentence-transformers."""
    recipe, (ids, types) = RECIPES[name], encoded(text)
    hidden = reference(name).hidden(ids, types)
    pooled = {"": hidden.mean(0), "mean_tokens": hidden.mean(0), "cls_token": hidden[0], "lasttoken": hidden[-1]}
    found = pooled.get(recipe.pooling, hidden.max(0))
    return np.asarray(found / np.linalg.norm(found) if recipe.normalize else found)


@pytest.mark.parametrize("name", ["mean", "plain", "cls", "last", "max"])
def test_vectors(folder: Callable[..., Path], name: str) -> None:
    """Each text's vector is the formula's to 1e-5, whatever stands beside it in the step."""
    together = run(load(folder(name)), TEXTS)

    for text, result in zip(TEXTS, together, strict=True):
        assert "stop" == result.finish
        assert np.abs(vector(name, text) - result.value).max() <= 1e-5
    if RECIPES[name].normalize:
        assert 1.0 == pytest.approx(np.linalg.norm(together[0].value), abs=1e-6)


def test_alone_and_together(folder: Callable[..., Path]) -> None:
    """What else is in the step changes a vector by rounding at most."""
    executor = load(folder("mean"))
    together = run(executor, TEXTS)

    for text, result in zip(TEXTS, together, strict=True):
        (alone,) = run(executor, [text])
        assert np.abs(np.subtract(alone.value, result.value)).max() <= 1e-6


@pytest.mark.parametrize(("name", "head"), [("labels", "bert.pooler.dense classifier"), ("several", "")])
def test_labels(folder: Callable[..., Path], name: str, head: str) -> None:
    """Probabilities are those of the head over the first position, the likeliest first, under the labels' names."""
    executor, recipe = load(folder(name)), RECIPES[name]
    names = head.split() or ["classifier.dense", "classifier.out_proj"]

    for text, result in zip(TEXTS, run(executor, TEXTS, "classify"), strict=True):
        logits = reference(name).logits(*encoded(text), *names)
        expected = np.exp(logits) / np.exp(logits).sum() if name == "labels" else 1 / (1 + np.exp(-logits))
        scores = list(result.value.values())
        assert sorted(scores, reverse=True) == scores
        assert np.abs(expected - [result.value[label] for label in recipe.labels]).max() <= 1e-5


def test_pairs(folder: Callable[..., Path]) -> None:
    """Two texts are read as one input, the second with types of its own."""
    (result,) = run(load(folder("labels")), [("the cat sat", "the dog ran")], "classify")
    logits = reference("labels").logits(*encoded("the cat sat", "the dog ran"), "bert.pooler.dense", "classifier")

    expected = np.exp(logits) / np.exp(logits).sum()
    assert np.abs(expected - [result.value[label] for label in RECIPES["labels"].labels]).max() <= 1e-5


@pytest.mark.parametrize(("weights", "least"), [("w8a8", 0.99), ("q8", 0.995)])
def test_formats(folder: Callable[..., Path], weights: str, least: float) -> None:
    """Weights of 8 bits give nearly the vectors of single precision."""
    for text, result in zip(TEXTS, run(load(folder("mean", weights)), TEXTS), strict=True):
        assert least <= float(np.dot(vector("mean", text), result.value))


def test_a_prompt_planned_in_pieces(folder: Callable[..., Path]) -> None:
    """A text is computed with the last piece that is planned of it, and in no step before."""
    executor = load(folder("mean"))
    prepared = executor.prepare(1, Task("embed", None, TEXTS[0]))
    executor.admit(1)

    (first,) = executor.step(Plan(prefill=((1, 2),)))
    (second,) = executor.step(Plan(prefill=((1, prepared.prompt_tokens - 2),)))
    executor.release([1])

    assert (None, None) == (first.finish, first.value)
    assert np.abs(vector("mean", TEXTS[0]) - second.value).max() <= 1e-5


def test_an_interrupted_step_is_repeated(folder: Callable[..., Path]) -> None:
    """A step that is cut short gives nothing; planned again, its texts are computed."""
    executor = load(folder("mean"))
    tokens = executor.prepare(1, Task("embed", None, TEXTS[0])).prompt_tokens
    executor.admit(1)
    executor.interrupt()

    (cut,) = executor.step(Plan(prefill=((1, tokens),)))
    (again,) = executor.step(Plan(decode=((1, 1),)))

    assert cut.finish is None
    assert "stop" == again.finish


def test_places(folder: Callable[..., Path]) -> None:
    """No more texts are admitted than a step has rows; those that end make room."""
    executor = load(folder("mean"), slots=2)
    for id in range(3):
        executor.prepare(id, Task("embed", None, "moon"))

    assert [Admitted(), Admitted(), NotNow()] == [executor.admit(id) for id in range(3)]
    assert 0 == executor.limits.free
    executor.release([0])
    assert Admitted() == executor.admit(2)


WRONG: list[tuple[str, Any, dict[str, Any], str]] = [
    ("embed", "", {}, "input"),
    ("embed", None, {}, "input"),
    ("embed", ["one"], {}, "input"),
    ("embed", ["one", 2], {}, "input"),
    ("embed", "\ud800", {}, "input"),
    ("embed", "moon " * 100, {}, "input"),
    ("embed", "moon", {"truncate": 1}, "params.truncate"),
    ("embed", "moon", {"temperature": 1.0}, "params.temperature"),
    ("classify", "moon", {}, "kind"),
    ("generate", "moon", {}, "kind"),
    ("tokenize", 5, {}, "input"),
    ("detokenize", [999], {}, "input"),
    ("detokenize", "moon", {}, "input"),
]


@pytest.mark.parametrize(("kind", "value", "params", "field"), WRONG, ids=range(len(WRONG)))
def test_wrong_tasks(folder: Callable[..., Path], kind: str, value: object, params: dict[str, Any], field: str) -> None:
    """What cannot be done is refused by the field's name, with what would be right."""
    with pytest.raises(InvalidArgument) as caught:
        load(folder("mean")).prepare(1, Task(kind, None, value, params=params))

    assert str(caught.value.fields["field"]).startswith(field)
    assert caught.value.fields["expected"]


def test_truncation_is_asked_for(folder: Callable[..., Path]) -> None:
    """A text beyond the context is refused with its length; with truncate its beginning is used, and its frame kept."""
    executor = load(folder("plain"), context=8)
    with pytest.raises(InvalidArgument, match="102 tokens long, expected at most 8"):
        executor.prepare(1, Task("embed", None, "moon " * 100))

    (cut,) = run(executor, ["moon " * 100], truncate=True)
    (whole,) = run(executor, ["moon " * 6])

    assert whole.value == cut.value


def test_control_words_of_a_text_are_words(folder: Callable[..., Path]) -> None:
    """A text that contains a special token's name does not end the model's input, and unknown words are no error."""
    executor = load(folder("mean"))
    ids = executor.prepare(1, Task("tokenize", None, "the [SEP] cat")).answer
    unknown = executor.prepare(2, Task("tokenize", None, "the 猫 cat")).answer

    assert ids is not None
    assert unknown is not None
    assert 3 not in ids.value
    assert 1 in unknown.value


def test_through_the_client(folder: Callable[..., Path]) -> None:
    """`embed` and `classify` of a client's model, one text or many."""
    with connected() as client:
        model, judge = client.load_model(folder("mean")), client.load_model(folder("labels"))
        one, many = model.embed(TEXTS[0]), model.embed(list(TEXTS) * 20)
        scores = judge.classify(TEXTS[0])
        pair = judge.classify([("the cat sat", "the dog ran"), TEXTS[0]])
        with pytest.raises(InvalidArgument, match="truncate=True"):
            model.embed("moon " * 100)
        tokens = model.tokenize("the cat")
        again = model.detokenize(tokens)

    assert np.abs(vector("mean", TEXTS[0]) - one).max() <= 1e-5
    assert 100 == len(many)
    assert np.abs(np.subtract(many[:5], many[-5:])).max() <= 1e-6
    assert {"bad", "good", "neither"} == set(scores)
    assert scores == pytest.approx(pair[1], abs=1e-6)
    assert "the cat" == again


def test_the_manifest_says_what_the_model_is(folder: Callable[..., Path]) -> None:
    """Kinds, labels and pooling stand in the manifest, which is read without the graph."""
    judge, embedder = read_imported(folder("labels")), read_imported(folder("mean"))

    assert ("classify", "tokenize", "detokenize") == judge.kinds
    assert ("embed", "tokenize", "detokenize") == embedder.kinds
    assert judge.encoder is not None
    assert embedder.encoder is not None
    assert ("bad", "good", "neither") == judge.encoder.labels
    assert ("mean", True) == (embedder.encoder.pooling, embedder.encoder.normalize)


BROKEN: list[tuple[EncoderRecipe, str]] = [
    (EncoderRecipe(config={"hidden_act": "swish"}), "hidden_act"),
    (EncoderRecipe(config={"position_embedding_type": "relative_key"}), "position_embedding_type"),
    (EncoderRecipe(config={"is_decoder": True}), "is_decoder"),
    (EncoderRecipe(config={"auto_map": {"AutoModel": "modeling.Custom"}}), "auto_map"),
    (EncoderRecipe(config={"num_attention_heads": 5}), "num_attention_heads"),
    (EncoderRecipe(config={"intermediate_size": 65}), "intermediate.dense.weight"),
    (EncoderRecipe(config={"num_hidden_layers": 3}), "encoder.layer.2."),
    (EncoderRecipe(config={"vocab_size": 10**9}), "vocab_size"),
    (EncoderRecipe(labels=("a", "b"), config={"id2label": {"0": "a", "2": "b"}}), "id2label"),
    (EncoderRecipe(labels=("a", "b"), config={"id2label": {"0": "a", "1": "a"}}), "id2label"),
    (EncoderRecipe(pooling="mean_sqrt_len_tokens"), "1_Pooling/config.json"),
]


@pytest.mark.parametrize(("recipe", "named"), BROKEN, ids=range(len(BROKEN)))
def test_a_checkpoint_that_is_not_understood_is_named(tmp_path: Path, recipe: EncoderRecipe, named: str) -> None:
    """What the exporter would get wrong is refused by its key, and nothing is left behind."""
    plain = attrs.evolve(recipe, config={})
    source = write_encoder_checkpoint(tmp_path / "source", plain)
    if recipe.config:
        (source / "config.json").unlink()
        write_encoder_checkpoint(tmp_path / "other", recipe)
        (tmp_path / "other" / "config.json").rename(source / "config.json")

    with pytest.raises(ModelUnavailable) as caught:
        export_folder(source, tmp_path / "target", ExportOptions())

    assert named in str(caught.value)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("options", "field"), [({"weights": "fp8"}, "weights"), ({"context": 41}, "context"), ({"kv": "int8"}, "kv")]
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    """Unknown formats, and contexts beyond the position table."""
    source = write_encoder_checkpoint(tmp_path / "source", EncoderRecipe())

    with pytest.raises(KernelError) as caught:
        export_folder(source, tmp_path / "target", ExportOptions.read(options))

    assert field == caught.value.fields["field"]


def test_options_of_the_runtime(folder: Callable[..., Path]) -> None:
    """Flags of the runtime are as asked, and a provider that encoders do not run on is refused."""
    with pytest.raises(ModelUnavailable) as caught:
        load(folder("plain"), provider="cuda")

    assert "options: provider" == caught.value.fields["field"]
    assert (False, True) == tuple(
        load(folder("plain"), prepacking=False).describe()[name] for name in ("prepacking", "arena")
    )
