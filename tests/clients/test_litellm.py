"""LiteLLM, unchanged, against the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.server.tests.serving import Site, serving
from tests.workspace import python

SCRIPT = Path(__file__).with_name("asking_litellm.py")
SETTINGS = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""Without it LiteLLM fetches a table of prices from elsewhere while it loads."""


@pytest.fixture(scope="module")
def echo() -> Iterator[Site]:
    """A server whose model repeats what it is told."""
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, tiny: str, echo: Site) -> Any:
    """What the script was told."""
    folder = tmp_path_factory.mktemp("litellm")
    done = python(SCRIPT.read_text("utf-8"), tiny, f"{echo.url}/v1", cwd=folder, settings=SETTINGS)

    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_conversation(told: Any) -> None:
    """The answer, why it ended, and what it used; its asynchronous client is answered as well."""
    assert told["text"]
    assert ("length", 8, 4) == (told["finish"], told["tokens"], told["later"])


def test_a_stream(told: Any) -> None:
    """The pieces are the answer that came whole."""
    assert 1 < len(told["stream"]["texts"])
    assert told["text"] == "".join(told["stream"]["texts"])
    assert 8 == told["stream"]["tokens"]


def test_structured_output(told: Any) -> None:
    """The answer is of the schema."""
    assert {"sky", "warm"} == set(told["structured"])
    assert told["structured"]["sky"] in ("clear", "grey")
    assert isinstance(told["structured"]["warm"], bool)


@pytest.mark.parametrize("way", ["called", "streamed call"])
def test_tools(told: Any, way: str) -> None:
    """What has the form of a call is one."""
    assert ["weather", {"city": "Oslo"}, "tool_calls"] == told[way]


def test_embeddings(told: Any, echo: Site) -> None:
    """The same numbers as OpenAI's own client has."""
    theirs = echo.openai.embeddings.create(model="echo", input=["one two", "three"])

    assert [row.embedding for row in theirs.data] == told["embeddings"]


def test_a_model_that_is_not_there(told: Any) -> None:
    """The server's refusal is the exception that LiteLLM has for it."""
    assert "there is no model 'absent'" in told["refusal"]
