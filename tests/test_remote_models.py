"""A model that runs elsewhere does what others do: tasks of files, and evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from llmos import Client, TaskFile
from llmos_evaluation import evaluate, read_suite
from llmos_kernel.errors import InvalidArgument
from llmos_remote.openai import OpenAIBackend
from plugins.remote.tests.far_end import far_end
from plugins.remote.tests.serving import client_of, spec_of
from plugins.remote.tests.test_openai import ANSWER

SUITE = [{"messages": "Count", "expected": "One two three"}, {"messages": "Sing", "expected": "La"}]


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of a model at a far end, which answers everything with three words."""
    with far_end() as server:
        server.always = ANSWER
        with client_of(OpenAIBackend({}), spec_of(server)) as found:
            yield found


def test_a_task_of_a_file_answers_text(client: Client) -> None:
    """What the far end says besides, its id and the cost, is not taken for the answer."""
    answer = client.run(TaskFile(type="chat", model="far"), "Count")

    assert "One two three" == answer.value
    assert 3 == answer.text.value["usage"]["generated"]


def test_evaluation(client: Client, tmp_path: Path) -> None:
    """Answers are scored as any model's, and the tokens are those that the far end has counted."""
    (tmp_path / "count.jsonl").write_text("".join(json.dumps(record) + "\n" for record in SUITE))
    suite = read_suite(tmp_path / "count.jsonl")
    with client.load_model("far") as model:
        result = evaluate(model, suite, tmp_path)
        with pytest.raises(InvalidArgument, match="perplexity of far cannot be measured"):
            evaluate(model, attrs.evolve(suite, metrics=("perplexity",)), tmp_path)

    assert (50.0, 0) == (result.metrics["exact"].value, result.failed)
    assert [3, 3] == [item.usage["generated"] for item in result.items]
    assert result.metrics["total-time"].value > 0
