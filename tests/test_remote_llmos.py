"""Another llmos as the far end of the backend ``openai``: what one says over HTTP, the other hears."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmos import Client, KeyRing, Secret
from llmos.testing import EchoBackend, FirstComePlugin, Gate
from llmos_kernel import Kernel, KernelConfig, ModelSpec
from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_remote.openai import OpenAIBackend
from plugins.server.tests.serving import PATIENCE, Site, serving

KINDS = ("chat", "generate", "embed")


@contextmanager
def near(site: Site, **options: Any) -> Iterator[Client]:
    """Give a client of a kernel whose model ``far`` is the site's."""
    given = {"base_url": f"{site.url}/v1", "model": "echo", **options}
    spec = ModelSpec(name="far", backend="openai", kinds=KINDS, options=given)
    config, plugins = KernelConfig(models=(spec,), timeout=PATIENCE), (("openai", OpenAIBackend({})), FirstComePlugin())
    with Kernel(config, plugins=plugins) as kernel, Client(kernel=kernel) as client:
        yield client


def test_answers() -> None:
    """Chats, texts by either route, streams and vectors arrive as they were, with their ends and their usage."""
    with serving() as site, near(site) as client, near(site, text="completions") as other:
        far = client.load_model("far")
        answer = far.chat("one two three", max_tokens=2)
        assert (answer, answer.finish) == ("one two", "length")
        assert answer.value["usage"]["generated"] == 2
        assert list(far.stream("one two three")) == ["one", " two", " three"]
        assert other.load_model("far").generate_text("one two three") == "one two three"
        assert list(far.embed("one two")) == [2.0, 7.0]


def test_parameters() -> None:
    """What only llmos takes is told by ``extra``, the rest as OpenAI is told it; logprobs come back as they were."""
    with serving() as site, near(site, extra=["top_k", "min_p"]) as client:
        answer = client.load_model("far").chat(
            "one two three", top_k=3, min_p=0.1, temperature=0.5, seed=7, stop="three", logprobs=1
        )
        (task,) = site.echo.executors[0].tasks

    assert answer == "one two"
    assert [one["token"] for one in answer.logprobs] == ["one", " two"]
    told = {"top_k": 3, "min_p": 0.1, "temperature": 0.5, "seed": 7}
    assert told == {name: task.params[name] for name in told}


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the far llmos refuses is refused here: its caller's errors as such, unknown models and keys by name."""
    ring = KeyRing(tmp_path)
    shown, _ = ring.create("ann", tenant="acme", now=time.time(), lifetime=3600)
    monkeypatch.setenv("FAR_KEY", shown)
    key = {"api_key": Secret(env="FAR_KEY")}
    with serving(ring=ring, local="keys") as site:
        with near(site) as client, pytest.raises(ModelUnavailable, match="401"):
            client.load_model("far").chat("one")
        with near(site, **key, model="none") as client, pytest.raises(ModelUnavailable, match="none"):
            client.load_model("far").chat("one")
        with near(site, **key) as client:
            with pytest.raises(InvalidArgument, match="context"):
                client.load_model("far").chat("one", max_tokens=10**6)
            assert client.load_model("far").chat("one") == "one"


def test_cancelled_there_too() -> None:
    """A stream that is closed here ends the task there."""
    gate = Gate()
    gate.shut()
    with serving(echo=EchoBackend(gate=gate)) as site, near(site) as client:
        with client.load_model("far").stream("one two three"):
            gate.wait_for_visitor(PATIENCE)

        assert gate.wait_until_left(PATIENCE)
