"""OpenAI's package for JavaScript, unchanged, against the server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.server.tests.serving import Site, serving

PACKAGE = "openai@^6.49.0"
"""Version 6, from the first that these tests were seen to pass with."""
SCRIPT = Path(__file__).with_name("openai.mjs")
PATIENCE = 240.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm put the package: what ``LLMOS_NODE_CLIENTS`` names, or a folder of this run."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node with npm on this machine")
    given = os.environ.get("LLMOS_NODE_CLIENTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("node")
    folder.mkdir(parents=True, exist_ok=True)
    npm = [str(shutil.which("npm")), "install", "--prefix", str(folder), "--no-audit", "--no-fund", PACKAGE]
    done = subprocess.run(npm, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def echo() -> Iterator[Site]:
    """A server whose model repeats what it is told."""
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def told(folder: Path, tiny: str, echo: Site) -> Any:
    """What the script was told; it lies beside the package, because node looks there for what a module imports."""
    script = shutil.copy(SCRIPT, folder / SCRIPT.name)
    node = [str(shutil.which("node")), str(script), tiny, f"{echo.url}/v1"]
    done = subprocess.run(node, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_conversation(told: Any) -> None:
    """The answer, why it ended, and what it used."""
    assert told["conversation"]["text"]
    assert ("length", 8) == (told["conversation"]["finish"], told["conversation"]["usage"]["completion_tokens"])


def test_a_stream(told: Any) -> None:
    """The pieces are the answer that came whole."""
    assert 1 < len(told["stream"]["texts"])
    assert told["conversation"]["text"] == "".join(told["stream"]["texts"])
    assert told["conversation"]["usage"]["total_tokens"] == told["stream"]["usage"]["total_tokens"]


def test_structured_output(told: Any) -> None:
    """The answer is of the schema."""
    assert {"sky", "warm"} == set(told["structured"])
    assert told["structured"]["sky"] in ("clear", "grey")
    assert isinstance(told["structured"]["warm"], bool)


def test_tools(told: Any, echo: Site) -> None:
    """The package's loop runs the function and tells the model what came of it; a stream has the call as well."""
    assert {"last": "rain in Oslo", "asked": ["Oslo"]} == told["tools"]
    assert {"name": "weather", "given": {"city": "Oslo"}, "finish": "tool_calls"} == told["streamedTools"]
    assert "rain in Oslo" in [task.input[-1]["content"] for task in echo.echo.executors[0].tasks if task.kind == "chat"]


def test_embeddings(told: Any, echo: Site) -> None:
    """The same numbers as OpenAI's client for Python has."""
    theirs = echo.openai.embeddings.create(model="echo", input=["one two", "three"])

    assert [row.embedding for row in theirs.data] == told["embeddings"]


def test_responses(told: Any) -> None:
    """The newer of OpenAI's APIs is answered as well."""
    assert "one two" == told["responses"]


def test_a_model_that_is_not_there(told: Any) -> None:
    """The server's refusal is the error that the package has for it."""
    assert told["refusal"]["known"]
    assert "there is no model 'absent'" in told["refusal"]["message"]
