"""The bundled model under ``llmos eval``: what its card says, on a small part of it, and how likely given texts are."""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from llmos import Client, Model
from llmos_evaluation import Suite, evaluate, read_suite
from llmos_kernel.api import Done, Task
from tests.workspace import ROOT

TINY = ROOT / "plugins" / "tiny"
EVERY = 60
"""One record in so many is run."""
AGREEING = 0.95
"""Share of the marks that must be those of the results: another processor may round another way."""


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program that measures the card's figures."""
    monkeypatch.syspath_prepend(TINY / "train")
    return importlib.import_module("card")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Client]:
    """A client without the developer's settings."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with Client() as found:
        yield found


def sample(suite: Suite) -> tuple[Suite, list[int]]:
    """Return a small part of *suite*, and the place of each of its records in its group."""
    places: Counter[str] = Counter()
    chosen = []
    for case in suite.cases:
        if places[case.group] % EVERY == 0:
            chosen.append((case, places[case.group]))
        places[case.group] += 1
    return attrs.evolve(suite, cases=tuple(case for case, _ in chosen)), [place for _, place in chosen]


@pytest.mark.parametrize("name", ["tasks", "stories"])
def test_the_card_says_what_is_so(card: ModuleType, client: Client, tmp_path: Path, name: str) -> None:
    """Records of each test set get the marks that the results have, of which the card's figures are made."""
    kept = json.loads((TINY / "evaluation" / "results.json").read_text("utf-8"))[name]
    suite = read_suite(TINY / "evaluation" / f"{name}.toml")
    part, places = sample(suite)
    with client.load_model("tiny") as model:
        found = evaluate(model, part, tmp_path, extra=card.EXTRA[name])
    marks = [kept["marks"][item.group][place] for item, place in zip(found.items, places, strict=True)]
    given = ["1" if item.scores[card.DECIDES[name]] else "0" for item in found.items]

    assert suite.digest == kept["digest"]
    assert len(kept["marks"]) == len({item.group for item in found.items})
    assert sum(map(str.__eq__, marks, given)) >= AGREEING * len(marks)


def test_perplexity_is_that_of_each_token_by_itself(client: Client, tmp_path: Path) -> None:
    """A bias that makes one token certain, and no grammar, reports the same log probabilities, token by token."""
    begun, goes_on = "The quick brown fox jumps over the lazy dog.", " The dog is happy. 狗很高兴。"
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": begun, "expected": goes_on}) + "\n", "utf-8")
    suite = attrs.evolve(read_suite(tmp_path / "one.jsonl"), metrics=("perplexity",))
    with client.load_model("tiny") as model:
        (item,) = (result := evaluate(model, suite, tmp_path)).items
        found = [*single(client, model, begun, goes_on)]

    assert item.likelihood is not None
    assert len(found) == item.likelihood[1]
    assert sum(found) == pytest.approx(item.likelihood[0], rel=1e-3)
    assert math.exp(-sum(found) / len(found)) == pytest.approx(result.metrics["perplexity"].value, rel=1e-3)
    assert item.answer is None


def single(client: Client, model: Model, begun: str, goes_on: str) -> Iterator[float]:
    """Yield the log probability of each token of *goes_on*, each asked for in a task of its own."""
    manifest = json.loads((TINY / "src" / "llmos_tiny" / "model" / "llmos.json").read_text("utf-8"))
    before = [manifest["tokens"]["bos"], *model.tokenize(begun)]
    for token in model.tokenize(goes_on):
        params = {"max_tokens": 1, "logprobs": 0, "logit_bias": {token: 100.0}, "temperature": 0.0}
        with client.process.schedule(Task("generate", model.name, before, params=params)) as task:
            done = client.process.recv(task).body
        assert isinstance(done, Done)
        assert (token,) == done.tokens
        yield done.logprobs[0]["logprob"]
        before.append(token)
