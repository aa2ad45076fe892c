"""Models elsewhere by name alone: well-known names where there is a key, and any name after its maker's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import anthropic.types
import openai.types
import openai.types.shared
import pytest

from llmos import AsyncClient, Client, Secret
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig
from llmos_kernel.errors import ModelUnavailable, NotFound
from llmos_remote.anthropic import AnthropicBackend
from llmos_remote.backend import RemoteBackend
from llmos_remote.gemini import GeminiBackend
from llmos_remote.openai import OpenAIBackend
from plugins.remote.tests.far_end import FarEnd, far_end
from plugins.remote.tests.test_openai import ANSWER

LIST = json.loads((files("llmos_remote") / "elsewhere.json").read_text("utf-8"))
BACKENDS: list[type[RemoteBackend]] = [OpenAIBackend, AnthropicBackend, GeminiBackend]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FarEnd]:
    """A far end, and an environment without keys."""
    for backend in BACKENDS:
        for name in backend.variables:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MINE", "sk-1")
    with far_end() as server:
        server.always = ANSWER
        yield server


def kernel(server: FarEnd, *, key: bool = True, **config: Any) -> Kernel:
    """Return a kernel whose OpenAI is *server*, with or without a key; its own model has the names of the seeds."""
    options = {"base_url": server.url, **({"api_key": Secret(env="MINE")} if key else {})}
    given = {"plugins": ("llmos-remote",), "models": (echo_spec(),), **config}
    settings = KernelConfig(options={"backend:openai": options}, **given)
    return Kernel(settings, plugins=(EchoBackend(), FirstComePlugin()))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("gpt-4o", "gpt-4o"), ("gpt-3", "gpt-3.5-turbo"), ("openai:gpt-4o", "gpt-4o"), ("openai:a:b/c", "a:b/c")],
)
def test_with_a_key(server: FarEnd, name: str, theirs: str) -> None:
    """Well-known names, their aliases, and any name after its maker's, are asked for as the far end calls them."""
    with kernel(server) as running, Client(kernel=running) as client:
        assert client.load_model(name).chat("Count") == "One two three"
        assert client.load_model(name).chat("Count") == "One two three"

    assert [one.body["model"] for one in server.asked] == [theirs] * 2


def test_folders_come_first(server: FarEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model folder here that is called like a model elsewhere is the one that is meant."""
    (tmp_path / "gpt-4o").mkdir()
    (tmp_path / "gpt-4o" / "llmos.json").write_text("{}", "utf-8")
    monkeypatch.chdir(tmp_path)
    with kernel(server) as running, Client(kernel=running) as client, pytest.raises(ModelUnavailable, match="broken"):
        client.load_model("gpt-4o")


async def test_in_a_loop(server: FarEnd) -> None:
    """The asynchronous client takes them as well."""
    with kernel(server) as running:
        async with AsyncClient(kernel=running) as client:
            model = await client.load_model("gpt-4o")
            assert await model.chat("Count") == "One two three"


def test_nobody_is_asked_unnamed(server: FarEnd) -> None:
    """Before it is named, no model elsewhere is listed: a router would choose it."""
    with kernel(server) as running, Client(kernel=running) as client:
        assert "gpt-4o" not in [model.name for model in client.models()]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("gpt-4o", {"key": False}), ("gpt-4o", {"plugins": ()}), ("openai:gpt-4o", {"blocked": ("openai",)}),
        ("gpt-unheard-of", {}), ("nobody:gpt-4o", {}), ("openai:", {}),
    ],
)  # fmt: skip
def test_not_found(server: FarEnd, name: str, config: dict[str, Any]) -> None:
    """Without a key, without leave and without being known, a name is nobody's."""
    with kernel(server, **config) as running, Client(kernel=running) as client, pytest.raises(NotFound):
        client.load_model(name)


def test_settings_win(server: FarEnd) -> None:
    """A model or an alias of the settings keeps its name, key or not."""
    for config in ({"models": (echo_spec(aliases=("gpt-3",)),)}, {"aliases": {"gpt-3": "echo"}}):
        with kernel(server, **config) as running, Client(kernel=running) as client:
            assert client.load_model("gpt-3").generate_text("one two") == "one two"

    assert server.asked == []


def test_says_so_once(server: FarEnd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alias that leaves this machine is told of, once."""
    monkeypatch.setattr("llmos._elsewhere._noted", set())
    with caplog.at_level(logging.WARNING, "llmos"), kernel(server) as running, Client(kernel=running) as client:
        for name in ("gpt-3", "gpt-3", "gpt-4o"):
            client.load_model(name)

    assert [True] == ["texts leave this machine" in record.getMessage() for record in caplog.records]


def test_list_says_what_the_backends_say() -> None:
    """Makers, their variables and their kinds are those of the backends, and every model has one of them."""
    told = {name: (tuple(one["variables"]), frozenset(one["kinds"])) for name, one in LIST["backends"].items()}

    assert told == {backend.name: (backend.variables, backend.kinds) for backend in BACKENDS}
    for model in LIST["models"]:
        assert set(model["kinds"]) <= told[model["backend"]][1]
    names = [name for model in LIST["models"] for name in (model["name"], *model.get("aliases", ()))]
    assert sorted(set(names)) == sorted(names)


def test_list_is_of_names_that_the_makers_use() -> None:
    """The makers' own clients know the names, where they list any."""
    known = {
        "openai": {*get_args(openai.types.shared.ChatModel), *get_args(openai.types.EmbeddingModel)},
        "anthropic": {name for one in get_args(anthropic.types.Model) for name in get_args(one)},
    }

    assert [] == [
        model["name"] for model in LIST["models"] if model["name"] not in known.get(model["backend"], {model["name"]})
    ]
